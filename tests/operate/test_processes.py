"""Processes beside the worker answer probes and Prometheus: the mirror, the embed-worker."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import urllib.request
from pathlib import Path

import asyncpg
import pytest

from atlas.local.postgres import free_port
from tests.doubles.webhook import Receiver, receiver
from tests.support.core import ROOT, Database, Workers, ask, clean_environment, ended, until
from tests.support.mirror import SECRET

COMMANDS = {
    "mirror": ("ATLAS_HTTP_PORT", "mirror", ("mirror",)),
    "embed-worker": ("RAG_HTTP_PORT", "rag", ("rag", "worker")),
    "service": ("RAG_HTTP_PORT", "rag", ("rag", "serve")),
}
"""The setting of the port, what it says it is, and the command."""


def get(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


@pytest.mark.parametrize("name", sorted(COMMANDS))
async def test_it_says_that_it_lives_and_what_it_measures(database: Database, name: str, tmp_path: Path) -> None:
    setting, component, words = COMMANDS[name]
    port = free_port()
    env = clean_environment() | {"DATABASE_URL": database.url(), setting: str(port)}
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "atlas.cli", *words], env=env, stdout=file, stderr=file, cwd=ROOT)
    try:

        async def lives() -> bool:
            assert process.poll() is None, log.read_text()
            return await asyncio.to_thread(get, port, "/livez") == "ok"

        await until(lives, 30, "it lives")

        async def looked() -> bool:
            text = await asyncio.to_thread(get, port, "/metrics")
            return "atlas_loop_lag_seconds_count " in text and "atlas_loop_lag_seconds_count 0.0" not in text

        await until(looked, 10, "its loop was looked at")
        text = get(port, "/metrics")
        assert f'atlas_info{{component="{component}"' in text
        assert 'atlas_pool_connections{state="idle"}' in text
        assert "atlas_workers" not in text, "a mirror that says 0 workers would alarm"
        process.terminate()
        assert process.wait(20) == 0, log.read_text()
    finally:
        process.kill()
        process.wait(10)


async def test_a_mirror_that_runs_alone_sees_the_outbox(
    database: Database, workers: Workers, db: asyncpg.Connection, tmp_path: Path
) -> None:
    port = free_port()
    async with receiver(Receiver(answer=lambda _got: (503, {}))) as hook:
        await db.execute(
            "insert into atlas.destination (name, kind, target, secret_name) values ('hook', 'webhook', $1, 'ATLAS_WEBHOOK_SECRET')",
            hook.url,
        )
        await workers.start(atlas_mirror="false")
        await ended(db, await ask(db))
        env = clean_environment() | {
            "DATABASE_URL": database.url("atlas_worker"), "ATLAS_HTTP_PORT": str(port), "ATLAS_WEBHOOK_SECRET": SECRET,
            "ATLAS_WEBHOOK_ALLOW": "127.0.0.1/32",
        }  # fmt: skip
        process = subprocess.Popen([sys.executable, "-m", "atlas.cli", "mirror"], env=env, cwd=ROOT, stderr=subprocess.DEVNULL)
        try:

            async def seen() -> bool:
                return 'atlas_outbox_pending{destination="hook"} 2.0' in await asyncio.to_thread(get, port, "/metrics")

            await until(seen, 30, "the backlog of the destination is seen")
        finally:
            process.kill()
            process.wait(10)
