"""Debian's Postgres 15: it has plpgsql_check, and compiles plans (JIT), as Supabase's does; the embedded one can do neither."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from atlas.database import migrate
from atlas.local.postgres import Cluster, EmbeddedPostgres
from tests.support.core import ROOT


@asynccontextmanager
async def postgres_15(home: Path) -> AsyncIterator[Cluster]:
    """A server of its own with all migrations. Skips the test where Debian's packages cannot be had."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip("Debian's packages cannot be reached here; CI runs on Debian")
    found = subprocess.run(
        [ROOT / "scripts/postgres15", ROOT / "tests/.postgres15"], capture_output=True, text=True, check=False
    )
    if found.returncode == 3:
        pytest.skip(f"{found.stderr.strip()}; CI has them")
    assert found.returncode == 0, found.stderr
    server = EmbeddedPostgres(home, Path(found.stdout.strip()))
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
