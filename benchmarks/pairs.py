"""python -m benchmarks.pairs --base REF: this working tree against a commit, in turns on one server.

Each measurement has a fresh database, migrated by the code that is measured, and a process of its own. The ratios count, pair by
pair: the machine's speed drifts, and both of a pair drift together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from atlas.database import migrate
from atlas.local.stack import Stack

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one run: tasks a second; CPU milliseconds of Postgres and of Python a task; WAL bytes a task, pages that are logged whole after
    a checkpoint among them. The inserts are in all of them."""

    rate: float
    postgres_ms: float
    python_ms: float
    wal_bytes: float


def postgres_seconds(postmaster: int) -> float:
    """CPU of a server: its processes, and those that ended."""
    process = psutil.Process(postmaster)
    own = process.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in process.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return float(total)


async def once(
    admin_url: str, url: str, worker_url: str, postmaster: int, tasks: int, concurrency: int, history: int, whole: bool
) -> Figures:
    """One measurement, by the code that this process imports."""
    from benchmarks import atlas_load

    admin = await asyncpg.connect(admin_url)
    await migrate.provide_supabase(admin)
    operator = await asyncpg.connect(url)
    await migrate.migrate(operator)
    await migrate.seed(operator)
    await operator.close()
    if history:
        await atlas_load.rate(url, worker_url, history, 64)
        await admin.execute("vacuum analyze")
    await admin.execute("checkpoint")
    before = await admin.fetchval("select pg_current_wal_lsn()")
    server, own = postgres_seconds(postmaster), resource.getrusage(resource.RUSAGE_SELF)
    rate = await (atlas_load.whole if whole else atlas_load.rate)(url, worker_url, tasks, concurrency)
    used = resource.getrusage(resource.RUSAGE_SELF)
    python = used.ru_utime + used.ru_stime - own.ru_utime - own.ru_stime
    figures = Figures(
        rate=rate,
        postgres_ms=1000 * (postgres_seconds(postmaster) - server) / tasks,
        python_ms=1000 * python / tasks,
        wal_bytes=float(await admin.fetchval("select pg_current_wal_lsn() - $1::pg_lsn", before)) / tasks,
    )
    await admin.close()
    return figures


def own_loop() -> Callable[[Coroutine[Any, Any, Figures]], Figures]:
    """How the code that is measured runs its loop."""
    try:
        from atlas.loop import run
    except ModuleNotFoundError:
        return asyncio.run
    return run


async def compare(base: str, rounds: int, tasks: int, concurrency: int, history: int, whole: bool) -> None:
    """Measures both in turns, and prints a table."""
    from benchmarks.versus import by_code_of, checked_out, table  # here: the commit that is measured may not have it

    with tempfile.TemporaryDirectory() as folder, checked_out(base, Path(folder)) as other:
        stack = Stack(Path(folder) / "stack")
        pairs: list[tuple[Figures, Figures]] = []
        try:
            cluster = stack.start_postgres()
            await stack.prepare(cluster)
            postmaster = int((cluster.home / "postgres" / "postmaster.pid").read_text().splitlines()[0])
            for number in range(rounds):
                # who goes first changes: what the server remembers of the one before favours nobody
                order = [other, ROOT] if number % 2 else [ROOT, other]
                words = (postmaster, tasks, concurrency, history, int(whole))
                found = {one: Figures(**await by_code_of(one, cluster, __file__, *words)) for one in order}
                pairs.append((found[other], found[ROOT]))
                sys.stderr.write(f"round {number + 1}: {found[other].rate:.0f}/s, {found[ROOT].rate:.0f}/s\n")
        finally:
            stack.postgres.stop("immediate")
    print(
        f"{tasks} tasks at {concurrency} after {history} others, {rounds} pairs, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n"
    )
    print(table(base, pairs))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pairs", description=__doc__)
    parser.add_argument("--base", default="HEAD", help="the commit that it is compared with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--history", type=int, default=0, help="tasks that are finished before the clock starts")
    parser.add_argument("--whole", action="store_true", help="with searches, and replies of 8 KB in 200 deltas")
    parser.add_argument("--one", nargs=8, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        admin, url, worker, postmaster, *counts = given.one
        tasks, concurrency, history, whole = (int(count) for count in counts)
        print(
            json.dumps(asdict(own_loop()(once(admin, url, worker, int(postmaster), tasks, concurrency, history, bool(whole)))))
        )
    else:
        asyncio.run(compare(given.base, given.rounds, given.tasks, given.concurrency, given.history, given.whole))


if __name__ == "__main__":
    main()
