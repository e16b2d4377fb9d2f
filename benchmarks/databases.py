"""Databases of their own for measurements."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from atlas.database import migrate
from atlas.database.pool import CONNECTION_LOST, set_codecs
from atlas.local.postgres import Cluster
from atlas.local.stack import Stack
from tests.support.core import drop_database

AWAY = (*CONNECTION_LOST, asyncpg.PostgresError, TimeoutError)
"""What says that Postgres is in trouble, or out of reach."""


@asynccontextmanager
async def migrated() -> AsyncIterator[Cluster]:
    """An embedded server with Atlas's migrations, for as long as it is measured."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="atlas-bench-") as folder:
        stack = Stack(Path(folder) / "stack")
        cluster = stack.start_postgres()
        try:
            await stack.prepare(cluster)
            operator = await asyncpg.connect(cluster.url())
            await set_codecs(operator)
            await migrate.migrate(operator)
            await operator.close()
            yield cluster
        finally:
            stack.postgres.stop("immediate")


@dataclass
class Bench:
    """A server, and a fresh database for each measurement."""

    cluster: Cluster
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[tuple[str, str, asyncpg.Connection]]:
        """URLs of an operator and of a worker, and an operator's connection."""
        name = f"bench_{next(self.numbers)}"
        admin = await asyncpg.connect(self.cluster.url("supabase_admin"))
        await admin.execute(f"create database {name} owner postgres")
        inside = await asyncpg.connect(self.cluster.url("supabase_admin", name))
        await migrate.provide_supabase(inside)
        await inside.close()
        db = await asyncpg.connect(self.cluster.url("postgres", name))
        await migrate.migrate(db)
        await migrate.seed(db)
        await set_codecs(db)
        await db.execute("select atlas.set_budget('global', '{\"daily\": null}')")
        try:
            yield self.cluster.url("postgres", name), self.cluster.url("atlas_worker", name), db
        finally:
            await db.close()
            await drop_database(admin, name)
            await admin.close()
