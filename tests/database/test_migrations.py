"""Migrations: by `atlas migrate` and by the real Supabase CLI, so that either can go on after the other."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator

import asyncpg
import pytest

from atlas import migrate
from atlas.local.postgres import Cluster
from tests.support import ROOT, Database

CLI = ROOT / "tests/node_modules/.bin/supabase"


@pytest.fixture
async def empty(cluster: Cluster) -> AsyncIterator[Database]:
    """A database with what Supabase provides, and nothing of Atlas."""
    admin = await asyncpg.connect(cluster.url("supabase_admin"))
    await admin.execute("create database empty owner postgres")
    inside = await asyncpg.connect(cluster.url("supabase_admin", "empty"))
    await migrate.provide_supabase(inside)
    assert not await migrate.provide_supabase(inside), "what is there already is left alone"
    await inside.close()
    try:
        yield Database(cluster=cluster, name="empty")
    finally:
        await admin.execute("drop database empty with (force)")
        await admin.close()


async def supabase(database: Database, *words: str) -> str:
    """Output of the CLI against a database."""
    assert CLI.exists(), "the Supabase CLI is missing: scripts/test installs it"

    def run() -> subprocess.CompletedProcess[str]:
        command = [str(CLI), *words, f"--remote={database.url()}?sslmode=disable"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)

    done = await asyncio.to_thread(run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "does not recognize" not in done.stderr, "an unknown key of config.toml"
    return done.stdout + done.stderr


async def test_the_cli_applies_all_of_it_and_atlas_finds_nothing_left(empty: Database) -> None:
    await supabase(empty, "db", "push", "--yes", "--include-seed")
    async with empty.connect() as db:
        assert await migrate.pending(db) == []
        assert await migrate.migrate(db) == []
        assert await db.fetchval("select count(*) from atlas.model") == 7


async def test_the_cli_goes_on_where_atlas_stopped(empty: Database) -> None:
    last = migrate.read_migrations()[-1].version
    async with empty.connect() as db:
        applied = await migrate.migrate(db)
        await db.execute("delete from supabase_migrations.schema_migrations where version = $1", last)
        assert len(applied) == len(migrate.read_migrations())
    assert last in await supabase(empty, "migration", "list")
    assert f"Applying migration {last}" in await supabase(empty, "db", "push", "--yes")


async def test_two_migrators_at_once_apply_each_migration_once(empty: Database) -> None:
    async def one() -> int:
        async with empty.connect() as db:
            return len(await migrate.migrate(db))

    assert sorted(await asyncio.gather(one(), one())) == [0, len(migrate.read_migrations())]


async def test_migrations_run_as_a_role_that_is_no_superuser(empty: Database) -> None:
    async with empty.connect() as db:
        assert not await db.fetchval("select rolsuper from pg_roles where rolname = current_user")
        await migrate.migrate(db)
        owners = await db.fetch(
            "select distinct pg_get_userbyid(proowner) as o from pg_proc where pronamespace = 'atlas'::regnamespace"
        )
        assert [row["o"] for row in owners] == ["postgres"]
