"""The port of wake-ups: each source says that there may be work, and goes on until it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from atlas.supabase.channel import Patience
from atlas.supabase.tokens import KeyTokens
from atlas.wake_ups.listen import ListenWakeUps
from atlas.wake_ups.port import WakeUps
from atlas.wake_ups.realtime import RealtimeWakeUps
from atlas.wake_ups.sweep import SweepWakeUps
from tests.support.core import Database, ask, stand_in_of, until


@asynccontextmanager
async def sweep(database: Database) -> AsyncIterator[WakeUps]:
    yield SweepWakeUps(shortest=0.05, longest=0.1)


@asynccontextmanager
async def listen(database: Database) -> AsyncIterator[WakeUps]:
    yield ListenWakeUps(database.url("atlas_worker"))


@asynccontextmanager
async def realtime(database: Database) -> AsyncIterator[WakeUps]:
    async with stand_in_of(database) as stand_in:
        yield RealtimeWakeUps(stand_in.url, KeyTokens(stand_in.keys.service_role), patience=Patience(look=0.02))


@pytest.mark.parametrize("source", [sweep, listen, realtime])
async def test_an_insert_is_announced(source: type, database: Database, db: asyncpg.Connection) -> None:
    woken: list[str] = []
    # an idle worker is there: LISTEN hears of inserts only then
    worker = await db.fetchval("select gen_random_uuid()")
    await db.execute("select atlas.register_worker($1, 'w', '1', 1)", worker)
    await db.execute("select atlas.mark_worker($1, 'idle')", worker)
    async with source(database) as found:
        assert found.name
        job = asyncio.create_task(found.run(lambda name, _cancel: woken.append(name)))
        try:

            async def came() -> bool:
                if not woken or not woken[-1].startswith(("listen", "realtime", "sweep")) or woken[-1].endswith("join"):
                    await ask(db)
                    await asyncio.sleep(0.05)
                return any(not name.endswith("join") for name in woken)

            await until(came, 20, f"{found.name} announces an insert")
            assert not job.done()
        finally:
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
