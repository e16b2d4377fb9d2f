"""`ask` and `tail`: what is said while a task waits and runs, one clean document, exit codes, Ctrl-C, a worker that dies."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from atlas.commands.following import standing
from atlas.ids import short_id
from tests.doubles.openai import OpenAIDouble, usage
from tests.support.core import ADR, Database, Json, Workers, clean_environment, ended, run_atlas, until

BROKEN = "# A draft without its sections\n"


@pytest.fixture
def env(database: Database) -> dict[str, str]:
    return {"DATABASE_URL": database.url(), "COLUMNS": "100"}


@pytest.fixture
def settings(openai: OpenAIDouble) -> Json:
    return {"openai_api_key": "test", "openai_base_url": openai.url, "openai_fallback_models": "none"}


def following(env: dict[str, str], *words: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "atlas.cli", *words], env=clean_environment() | env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip


async def test_a_pipe_gets_the_final_document_alone(
    workers: Workers, openai: OpenAIDouble, settings: Json, env: dict[str, str]
) -> None:
    openai.plan(text=ADR)
    openai.plan(text=BROKEN, times=1)
    await workers.start(**settings)
    done = await asyncio.to_thread(run_atlas, "ask", "How?", env=env)
    assert (done.returncode, done.stdout) == (0, ADR), done.stderr
    last = done.stderr.splitlines()[-1].split(" · ")
    assert last[:3] == ["gpt-4.1", "200 tokens in, 100 out", "$0.0012"], "the repair is in it"
    assert (await asyncio.to_thread(run_atlas, "tail", env=env)).stdout == ADR


async def test_stream_shows_what_a_repair_replaces(
    workers: Workers, openai: OpenAIDouble, settings: Json, env: dict[str, str]
) -> None:
    openai.plan(text=ADR, delay=0.05)
    openai.plan(text=BROKEN * 3, times=1, delay=0.2)
    await workers.start(**settings)
    done = await asyncio.to_thread(run_atlas, "ask", "How?", "--stream", env=env)
    assert done.stdout.startswith(BROKEN)
    assert done.stdout.endswith(ADR)
    assert "the reply begins anew" in done.stderr


@pytest.mark.parametrize(
    ("plan", "code", "word"),
    [({"text": "# Half\n\n## Status\n", "status": "incomplete", "usage": usage(900, 4000)}, 8, "truncated"),
     ({"text": "I cannot help with that.", "refusal": True}, 9, "refused")],
)  # fmt: skip
async def test_how_a_reply_ended_is_its_exit_code(
    workers: Workers, openai: OpenAIDouble, settings: Json, env: dict[str, str], plan: Json, code: int, word: str
) -> None:
    openai.plan(**plan)
    await workers.start(**settings, token_budget_per_run=5200)
    done = await asyncio.to_thread(run_atlas, "ask", "How?", env=env)
    assert done.returncode == code, done.stderr
    assert done.stdout.strip() == plan["text"].strip()
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("gpt-4.1 · ")]
    assert word in line.split(" · ")
    assert (await asyncio.to_thread(run_atlas, "tail", "last", "--json", env=env)).returncode == code


async def test_ctrl_c_leaves_a_task_that_goes_on(
    workers: Workers, openai: OpenAIDouble, settings: Json, env: dict[str, str], db: asyncpg.Connection
) -> None:
    openai.plan(text=ADR, delay=0.1)
    await workers.start(**settings)
    process = following(env, "ask", "How?")
    await until(lambda: db.fetchval("select count(*) > 0 from atlas.reply_part"), 20, "it is written")
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.to_thread(process.communicate, timeout=30)
    (task,) = await db.fetch("select id from atlas.task")
    short = short_id(task["id"])
    assert (process.returncode, out) == (130, "")
    assert f"task {short} goes on: `atlas tail {short}` follows it, `atlas cancel {short}` cancels it" in err
    assert (await ended(db, task["id"]))["state"] == "completed"


async def test_ctrl_c_twice_cancels(
    workers: Workers, openai: OpenAIDouble, settings: Json, env: dict[str, str], db: asyncpg.Connection
) -> None:
    openai.plan(text=ADR, delay=0.3)
    await workers.start(**settings)
    process = following(env, "ask", "How?")
    await until(lambda: db.fetchval("select count(*) > 0 from atlas.reply_part"), 20, "it is written")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "goes on" not in (line := await asyncio.to_thread(process.stderr.readline)):
        assert line
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == 130
    assert "was told to stop" in err
    (task,) = await db.fetch("select id from atlas.task")
    assert (await ended(db, task["id"]))["state"] == "cancelled"


async def test_why_a_task_waits_is_said_with_what_to_do(env: dict[str, str], db: asyncpg.Connection) -> None:
    process = following(env, "ask", "How?")
    assert process.stderr is not None

    async def says(words: str) -> None:
        async with asyncio.timeout(20):
            while words not in (line := await asyncio.to_thread(process.stderr.readline)):  # type: ignore[union-attr]
                assert line, f"it never said {words!r}"

    try:
        await says("queued, and no worker is alive: `atlas up` starts one here")
        await db.execute("select atlas.register_worker(gen_random_uuid(), 'w', '1', 1)")
        await says("queued, 1st in turn")
        await db.execute("select atlas.pause('moving house')")
        await says("the queue is paused (moving house): it waits until an operator says `atlas resume`")
        await db.execute("select atlas.resume()")
        await db.execute(
            "update atlas.task set wait_reason = 'settled_budget', run_after = now() + interval '1 hour', error_message = 'global: 250000'"
        )
        await says("the budget is spent: global: 250000; it waits until 20")
    finally:
        process.kill()
        process.communicate()


STATE: Json = {
    "state": "queued",
    "wait_reason": None,
    "run_after": None,
    "error_message": None,
    "model": None,
    "expected_at": None,
}
PROGRESS: Json = {
    "place": 1,
    "paused_at": None,
    "pause_reason": None,
    "workers": 1,
    "characters": 0,
    "usd": 0,
    "reserved_usd": 0,
}


@pytest.mark.parametrize(
    ("state", "progress", "expected"),
    [({}, {"place": 2}, "queued, 2nd in turn"), ({}, {"place": 13}, "queued, 13th in turn"), ({}, {"place": None}, "queued"),
     ({"wait_reason": "upstream", "error_message": "401 Incorrect API key", "error_code": "invalid_api_key"}, {},
      "the provider refuses the key: 401 Incorrect API key; `atlas keys set openai` stores another, and `atlas up` starts the worker with it"),
     ({"wait_reason": "upstream", "error_message": "HTTP 500"}, {}, "the provider is in trouble: HTTP 500; asked again"),
     ({"wait_reason": "reserved_budget"}, {}, "waits for room in the budget: calls that run have reserved it"),
     ({"state": "running", "model": "o3"}, {"characters": 400, "usd": "0.01", "reserved_usd": "0.2"},
      "o3, about 100 tokens so far, $0.0100 spent, at most $0.2000 more"),
     ({"state": "running"}, {}, "looking for what the team knows")],
)  # fmt: skip
def test_where_a_task_stands(state: Json, progress: Json, expected: str) -> None:
    assert standing(STATE | state, PROGRESS | progress) == expected


async def test_a_terminal_shows_one_line_that_lives_and_then_the_document(
    workers: Workers, openai: OpenAIDouble, settings: Json, env: dict[str, str]
) -> None:
    openai.plan(text=ADR, delay=0.2)
    await workers.start(**settings)

    def in_terminal() -> str:
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "atlas.cli", "ask", "How?"], env=clean_environment() | env | {"TERM": "xterm", "LINES": "24"},
            stdin=slave, stdout=slave, stderr=slave,
        )  # fmt: skip
        os.close(slave)
        found = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            found += part
        process.wait(30)
        return found.decode().replace("\r\n", "\n")

    shown = await asyncio.to_thread(in_terminal)
    assert "gpt-4.1, about " in shown
    assert "tokens so far" in shown
    assert "at most $" in shown
    # what was drawn is erased; the document stands there once, and then the line with what it cost
    assert f"\x1b[2K{ADR}" in shown
    assert "claims: 1 inferred, 1 assumed\ngpt-4.1 · 100 tokens in, 50 out · " in shown


def test_a_worker_that_dies_is_not_waited_for(tmp_path: Path) -> None:
    env = {
        "ATLAS_HOME": str(tmp_path / "home"),
        "ATLAS_HTTP_PORT": "0",
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    }
    try:
        up = json.loads(run_atlas("up", "--json", env=env).stdout)
        asked = run_atlas("ask", "-d", "How?", env=env).stdout.strip()
        process = following(env, "tail", asked)
        assert process.stderr is not None
        assert process.stderr.readline(), "it says why it waits"
        psutil.Process(up["worker_pid"]).kill()
        _, err = process.communicate(timeout=30)
        assert process.returncode == 3
        assert "the worker has died; its last words: " in err
        assert "INFO" in err or "WARNING" in err, "lines of its log"
        assert "the task waits: `atlas up` starts a worker" in err
    finally:
        run_atlas("down", env=env)
