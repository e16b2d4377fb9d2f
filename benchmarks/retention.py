"""`python -m benchmarks.retention`: what a retention costs: trimming half of all finished tasks, batch by batch, and finding none left.

--finished 1000000 takes half an hour, most of it to make the tasks by the calls that a worker makes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import asyncpg

from atlas.database.pool import set_codecs
from atlas.local.stack import Stack
from benchmarks.growth import fill
from benchmarks.versus import in_database

BATCH = 200
"""As workers ask for."""
AGED = (
    "update atlas.task set queued_at = queued_at - interval '400 days', finished_at = finished_at - interval '400 days' "
    "where id in (select id from atlas.task order by id limit $1)"
)


async def trim(worker: asyncpg.Connection, admin: asyncpg.Connection) -> tuple[list[float], int, int]:
    """Seconds of each batch, tasks trimmed, and bytes of WAL."""
    times: list[float] = []
    trimmed = 0
    begin = await admin.fetchval("select pg_current_wal_insert_lsn()")
    while True:
        began = time.monotonic()
        found = await worker.fetchrow("select * from atlas.trim_history($1)", BATCH)
        if not found["tasks"] and not found["texts"] and not found["parts"]:
            return times, trimmed, await admin.fetchval("select pg_current_wal_insert_lsn() - $1::pg_lsn", begin)
        times.append(time.monotonic() - began)
        trimmed += found["tasks"]


async def run(finished: int) -> None:
    """Fills, trims, and prints a table."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="atlas-bench-") as folder:
        stack = Stack(Path(folder))
        try:
            cluster = stack.start_postgres()
            await stack.prepare(cluster)
            async with in_database(cluster) as database:
                await fill(cluster, database, finished)
                admin = await asyncpg.connect(cluster.url("supabase_admin", database))
                await admin.execute(AGED, finished // 2)
                await admin.execute("vacuum analyze")
                operator = await asyncpg.connect(cluster.url("postgres", database))
                await operator.execute("select atlas.set_retention(interval '365 days', null)")
                worker = await asyncpg.connect(cluster.url("atlas_worker", database))
                await set_codecs(worker)
                began = time.monotonic()
                times, trimmed, wal = await trim(worker, admin)
                seconds = time.monotonic() - began
                idle = []
                for _ in range(50):
                    began = time.monotonic()
                    await worker.fetchrow("select * from atlas.trim_history($1)", BATCH)
                    idle.append(time.monotonic() - began)
                wrong = await admin.fetchval(
                    "select (select count(*) from atlas.verify_audit()) + (select count(*) from atlas.check_ledger())"
                )
                for connection in (admin, operator, worker):
                    await connection.close()
        finally:
            stack.postgres.stop("immediate")
    print(f"{trimmed:,} of {finished:,} finished tasks trimmed, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    print(
        "| tasks a second | ms a batch (median) | ms a batch (longest) | KB of WAL a task | ms where nothing is due | books and audit |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    print(
        f"| {trimmed / seconds:,.0f} | {statistics.median(times) * 1000:.0f} | {max(times) * 1000:.0f} | {int(wal) / max(trimmed, 1) / 1000:.1f} "
        f"| {statistics.median(idle) * 1000:.1f} | {wrong} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retention", description=__doc__)
    parser.add_argument("--finished", type=int, default=40_000)
    asyncio.run(run(parser.parse_args().finished))


if __name__ == "__main__":
    main()
