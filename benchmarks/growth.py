"""python -m benchmarks.growth: what finished tasks cost those that come after, in one database that is filled once and an empty one,
in turns.

Both are measured from a checkpoint on, after which Postgres logs each page whole that it touches first; so a run should be long.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from atlas.database import migrate
from atlas.database.pool import set_codecs
from atlas.local.postgres import Cluster
from atlas.local.stack import Stack
from benchmarks import pairs
from benchmarks.atlas_load import insert
from benchmarks.life import Life
from benchmarks.versus import by_code_of, in_database, table

ROOT = Path(__file__).parent.parent
AT_ONCE = 10_000


async def fill(cluster: Cluster, database: str, tasks: int) -> None:
    """So many tasks from their question to their reply, by the calls that a worker makes; two connections."""
    admin = await asyncpg.connect(cluster.url("supabase_admin", database))
    await migrate.provide_supabase(admin)
    operator = await asyncpg.connect(cluster.url("postgres", database))
    await migrate.migrate(operator)
    await migrate.seed(operator)
    await set_codecs(operator)
    workers = [await asyncpg.connect(cluster.url("atlas_worker", database)) for _ in range(2)]
    for worker in workers:
        await set_codecs(worker)
        await worker.execute("set plan_cache_mode = force_generic_plan")

    async def drain(worker: asyncpg.Connection, watcher: asyncpg.Connection) -> None:
        life = Life(worker, watcher)
        while await life.run(100):
            pass

    watchers = [await asyncpg.connect(cluster.url("supabase_admin", database)) for _ in workers]
    began = time.monotonic()
    for done in range(0, tasks, AT_ONCE):
        await insert(operator, min(AT_ONCE, tasks - done), senders=1000)
        await asyncio.gather(*(drain(worker, watcher) for worker, watcher in zip(workers, watchers, strict=True)))
        if done % 50_000 == 0:
            sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {done + AT_ONCE:,} finished in {time.monotonic() - began:.0f} s\n")
    await admin.execute("vacuum analyze")
    await _until_quiet(admin)
    for connection in (admin, operator, *workers, *watchers):
        await connection.close()


async def _until_quiet(admin: asyncpg.Connection) -> None:
    """Waits, ten minutes at most, until autovacuum has been idle for a while: what a quick fill leaves behind is not what is measured."""
    idle = 0
    for _ in range(600):
        busy = await admin.fetchval("select count(*) from pg_stat_activity where backend_type = 'autovacuum worker'")
        idle = 0 if busy else idle + 1
        if idle >= 90:  # autovacuum looks every minute
            return
        await asyncio.sleep(1)


async def run(finished: int, tasks: int, rounds: int, concurrency: int) -> None:
    """Fills, measures in turns, and prints a table."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder))
        try:
            cluster = stack.start_postgres()
            await stack.prepare(cluster)
            postmaster = int((cluster.home / "postgres" / "postmaster.pid").read_text().splitlines()[0])
            found = []
            async with in_database(cluster) as filled:
                await fill(cluster, filled, finished)
                words = (postmaster, tasks, concurrency, 0, 0)
                for number in range(rounds):
                    one: dict[str, pairs.Figures] = {}
                    for name in ("empty", "filled") if number % 2 else ("filled", "empty"):
                        database = filled if name == "filled" else None
                        one[name] = pairs.Figures(**await by_code_of(ROOT, cluster, pairs.__file__, *words, database=database))
                    found.append((one["empty"], one["filled"]))
                    sys.stderr.write(
                        f"round {number + 1}: {one['empty'].rate:.0f}/s empty, {one['filled'].rate:.0f}/s filled\n"
                    )
        finally:
            stack.postgres.stop("immediate")
    print(
        f"{tasks:,} tasks at {concurrency} after {finished:,} finished ones, {rounds} pairs, load {os.getloadavg()[0]:.1f}, "
        f"{os.cpu_count()} cores\n"
    )
    print(table("an empty database", found, f"with {finished:,} finished"))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--concurrency", type=int, default=32)
    given = parser.parse_args()
    asyncio.run(run(given.finished, given.tasks, given.rounds, given.concurrency))


if __name__ == "__main__":
    main()
