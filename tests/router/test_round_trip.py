"""A whole stack: a worker with its mirror, and the functions; questions from GitHub and Slack, exports, notifications."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from pathlib import Path
from urllib.parse import urlencode

import asyncpg
import httpx

from tests.doubles.github import github
from tests.doubles.openai import OpenAIDouble
from tests.doubles.slack import slack
from tests.support.core import ADR, Database, Workers, run_atlas, until
from tests.support.router import HOOK_SECRET, SIGNING, Function, app_key, comment, function, github_delivery, router_env


async def slash(to: Function, text: str, trigger: str) -> httpx.Response:
    """A slash command as Slack signs it."""
    body = urlencode(
        {"command": "/atlas", "text": text, "team_id": "T1", "channel_id": "C1", "user_id": "U1", "trigger_id": trigger}
    )
    stamp = str(int(time.time()))
    signature = "v0=" + hmac.new(SIGNING.encode(), f"v0:{stamp}:{body}".encode(), hashlib.sha256).hexdigest()
    headers = {
        "content-type": "application/x-www-form-urlencoded", "x-slack-request-timestamp": stamp, "x-slack-signature": signature,
    }  # fmt: skip
    async with httpx.AsyncClient(timeout=10) as web:
        return await web.post(to.url, content=body, headers=headers)


async def test_questions_come_in_and_everything_goes_back(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble, tmp_path: Path
) -> None:
    openai.plan(text=ADR)
    async with github(app_key()[1]) as hub, slack() as chat:
        env = router_env(database.url(), hub.url, chat.url)
        async with (
            function("github-webhook", tmp_path, **env) as stand_in,
            function("slack", tmp_path, **env) as room,
            function("deliver", tmp_path, **env) as deliver,
        ):
            operator = {"DATABASE_URL": database.url()}
            early = await asyncio.to_thread(run_atlas, "export", "--pr", env=operator)
            assert "there is no task yet" in early.stderr
            await db.execute(
                "insert into atlas.destination (name, kind, target, secret_name, filter) values "
                "('deliver', 'webhook', $1, 'ATLAS_WEBHOOK_SECRET', $2)",
                deliver.url, {"kind": ["message", "progress", "export", "notification"]},
            )  # fmt: skip
            await workers.start(
                openai_api_key="k",
                openai_base_url=openai.url,
                atlas_webhook_secret=HOOK_SECRET,
                atlas_webhook_allow="127.0.0.1",
            )

            # what cannot be done is said, once
            for _ in range(2):
                early_wish = comment("/atlas pr", number=9, comment_id=90)
                assert (await github_delivery(stand_in, "issue_comment", early_wish)).status_code == 200
            assert hub.bodies(9) == ["Nothing was answered here yet: ask with `/atlas` and a question first."]

            # GitHub: a question, its answer, and what is made of it
            assert (await github_delivery(stand_in, "issue_comment", comment("/atlas How?", comment_id=1))).status_code == 202
            await until(lambda: _is(any(body.startswith("# Ship") for body in hub.bodies())), 30, "the answer")
            for delivery in ("d", "d", "e"):
                answer = await github_delivery(stand_in, "issue_comment", comment("/atlas pr", comment_id=2), delivery)
                assert answer.status_code == 202, answer.text
            await until(lambda: _is(len(hub.bodies()) == 2), 30, "what became of the pull request")
            assert len(hub.pulls) == 1
            done = await asyncio.to_thread(run_atlas, "export", "last", "--issues", env=operator)
            (issue,) = hub.issues.values()
            assert issue["html_url"] in done.stdout, done.stderr
            elsewhere = await asyncio.to_thread(run_atlas, "export", "last", "--pr", "--repo", "o/r", "--json", env=operator)
            found = json.loads(elsewhere.stdout)
            assert (found["state"], found["urls"]) == ("sent", [pull["html_url"] for pull in hub.pulls.values()])
            assert (await asyncio.to_thread(run_atlas, "export", "last", env=operator)).stdout.startswith("# Ship")
            wrong = await asyncio.to_thread(run_atlas, "export", "last", "--pr", "--repo", "../etc", env=operator)
            assert (wrong.returncode, "is not a repository" in wrong.stderr) == (4, True)
            # a follow-up in the same place goes on from the answer
            assert (
                await github_delivery(stand_in, "issue_comment", comment("/atlas And why?", comment_id=3))
            ).status_code == 202
            assert await db.fetchval("select count(*) from atlas.task where parent_id is not null") == 1

            # Slack: the thread that a slash command begins
            assert "Atlas is on it" in (await slash(room, "Which queue?", "1.2")).text

            async def answered() -> bool:
                return any("*Ship with a pipeline*" in text for thread in list(chat.messages) for text in chat.texts(thread))

            await until(answered, 30, "the answer in the thread")
            (root,) = [
                message for message in chat.messages.values() if "thread_ts" not in message and message["channel"] == "C1"
            ]
            assert root["blocks"][0]["text"]["text"] == "*Question:* Which queue?"

            # people are told that specs were completed, in the channel for it
            await until(lambda: _is(any("specs completed" in text for text in chat.texts())), 30, "a notification")
            assert [m["channel"] for m in chat.messages.values() if "specs completed" in m["text"]] == ["CNOTIFY"]
    assert await db.fetchval("select count(*) from atlas.outbox where state = 'dead'") == 0


async def _is(value: bool) -> bool:
    return value
