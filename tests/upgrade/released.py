"""The last release, as its users have it: the wheel of 0.4.0, and a database that it made.

`atlas_0.4.0.sql.gz` was written by `ATLAS_WRITE_RELEASE=1 pytest tests/upgrade/test_fixture.py`, with the wheel's own worker: what
is in it is said there. Both are kept as they are.
"""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from atlas.local.postgres import Cluster, default_binaries
from tests.support.core import Database, clean_environment, drop_database

HERE = Path(__file__).parent
WHEEL = HERE / "atlas_architect-0.4.0-py3-none-any.whl"
DUMP = HERE / "atlas_0.4.0.sql.gz"
VERSION = "0.4.0"


def unpacked(folder: Path) -> Path:
    """The release's package, in a folder of its own."""
    with zipfile.ZipFile(WHEEL) as wheel:
        wheel.extractall(folder / "released")
    return folder / "released"


def released_migrations() -> dict[str, bytes]:
    """The migrations of the release, by name."""
    with zipfile.ZipFile(WHEEL) as wheel:
        names = [name for name in wheel.namelist() if name.startswith("atlas/_migrations/") and name.endswith(".sql")]
        return {name.rpartition("/")[2]: wheel.read(name) for name in names}


def atlas(package: Path, *words: str, env: dict[str, str]) -> str:
    """The release's own command line."""
    done = subprocess.run(
        [sys.executable, "-m", "atlas.cli", *words], env=clean_environment() | env | {"PYTHONPATH": str(package)}, cwd=package,
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def dump(database: Database) -> bytes:
    """A backup: the whole database, as pg_dump writes it."""
    return subprocess.run(
        [str(default_binaries() / "pg_dump"), database.url("supabase_admin")], capture_output=True, check=True
    ).stdout


@asynccontextmanager
async def restored(cluster: Cluster, name: str, dumped: bytes) -> AsyncIterator[Database]:
    """A backup, restored into a new database of a cluster that has the roles."""
    admin = await asyncpg.connect(cluster.url("supabase_admin"))
    await admin.execute(f"create database {name} template template0 owner postgres")
    database = Database(cluster=cluster, name=name)
    try:
        command = [str(default_binaries() / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", database.url("supabase_admin")]
        done = await asyncio.to_thread(subprocess.run, command, input=dumped, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        yield database
    finally:
        await drop_database(admin, name)
        await admin.close()


@asynccontextmanager
async def released_database(cluster: Cluster, name: str) -> AsyncIterator[Database]:
    """The kept database of the release."""
    async with restored(cluster, name, gzip.decompress(DUMP.read_bytes())) as database:
        yield database
