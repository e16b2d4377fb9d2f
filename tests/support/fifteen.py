"""Debian's Postgres 15: it has plpgsql_check, and compiles plans (JIT), as Supabase's does; the embedded one can do neither."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from atlas.database import migrate
from atlas.local.postgres import Cluster, EmbeddedPostgres
from tests.support.core import ROOT
from tests.support.debian import debian


@asynccontextmanager
async def postgres_15(home: Path) -> AsyncIterator[Cluster]:
    """A server of its own with all migrations. Skips the test where Debian's packages cannot be had."""
    binaries = debian("postgres15", ROOT / "tests/.postgres15")
    server = EmbeddedPostgres(home, binaries)
    cluster = server.start()
    try:
        admin = await asyncpg.connect(cluster.url("supabase_admin"))
        await migrate.provide_supabase(admin)
        await admin.execute("alter role postgres password 'x'")
        await admin.close()
        db = await asyncpg.connect(cluster.url().replace(cluster.postgres_password, "x"))
        await migrate.migrate(db)
        await migrate.seed(db)
        await db.close()
        yield cluster
    finally:
        server.stop("immediate")
