"""The edge functions under Deno itself: checked as strictly as ours, and tested handler by handler on a real Postgres."""

from __future__ import annotations

import asyncio
import re
import tomllib

import pytest

from tests.doubles.github import github
from tests.doubles.slack import slack
from tests.support.core import ROOT, Database
from tests.support.router import FUNCTIONS, app_key, deno, router_env

NAMES = sorted(path.parent.name for path in FUNCTIONS.glob("*/index.ts"))


@pytest.mark.parametrize(
    "words",
    [("install", "--frozen"), ("check", "--frozen", *[f"{name}/index.ts" for name in NAMES]), ("lint",), ("fmt", "--check")],
    ids=lambda words: words[0],
)
def test_they_are_checked_as_strictly_as_ours(words: tuple[str, ...]) -> None:
    done = deno(*words)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_has_its_section_and_a_short_entry() -> None:
    config = tomllib.loads((ROOT / "supabase/config.toml").read_text())["functions"]
    assert sorted(config) == NAMES == ["ask", "deliver", "embed", "github-webhook", "openai-webhook", "pubsub-push", "slack"]
    for name in NAMES:
        section = config[name]
        assert section["verify_jwt"] is False, "each checks its callers itself"
        assert (ROOT / "supabase" / section["entrypoint"]).resolve() == FUNCTIONS / name / "index.ts"
        assert (ROOT / "supabase" / section["import_map"]).resolve() == FUNCTIONS / "deno.json"
        assert len((FUNCTIONS / name / "index.ts").read_text().splitlines()) < 60


def test_only_npm_is_imported_and_by_the_names_of_deno_json() -> None:
    for path in FUNCTIONS.rglob("*.ts"):
        for found in re.findall(r'from "([^"]+)"', path.read_text()):
            assert found.startswith(("./", "../", "node:")) or found in ("jose", "postgres", "standardwebhooks"), (path, found)


async def test_handlers_on_a_real_postgres(database: Database) -> None:
    async with github(app_key()[1]) as hub, slack() as chat:
        env = router_env(database.url(), hub.url, chat.url) | {
            "WEBHOOK_EXAMPLES": str(ROOT / "tests/node_modules/@octokit/webhooks-examples"),
        }
        done = await asyncio.to_thread(
            deno, "test", "--frozen", "--allow-net=127.0.0.1", "--allow-env", "--allow-read", "_tests", env=env
        )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout
    assert int(passed[1]) >= 30
