"""A mirror in this process, and what it sent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from atlas.database.pool import Pool
from atlas.metrics.mirror import MirrorMetrics
from atlas.mirror.mirror import Mirror
from atlas.rotation import CurrentSettings
from atlas.service import mirror_of
from atlas.tracing.port import Untraced
from atlas.variables import load
from tests.doubles.pubsub import pubsub
from tests.support.core import Database, until

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


REAL = os.environ.get("ATLAS_TEST_PUBSUB")


@asynccontextmanager
async def mirroring(database: Database, **settings: str) -> AsyncIterator[tuple[Mirror, MirrorMetrics]]:
    """A mirror in this process, as the role that workers have."""
    env = {"ATLAS_WEBHOOK_SECRET": SECRET, "ATLAS_WEBHOOK_ALLOW": "127.0.0.1/32", "ATLAS_LEASE_SECONDS": "4"} | settings
    metrics = MirrorMetrics()
    async with Pool.connect(database.url("atlas_worker")) as bus:
        mirror = mirror_of(CurrentSettings(load(env)), bus, metrics, Untraced())
        mirror._look_every = 0.1
        job = asyncio.create_task(mirror.run())
        try:
            yield mirror, metrics
        finally:
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)


async def sent(db: asyncpg.Connection, count: int, seconds: float = 30) -> None:
    async def look() -> bool:
        return bool(await db.fetchval("select count(*) from atlas.outbox where state = 'sent'") >= count)

    await until(look, seconds, f"{count} rows are sent")


@asynccontextmanager
async def emulator() -> AsyncIterator[str]:
    """The address of Google's emulator, or of our double."""
    async with AsyncExitStack() as stack:
        yield REAL or (await stack.enter_async_context(pubsub())).host
