"""Applies migrations/ the way the Supabase CLI does: same table, so that either tool can go on after the other."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from atlas.backoff import jittered
from atlas.errors import StackError
from atlas.shipped import folder

_HISTORY = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
  version text not null primary key, statements text[], name text);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file of migrations/: `<version>_<name>.sql`."""

    version: str
    name: str
    sql: str


def read_migrations() -> list[Migration]:
    """All migrations in order of their version."""
    found = []
    for path in sorted(folder("migrations").glob("*.sql")):
        match = re.fullmatch(r"(\d{14})_(\w+)\.sql", path.name)
        if not match:
            raise StackError(f"{path.name} is not a migration", "name it <14 digits>_<name>.sql")
        found.append(Migration(version=match[1], name=match[2], sql=path.read_text(encoding="utf-8")))
    return found


async def provide_supabase(connection: asyncpg.Connection) -> bool:
    """Adds what Supabase has and plain Postgres lacks; does nothing (False) where all of it is there."""
    missing = await connection.fetchval(
        """select to_regprocedure('auth.uid()') is null or to_regprocedure('realtime.send(jsonb,text,text,boolean)')
           is null or to_regrole('service_role') is null or to_regrole('authenticated') is null
           or to_regclass('auth.users') is null"""
    )
    if not missing:
        return False
    if await connection.fetchval("select to_regrole('supabase_auth_admin') is not null"):
        raise StackError(
            "this is Supabase's own Postgres, and functions of its Auth or Realtime are not there yet", "wait until both are up"
        )
    async with connection.transaction():
        await connection.execute((Path(__file__).parent / "provide_supabase.sql").read_text(encoding="utf-8"))
    return True


PREDATES = "20261101000100"
"""The first migration of Atlas before 0.4, whose schema no later migration builds on."""


async def refuse_older(connection: asyncpg.Connection) -> None:
    """Raises StackError for a database of Atlas before 0.4."""
    if await connection.fetchval("select to_regclass('supabase_migrations.schema_migrations')") is None:
        return
    if await connection.fetchval(
        "select exists (select from supabase_migrations.schema_migrations where version = $1)", PREDATES
    ):
        raise StackError(
            "this database was made by Atlas before 0.4, and cannot be migrated",
            "make a new one: `atlas down --erase` for the embedded one, `supabase db reset` for Supabase's",
        )


async def pending(connection: asyncpg.Connection) -> list[Migration]:
    """Migrations that the database does not have yet. Changes nothing."""
    if await connection.fetchval("select to_regclass('supabase_migrations.schema_migrations')") is None:
        return read_migrations()
    rows = await connection.fetch("select version from supabase_migrations.schema_migrations")
    applied = {row["version"] for row in rows}
    return [migration for migration in read_migrations() if migration.version not in applied]


async def unknown_versions(connection: asyncpg.Connection, project: Path) -> list[str]:
    """Versions in the database's history that are neither ours nor in the project's own supabase/migrations."""
    if await connection.fetchval("select to_regclass('supabase_migrations.schema_migrations')") is None:
        return []
    rows = await connection.fetch("select version from supabase_migrations.schema_migrations order by version")
    known = {migration.version for migration in read_migrations()}
    known |= {path.name.split("_")[0] for path in (project / "supabase" / "migrations").glob("*.sql")}
    return [row["version"] for row in rows if row["version"] not in known]


LOCK_SECONDS = 0.8
"""The longest wait of a migration for a lock: while it waits, everyone who comes after it waits too. Less than the second after
which Postgres looks for a deadlock: where there is one, the migration gives way, and no worker."""


async def migrate(connection: asyncpg.Connection, *, patience: float = 120.0) -> list[Migration]:
    """Applies what is pending, each in a transaction, one caller at a time; answers what it applied.

    patience: seconds for which a migration that did not get its locks is retried. Raises StackError.
    """
    await connection.execute("select pg_advisory_lock(hashtextextended('atlas.migrate', 0))")
    try:
        await refuse_older(connection)
        await connection.execute(_HISTORY)
        todo = await pending(connection)
        for migration in todo:
            await _apply(connection, migration, time.monotonic() + patience)
        # a copy that was restored in another server
        await connection.execute("select atlas.continue_audit()")
        return todo
    finally:
        await connection.execute("select pg_advisory_unlock(hashtextextended('atlas.migrate', 0))")


async def _apply(connection: asyncpg.Connection, migration: Migration, end: float) -> None:
    name = f"{migration.version}_{migration.name}"
    while True:
        try:
            async with connection.transaction():
                await connection.execute(f"set local lock_timeout = {int(LOCK_SECONDS * 1000)}")
                await connection.execute(migration.sql)
                await connection.execute(
                    "insert into supabase_migrations.schema_migrations (version, name, statements) values ($1, $2, $3)",
                    migration.version, migration.name, [migration.sql],
                )  # fmt: skip
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if time.monotonic() > end:
                raise StackError(
                    f"migration {name} did not get its locks: {await _longest(connection)}; it changed nothing",
                    "end that transaction (pg_terminate_backend), and run `atlas migrate` again",
                ) from error
            await asyncio.sleep(jittered(1.0))
        except asyncpg.PostgresError as error:
            raise StackError(
                f"migration {name} failed ({error}); it changed nothing", "fix what it names, and run `atlas migrate` again"
            ) from error
        else:
            return


async def _longest(connection: asyncpg.Connection) -> str:
    """The oldest transaction in this database except ours: most likely who holds the lock."""
    row = await connection.fetchrow(
        "select pid, usename, application_name, extract(epoch from now() - xact_start)::int as seconds from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null order by xact_start limit 1"
    )
    if row is None:
        return "nobody holds one now"
    who = f"process {row['pid']} ({row['usename']}, {row['application_name'] or 'no name'})"
    return f"{who} has a transaction of {row['seconds']} s"


async def seed(connection: asyncpg.Connection) -> None:
    """Applies seed/*.sql: models and prices. Rows that are there already are left alone."""
    for path in sorted(folder("seed").glob("*.sql")):
        async with connection.transaction():
            await connection.execute(path.read_text(encoding="utf-8"))


async def set_password(connection: asyncpg.Connection, role: str, password: str) -> None:
    """Lets processes log in as one of Atlas's roles: atlas_worker, atlas_rag."""
    statement = await connection.fetchval(
        "select format('alter role %I login password %L', $1::text, $2::text)", role, password
    )
    await connection.execute(statement)
