"""Each migration after the release says which tables it locks against readers or writers, and for how long; none rewrites a table
without a word. Run against a database with tasks in it, and compared with the locks that Postgres took."""

from __future__ import annotations

import re

import asyncpg

from atlas.database import migrate
from atlas.database.migrate import Migration
from atlas.local.postgres import Cluster
from tests.upgrade.released import released_database, released_migrations

STRONG = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")
"""Modes that keep a worker's inserts and updates waiting, or its reads."""

RELATIONS = (
    "select c.oid, n.nspname || '.' || c.relname as name, c.relfilenode from pg_class c join pg_namespace n on n.oid = c.relnamespace "
    "where c.relkind in ('r', 'p', 'v', 'm') and n.nspname in ('atlas', 'rag', 'public')"
)


def said(sql: str) -> tuple[set[tuple[str, str]], set[str]]:
    """The locks and the rewrites that the head of a migration names."""
    head = "\n".join(line for line in sql.split("\n\n")[0].splitlines() if line.startswith("--"))
    parts = re.sub(r"\n-- ", " ", head).partition("locks:")[2]
    return set(re.findall(r"(\w+\.\w+) (\w+Lock)\b", parts)), set(re.findall(r"(\w+\.\w+) is rewritten", parts))


async def taken(db: asyncpg.Connection, migration: Migration) -> tuple[set[tuple[str, str]], set[str]]:
    """The locks that it took on what was there before, the strongest of each, and what it wrote anew."""
    before = {row["oid"]: row for row in await db.fetch(RELATIONS)}
    async with db.transaction():
        await db.execute(migration.sql)
        locks = await db.fetch("select relation, mode from pg_locks where pid = pg_backend_pid() and locktype = 'relation'")
        files = {row["oid"]: row["relfilenode"] for row in await db.fetch(RELATIONS)}
    strongest: dict[str, str] = {}
    for row in locks:
        if row["relation"] in before and row["mode"] in STRONG:
            name = before[row["relation"]]["name"]
            strongest[name] = max(strongest.get(name, STRONG[0]), row["mode"], key=STRONG.index)
    return set(strongest.items()), {
        row["name"] for oid, row in before.items() if files.get(oid, row["relfilenode"]) != row["relfilenode"]
    }


async def test_each_migration_says_what_it_locks(cluster: Cluster) -> None:
    later = [one for one in migrate.read_migrations() if f"{one.version}_{one.name}.sql" not in released_migrations()]
    assert later
    async with released_database(cluster, "locks") as database, database.connect() as db:
        for migration in later:
            assert await taken(db, migration) == said(migration.sql), (
                f"{migration.name}: its head says `-- locks: table Mode, …: how long`"
            )


async def test_the_look_sees_a_rewrite_and_a_lock(cluster: Cluster) -> None:
    async with released_database(cluster, "locks") as database, database.connect() as db:
        sql = "-- It.\n--\n-- locks: nothing\n\nalter table atlas.post alter column part type varchar(200);"
        assert said(sql) == (set(), set())
        locks, rewritten = await taken(
            db,
            Migration(version="20990101000000", name="x", sql="alter table atlas.inbound add x uuid default gen_random_uuid()"),
        )
        assert locks == {("atlas.inbound", "AccessExclusiveLock")}
        assert rewritten == {"atlas.inbound"}
