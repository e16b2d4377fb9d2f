"""What docs/routers.md and docs/errors.md say of the router is true."""

from __future__ import annotations

import json
import re

import asyncpg

from tests.support.core import ROOT, run_atlas
from tests.support.router import FUNCTIONS

ROUTERS = (ROOT / "docs/routers.md").read_text()
ERRORS = (ROOT / "docs/errors.md").read_text()
SOURCES = {path: path.read_text() for path in FUNCTIONS.rglob("*.ts") if "_tests" not in path.parts}


async def test_its_sql_runs(db: asyncpg.Connection) -> None:
    statements = re.findall(r"```sql\n(.*?)```", ROUTERS, re.DOTALL)
    assert len(statements) == 2
    for statement in statements:
        await db.execute(statement)
    assert await db.fetchval("select count(*) from atlas.destination where enabled") == 2


def test_its_commands_exist() -> None:
    for words in (("mirror",), ("mirror", "replay"), ("dlq", "skip"), ("dlq", "retry"), ("export",)):
        assert run_atlas(*words, "--help", env={}).returncode == 0, words
        assert "atlas " + " ".join(words) in ROUTERS, words


def test_every_code_of_the_functions_stands_in_the_table_of_errors() -> None:
    found = {code for text in SOURCES.values() for code in re.findall(r'UserError\(\s*\d+,\s*"(\w+)"', text)}
    found |= {code for text in SOURCES.values() for code in re.findall(r'(?:problem\(\d+, |\? \[409, |: \[503, )"(\w+)"', text)}
    assert {"signature", "upstream", "busy", "refused", "internal"} <= found
    assert [code for code in sorted(found) if f"`{code}`" not in ERRORS] == []


def test_every_setting_of_the_functions_stands_in_their_readme() -> None:
    readme = (FUNCTIONS / "README.md").read_text()
    names = {name for text in SOURCES.values() for name in re.findall(r'(?:env|secretsOf|needed)\("([A-Z_]+)"', text)}
    assert len(names) > 10
    assert [name for name in sorted(names - {"PORT", "HOST", "SUPABASE_JWT_SECRET"}) if name not in readme] == []


def test_the_apps_ask_for_what_the_code_uses_and_no_more() -> None:
    app = json.loads((FUNCTIONS / "github-webhook/app-manifest.json").read_text())
    handler = SOURCES[FUNCTIONS / "github-webhook/handler.ts"]
    for event in app["default_events"]:
        assert f'"{event}"' in handler, event
    assert app["default_permissions"] == {"metadata": "read", "issues": "write", "pull_requests": "write", "contents": "write"}
    slack = json.loads((FUNCTIONS / "slack/app-manifest.json").read_text())
    assert slack["settings"]["event_subscriptions"]["bot_events"] == ["app_mention"]
    methods = set(re.findall(r'call\(\s*"([a-z]+\.[A-Za-z]+)"', "".join(SOURCES.values())))
    assert methods == {"auth.test", "chat.update", "chat.postMessage", "conversations.history", "conversations.replies"}
    writes, reads = {"chat:write", "chat:write.public"}, {"channels:history", "groups:history", "im:history"}
    assert set(slack["oauth_config"]["scopes"]["bot"]) == writes | reads | {"commands", "app_mentions:read"}
