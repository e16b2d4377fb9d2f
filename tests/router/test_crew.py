"""docs/examples/crew.py: Forge and Sentinel as processes, on the bus of a real Postgres, with a worker that carries the escalation out."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from tests.support.core import ROOT, Database, Workers, ask, clean_environment, ended, until
from tests.support.people import ANN, acting


async def crew(database: Database, folder: Path, role: str, command: str, *options: str) -> str:
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, str(ROOT / "docs/examples/crew.py"), role, "--once", "--run", command, *options], cwd=folder,
        env=clean_environment() | {"DATABASE_URL": database.url()}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


async def send(db: asyncpg.Connection, text: str, parent: Any = None, role: str = "forge") -> None:
    message = {
        "task_id": str(uuid4()),
        "role": role,
        "msg_type": "chat",
        "content": text,
        "metadata": {"parent_id": str(parent) if parent else None},
    }
    await db.execute("insert into public.architect_in (data) values ($1)", message)


async def test_what_forge_builds_and_sentinel_refuses_is_escalated(
    database: Database, db: asyncpg.Connection, workers: Workers, tmp_path: Path
) -> None:
    worker = await workers.start()
    spec = await ask(db, "What do we build?")
    await ended(db, spec)
    await send(db, "one; rm -rf /", spec)
    assert await db.fetchval("select count(*) from atlas.task") == 1, "a message of another role is nobody's task"
    assert "built with exit code 0" in await crew(database, tmp_path, "forge", "cat")
    said = await db.fetchval("select data ->> 'content' from public.architect_in where data ->> 'role' = 'sentinel'")
    assert said == "exit code 0\n\none; rm -rf /", "the text went to standard input, and to no shell"
    assert "passed" in await crew(database, tmp_path, "sentinel", "grep -q 'exit code 0'")
    assert await db.fetchval("select count(*) from atlas.task where kind = 'control'") == 0
    await send(db, "two", spec)
    assert "built with exit code 1" in await crew(database, tmp_path, "forge", "false")
    assert "escalated: exit code 1" in await crew(database, tmp_path, "sentinel", "grep 'exit code 0'")
    done = "select id from atlas.task where kind = 'control' and state = 'completed'"
    control = await until(lambda: db.fetchval(done), 20, "a worker carries the escalation out")
    query = "select o.data ->> 'content' from atlas.task t join public.architect_out o on o.id = t.out_id where t.id = $1"
    assert {"code": "sentinel", "task_id": str(spec)}.items() <= json.loads(await db.fetchval(query, control)).items()
    assert await db.fetchval("select count(*) > 1 from atlas.audit where task_id = $1", control)
    assert worker.metric("atlas_escalations_total") == 1
    for role in ("forge", "sentinel"):
        assert await crew(database, tmp_path, role, "false") == "", "each message once"


async def test_a_message_of_somebody_who_is_not_named_starts_nothing(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    async with acting(database, "authenticated", ANN) as ann:
        await send(ann, "build mine")
        await send(ann, "exit code 0", role="sentinel")
    for role in ("forge", "sentinel"):
        assert await crew(database, tmp_path, role, "touch started") == ""
    assert not (tmp_path / "started").exists()
    assert "built" in await crew(database, tmp_path, "forge", "touch started", "--from", str(ANN))
    assert (tmp_path / "started").exists()


async def test_a_command_that_is_not_there_or_hangs_is_an_outcome(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await send(db, "one")
    assert "built with exit code 127" in await crew(database, tmp_path, "forge", "no-such-command")
    await send(db, "two")
    assert "built with exit code 124" in await crew(database, tmp_path, "forge", "sleep 60", "--timeout", "0.2")
