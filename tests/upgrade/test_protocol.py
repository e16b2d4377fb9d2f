"""A worker and a schema that do not go together: who refuses, and what is said."""

from __future__ import annotations

import asyncio
import subprocess
from uuid import uuid4

import asyncpg
import pytest

from atlas.database.pool import Pool
from atlas.database.protocol import PROTOCOL
from atlas.errors import SchemaMismatch
from tests.support.core import Database, Workers, ask, ended


async def serve(db: asyncpg.Connection, oldest: int, newest: int) -> None:
    """As a migration of another release would."""
    await db.execute(
        "create or replace function atlas.protocols() returns int4range language sql immutable parallel safe "
        f"set search_path = '' as $$ select int4range({oldest}, {newest}, '[]') $$"
    )


@pytest.mark.parametrize(
    ("oldest", "newest", "act"),
    [(PROTOCOL + 1, PROTOCOL + 2, "install a newer Atlas"), (PROTOCOL - 1, PROTOCOL - 1, "run `atlas migrate`")],
)
async def test_a_worker_that_does_not_match_refuses_to_start(
    db: asyncpg.Connection, workers: Workers, oldest: int, newest: int, act: str
) -> None:
    await serve(db, oldest, newest)
    worker = await workers.start(wait=False)
    assert await _ended(worker.process) == 3
    said = worker.log.read_text().strip().splitlines()
    assert len(said) == 1, said
    assert act in said[0]
    assert f"protocol {PROTOCOL}" in said[0]
    assert await db.fetchval("select count(*) from atlas.worker") == 0


async def test_a_database_without_atlas_says_so(database: Database, db: asyncpg.Connection) -> None:
    await db.execute("drop function atlas.protocols()")
    with pytest.raises(SchemaMismatch) as refused:
        async with Pool.connect(database.url("atlas_worker")):
            pass
    assert "run `atlas migrate`" in refused.value.line


async def test_a_function_that_the_schema_does_not_have_names_the_way_out(database: Database) -> None:
    async with Pool.connect(database.url()) as bus:
        with pytest.raises(SchemaMismatch, match="another version of Atlas") as refused:
            await bus.value("select atlas.of_a_later_version()")
    assert "ask `atlas doctor`" in refused.value.line


async def test_a_schema_that_serves_both_takes_both(db: asyncpg.Connection, workers: Workers) -> None:
    await serve(db, PROTOCOL, PROTOCOL + 1)
    await workers.start()
    assert await db.fetchval("select protocol from atlas.worker") == PROTOCOL
    assert (await ended(db, await ask(db)))["state"] == "completed"


async def test_a_migration_that_ends_a_protocol_waits_for_its_workers(db: asyncpg.Connection) -> None:
    await db.execute("select atlas.register_worker($1, 'host-7:1', '0.4.0', 8)", worker := uuid4())
    with pytest.raises(asyncpg.PostgresError, match=r"worker host-7:1 \(version 0.4.0\) still runs") as refused:
        await db.execute("select atlas.require_protocol(2)")
    assert "Upgrade those workers first" in str(refused.value.hint)
    await db.execute("select atlas.require_protocol(1)")
    await db.execute("select atlas.mark_worker($1, 'stopped')", worker)
    await db.execute("select atlas.require_protocol(2)")


async def _ended(process: subprocess.Popen[bytes]) -> int:
    return await asyncio.to_thread(process.wait, 30)
