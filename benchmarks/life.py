"""python -m benchmarks.life --base REF: what a task costs Postgres, stage by stage, in this working tree and in a commit.

One connection takes tasks through their SQL life, in batches: claim, recall, reserve, progress, complete. CPU is that of the backend,
as the kernel's scheduler counts it; no worker runs, and the client's own time is in none of the figures. The order of both changes
from round to round, and the least CPU of a round's kind counts: what another program takes of a machine only adds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from atlas.database import migrate
from atlas.database.pool import set_codecs
from atlas.local.stack import Stack
from atlas.messages import chat

ROOT = Path(__file__).parent.parent
REPLY = (Path(__file__).with_name("reply.md")).read_text(encoding="utf-8")
RECALL = "select * from rag.recall($1, $2, $3)"
RECALL_ONE_BY_ONE = (
    "select r.* from unnest($1::uuid[], $2::text[]) with ordinality as q (task, query, n) "
    "cross join lateral rag.recall(q.task, q.query, $3) r order by q.n"
)
"""As commits before 2026-11-27 had it."""
STAGES = ("submit", "claim", "recall", "reserve", "progress", "complete")


class Life:
    """The calls that a worker makes, without the worker."""

    def __init__(self, db: asyncpg.Connection, watcher: asyncpg.Connection, recall: str = RECALL) -> None:
        self._db = db
        self._watcher = watcher
        self._pid = db.get_server_pid()
        self._recall = recall
        self._worker = uuid4()
        self.cpu: dict[str, float] = defaultdict(float)
        self.wal: dict[str, float] = defaultdict(float)
        self.elapsed: dict[str, float] = defaultdict(float)

    @asynccontextmanager
    async def _stage(self, name: str) -> AsyncIterator[None]:
        wal, cpu, at = await self._watcher.fetchval("select pg_current_wal_insert_lsn()"), self._ran(), time.perf_counter()
        yield
        self.elapsed[name] += time.perf_counter() - at
        self.cpu[name] += self._ran() - cpu
        self.wal[name] += float(await self._watcher.fetchval("select pg_current_wal_insert_lsn() - $1::pg_lsn", wal))

    def _ran(self) -> float:
        """Seconds that the backend has run on a core."""
        return int(Path(f"/proc/{self._pid}/schedstat").read_text().split()[0]) / 1e9

    async def submit(self, count: int, *, senders: int = 1, priority: int = 0) -> None:
        """Questions in one statement, of so many outside senders."""
        message = chat("How do we ship?")
        message["metadata"] = {"priority": priority}
        async with self._stage("submit"):
            await self._db.execute(
                "insert into public.architect_in (data) select $1::jsonb || jsonb_build_object('task_id', atlas.new_id(), 'metadata', "
                "$1::jsonb -> 'metadata' || case when $3 > 1 then jsonb_build_object('sender_key', 'people:' || n % $3) else '{}' end) "
                "from generate_series(1, $2) n", message, count, senders,
            )  # fmt: skip

    async def run(self, batch: int) -> int:
        """One batch from its claim to its end; how many there were."""
        async with self._stage("claim"):
            claimed = await self._db.fetch(
                "select * from atlas.claim_tasks($1, $2, 0, $3)", self._worker, batch, timedelta(seconds=30)
            )
        ids = [str(row["attempt_id"]) for row in claimed]
        async with self._stage("recall"):
            await self._db.fetch(self._recall, [row["task_id"] for row in claimed], ["How do we ship?"] * len(claimed), "life")
        async with self._stage("reserve"):
            answers = await self._db.fetch(
                "select r from atlas.reserve_tokens($1) r",
                [
                    {"attempt_id": attempt, "call": 0, "model": "gpt-6-sol", "input_tokens": 900, "output_tokens": 4000}
                    for attempt in ids
                ],
            )
        if any(row["r"]["outcome"] != "reserved" for row in answers):
            raise RuntimeError(str(answers[0]["r"]))
        async with self._stage("progress"):
            await self._db.fetch(
                "select * from atlas.record_progress($1)",
                [
                    {"attempt_id": attempt, "call": 0, "generation": 0, "response_id": f"resp_{attempt}", "resumable": True,
                     "sequence_number": 0, "offset": 0, "text": "", "model": "gpt-6-sol"}
                    for attempt in ids
                ],
            )  # fmt: skip
        usage = {"input_tokens": 500, "cached_tokens": 0, "output_tokens": 200, "reasoning_tokens": 0, "known": "reported"}
        async with self._stage("complete"):
            done = await self._db.fetch(
                "select c from atlas.complete_tasks($1) c",
                [
                    {"attempt_id": attempt, "content": REPLY, "model": "gpt-6-sol", "usages": {"0": usage},
                     "metadata": {"tokens": 700, "usage": usage, "sources": []}}
                    for attempt in ids
                ],
            )  # fmt: skip
        if len(done) != len(ids):
            raise RuntimeError(f"{len(done)} of {len(ids)} were completed")
        return len(ids)


async def once(admin_url: str, operator_url: str, worker_url: str, *, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """One measurement, by the code that this process imports."""
    admin = await asyncpg.connect(admin_url)
    await migrate.provide_supabase(admin)
    operator = await asyncpg.connect(operator_url)
    await migrate.migrate(operator)
    await migrate.seed(operator)
    await set_codecs(operator)
    worker = await asyncpg.connect(worker_url)
    await set_codecs(worker)
    await worker.execute("set plan_cache_mode = force_generic_plan")
    together = await admin.fetchval("select to_regprocedure('rag.recall(uuid[],text[],text)')")
    recall = RECALL if together else RECALL_ONE_BY_ONE
    sender, life = Life(operator, admin, recall), Life(worker, admin, recall)
    if given.history:
        await sender.submit(given.history)
        for _ in range(-(-given.history // 50)):
            await life.run(50)
        await admin.execute("vacuum analyze")
    if given.backlog:
        await sender.submit(given.backlog, senders=given.senders, priority=-1)
        await admin.execute("analyze")
    await admin.execute("checkpoint")
    # the first of each call plans it
    await sender.submit(2 * given.batch, senders=given.senders)
    for _ in range(2):
        await life.run(given.batch)
    holder = None
    if given.snapshot:
        holder = await asyncpg.connect(operator_url)
        await holder.execute("begin isolation level repeatable read; select count(*) from atlas.task")
    for figures in (sender.cpu, sender.wal, sender.elapsed, life.cpu, life.wal, life.elapsed):
        figures.clear()
    done = 0
    await sender.submit(given.tasks, senders=given.senders)
    while done < given.tasks:
        done += await life.run(min(given.batch, given.tasks - done))
    life.cpu |= sender.cpu
    life.wal |= sender.wal
    life.elapsed |= sender.elapsed
    return {
        name: {
            "cpu_us": 1e6 * life.cpu[name] / done,
            "wal_bytes": life.wal[name] / done,
            "elapsed_us": 1e6 * life.elapsed[name] / done,
        }
        for name in STAGES
    }


async def compare(given: argparse.Namespace) -> None:
    """Measures both in turns, and prints a table."""
    from benchmarks.versus import by_code_of, checked_out  # here: the commit that is measured may not have it

    found: dict[Path, list[dict[str, dict[str, float]]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, checked_out(given.base, Path(folder)) as other:
        stack = Stack(Path(folder) / "stack")
        try:
            cluster = stack.start_postgres()
            await stack.prepare(cluster)
            for number in range(given.rounds):
                for checkout in [other, ROOT] if number % 2 else [ROOT, other]:
                    found[checkout].append(await by_code_of(checkout, cluster, __file__, *sys.argv[1:]))
                sys.stderr.write(f"round {number + 1} of {given.rounds}\n")
        finally:
            stack.postgres.stop("immediate")
    print(
        f"{given.tasks} tasks in batches of {given.batch} after {given.history} others, {given.backlog} queued behind, "
        f"{given.senders} senders, {given.rounds} rounds, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n"
    )
    print(table(given.base, found[other], found[ROOT]))


def table(base: str, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> str:
    """Of each stage the least CPU and WAL of all rounds, and their sum."""
    lines = [
        f"| stage | CPU µs a task, {base} | here | ratio | WAL bytes a task, {base} | here | ratio |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    sums = [0.0] * 4
    for stage in STAGES:
        cells = [min(one[stage][what] for one in runs) for what in ("cpu_us", "wal_bytes") for runs in (before, after)]
        sums = [total + cell for total, cell in zip(sums, cells, strict=True)]
        lines.append(_line(stage, cells))
    return "\n".join([*lines, _line("all", sums)])


def _line(name: str, cells: list[float]) -> str:
    cpu, cpu_here, wal, wal_here = cells
    return (
        f"| {name} | {cpu:.0f} | {cpu_here:.0f} | {cpu_here / max(cpu, 1e-9):.2f} "
        f"| {wal:.0f} | {wal_here:.0f} | {wal_here / max(wal, 1):.2f} |"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.life", description=__doc__)
    parser.add_argument("--base", default="HEAD", help="the commit that it is compared with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--senders", type=int, default=1, help="outside senders that ask in turns; 1: the service role alone")
    parser.add_argument("--backlog", type=int, default=0, help="questions of a lower priority that wait behind")
    parser.add_argument("--history", type=int, default=0, help="tasks that are finished before")
    parser.add_argument("--snapshot", action="store_true", help="a snapshot is held all the while")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(asyncio.run(once(*given.one, given=given))))
    else:
        asyncio.run(compare(given))


if __name__ == "__main__":
    main()
