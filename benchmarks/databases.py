"""A database of its own for a measurement."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from atlas.database import migrate
from atlas.database.pool import set_codecs
from atlas.local.postgres import Cluster
from atlas.local.stack import Stack


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
