"""`python -m benchmarks.soak`: 100,000 tasks in one run, and what grows with them: memory of the workers, connections, dead rows.

With --snapshot somebody holds a snapshot all the while, so that Postgres may not clean up behind: what then grows is Postgres's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack

import asyncpg
import psutil

from atlas.database.pool import set_codecs
from benchmarks.atlas_load import insert
from benchmarks.chaos.arena import Arena, arena
from benchmarks.provider import provider_of

DEPTH = 400
COLUMNS = ("tasks", "tasks/s", "MiB of a worker", "connections", "dead rows", "dead / live", "MiB of tables and indexes")


async def look(run: Arena, db: asyncpg.Connection, since: tuple[float, int]) -> tuple[int, list[str]]:
    """A row of the table."""
    done = await db.fetchval("select count(*) from atlas.task where state = 'completed'")
    memory = max(psutil.Process(process.pid).memory_info().rss for process in run.fleet) / 2**20
    connections = await db.fetchval("select count(*) from pg_stat_activity where usename = 'atlas_worker'")
    dead, live, size = await db.fetchrow(
        "select sum(n_dead_tup), sum(n_live_tup), sum(pg_total_relation_size(relid)) from pg_stat_user_tables where schemaname in ('atlas', 'public', 'rag')"
    )
    rate = (done - since[1]) / (time.monotonic() - since[0])
    return done, [
        f"{done:,}",
        f"{rate:.0f}",
        f"{memory:.0f}",
        str(connections),
        f"{dead:,}",
        f"{dead / max(live, 1):.2f}",
        f"{size / 2**20:.0f}",
    ]


async def soak(tasks: int, snapshot: bool, patience: float) -> tuple[list[list[str]], int]:
    """A row each tenth of the tasks; and how many rows of the books and the audit disagree, or tasks did not complete.

    patience: seconds after which it ends where not one more task does.
    """
    rows: list[list[str]] = []
    async with AsyncExitStack() as stack:
        run = await stack.enter_async_context(arena(1))
        url = await stack.enter_async_context(provider_of(1))
        if snapshot:
            holder = await asyncpg.connect(run.cluster.url())
            await holder.execute("begin isolation level repeatable read; select 1")
        run.start(2, atlas_concurrency=32, openai_base_url=f"{url}/v1", openai_background="off", atlas_lease_seconds=30)
        db = await asyncpg.connect(run.cluster.url(), command_timeout=300)
        await set_codecs(db)
        stack.push_async_callback(db.close)
        asked, since, following = 0, (time.monotonic(), 0), tasks // 10
        last, moved = 0, time.monotonic()
        while True:
            waiting, done = await db.fetchrow("select count(*) filter (where ready), count(*) filter (where state = 'completed') from atlas.task "
                                              "where queued_at > now() - interval '2 minutes'")  # fmt: skip
            if waiting < DEPTH and asked < tasks:
                count = min(DEPTH, tasks - asked)
                await insert(db, count)
                asked += count
            total = await db.fetchval("select count(*) from atlas.audit where event = 'complete_task'") if done or asked else 0
            if total >= following:
                done, row = await look(run, db, since)
                rows.append(row)
                print("  ".join(row), f"load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
                since, following = (time.monotonic(), done), following + tasks // 10
            if total > last:
                last, moved = total, time.monotonic()
            if total >= tasks or time.monotonic() > moved + patience:
                break
            await asyncio.sleep(0.5)
        wrong = await db.fetchval(
            "select (select count(*) from atlas.check_ledger()) + (select count(*) from atlas.verify_audit())"
        )
        print(f"books and audit: {wrong} rows that disagree; {tasks - total} tasks did not complete", file=sys.stderr)
    return rows, wrong + tasks - total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--snapshot", action="store_true", help="somebody holds a snapshot all the while")
    arguments = parser.parse_args()
    rows, wrong = asyncio.run(soak(arguments.tasks, arguments.snapshot, patience=120))
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
