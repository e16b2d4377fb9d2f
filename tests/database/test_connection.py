"""The worker's connection: what is a pause, and what is not."""

from __future__ import annotations

import asyncpg

from atlas.database.pool import Pool
from tests.support.core import Database


async def test_a_protocol_out_of_step_is_a_lost_connection(database: Database) -> None:
    """asyncpg says InternalClientError where a connection is cut in the middle of its handshake, and no more than that."""
    calls = 0

    async def work(connection: asyncpg.Connection) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")
        return int(await connection.fetchval("select 7"))

    async with Pool.connect(database.url("atlas_worker")) as bus:
        assert await bus.call(work) == 7
    assert calls == 2


async def test_old_realtime_messages_are_trimmed_where_nobody_else_does(database: Database, db: asyncpg.Connection) -> None:
    for topic in ("old", "new"):
        await db.execute("select realtime.send('{}', 'e', $1, true)", topic)
    await db.execute(
        "update realtime.messages set inserted_at = now() at time zone 'UTC' - interval '25 hours' where topic = 'old'"
    )
    async with Pool.connect(database.url("atlas_worker")) as bus:
        assert await bus.value("select atlas.trim_messages()") == 1
    assert [row["topic"] for row in await db.fetch("select topic from realtime.messages")] == ["new"]
