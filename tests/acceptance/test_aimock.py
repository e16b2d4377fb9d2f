"""The same stand_in against another's mock of OpenAI: npm's aimock, which streams the Responses API and breaks on demand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.core import ADR, ROOT, Workers, ask, ended, reply, until

MOCK = ROOT / "tests/node_modules/.bin/llmock"
ERROR = {"message": "no", "type": "server_error"}
FIXTURES: list[dict[str, Any]] = [
    {"match": {"userMessage": "slow"}, "response": {"content": ADR}, "chunkSize": 40, "streamingProfile": {"ttft": 100, "tps": 2, "jitter": 0}},
    {"match": {"userMessage": "limited", "sequenceIndex": 0}, "response": {"error": ERROR | {"code": "rate_limit_exceeded"}, "status": 429, "retryAfter": 1}},
    {"match": {"userMessage": "broken", "sequenceIndex": 0}, "response": {"error": ERROR, "status": 500}},
    {"match": {"userMessage": "garbage", "sequenceIndex": 0}, "response": {"content": "x"}, "chaos": {"malformedRate": 1}},
    {"match": {"userMessage": "dropped", "sequenceIndex": 0}, "response": {"content": "x"}, "chaos": {"disconnectRate": 1}},
    {"match": {"userMessage": "cut", "sequenceIndex": 0}, "response": {"content": ADR}, "chunkSize": 20, "latency": 20, "truncateAfterChunks": 9},
    {"match": {"userMessage": "?"}, "response": {"content": ADR, "usage": {"input_tokens": 70, "output_tokens": 30}}},
]  # fmt: skip


@pytest.fixture
def aimock(tmp_path: Path) -> Iterator[str]:
    """A mock of its own, and its URL."""
    node = shutil.which("node")
    assert node, "Node is missing: scripts/test installs it"
    assert MOCK.exists(), "aimock is missing: scripts/test installs it"
    fixtures = tmp_path / "fixtures.json"
    fixtures.write_text(json.dumps({"fixtures": FIXTURES}))
    process = subprocess.Popen(
        [MOCK, "-p", "0", "-f", str(fixtures), "--validate-on-load"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if match := re.search(r"listening on (http://127\.0\.0\.1:\d+)", line):
                yield match[1] + "/v1"
                break
        else:
            pytest.fail(f"aimock did not start: {said}")
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("trouble", ["plain", "limited", "broken", "garbage", "dropped", "cut"])
async def test_whatever_happens_on_the_way_the_reply_arrives_and_the_books_hold(
    workers: Workers, db: asyncpg.Connection, aimock: str, trouble: str
) -> None:
    await workers.start(
        openai_api_key="k", openai_base_url=aimock, openai_fallback_models="gpt-4o-mini", openai_background="off",
        atlas_held_retry_seconds=1, atlas_hold_seconds=3,
    )  # fmt: skip
    task = await ask(db, f"{trouble}?")
    row = await ended(db, task, 40)
    assert row["state"] == "completed"
    message = await reply(db, task)
    assert message["content"] == ADR
    assert message["metadata"]["usage"]["input_tokens"] == 70
    last = await db.fetchrow("select known, tokens from atlas.spend order by id desc limit 1")
    assert dict(last) == {"known": "reported", "tokens": 100}
    await until(lambda: db.fetchval("select sum(reserved_tokens) = 0 from atlas.budget_day"), 20, "all is settled")
    # an error of the provider's own costs nothing; of a call without an answer nobody heard; a stream that was cut, and is not
    # stored, counts in full
    first = await db.fetchrow("select known, tokens, reserved_tokens from atlas.spend order by id limit 1")
    expected = {
        "limited": ("none", 0), "broken": ("none", 0), "plain": ("reported", 100), "garbage": ("presumed_none", 0),
        "dropped": ("presumed_none", 0), "cut": ("unknown", first["reserved_tokens"]),
    }  # fmt: skip
    assert (first["known"], first["tokens"]) == expected[trouble]


async def test_a_reply_streams_while_it_is_written(workers: Workers, db: asyncpg.Connection, aimock: str) -> None:
    worker = await workers.start(openai_api_key="k", openai_base_url=aimock)
    task = await ask(db, "slow one")
    await until(lambda: db.fetchrow("select 1 from atlas.reply_part where task_id = $1", task), 20, "it streams")
    assert await db.fetchval("select state from atlas.task where id = $1", task) == "running"
    assert (await ended(db, task))["state"] == "completed"
    assert await db.fetchval("select count(*) from atlas.reply_part where task_id = $1", task) >= 2
    assert worker.metric("atlas_first_token_seconds_count") == 1
    # usage that nobody reported counts as the worst case
    row = await db.fetchrow("select known, tokens = reserved_tokens as full from atlas.spend")
    assert dict(row) == {"known": "unknown", "full": True}
