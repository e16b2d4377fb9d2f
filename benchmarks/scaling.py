"""python -m benchmarks.scaling: what 10, 100 and 500 tasks a minute need, with replies that stream for 20 s at 40 tokens a second.

Writes docs/benchmarks_scaling.md. The workers are real processes, the provider is another one, Postgres is the embedded one; questions come
at an even pace. CPU and memory are those of the workers and of Postgres alone, over the time in which as many streams run as the load
makes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from atlas.database.pool import set_codecs
from atlas.local.postgres import free_port
from atlas.local.stack import Stack
from atlas.messages import chat
from benchmarks.atlas_load import percentile
from benchmarks.databases import Bench
from benchmarks.pairs import postgres_seconds
from benchmarks.provider import process, provider_of

ROOT = Path(__file__).parent.parent
STREAM = 20
"""Seconds that a reply streams."""
A_SECOND = 40
LOADS = {10: (1, 32), 100: (1, 64), 500: (2, 128)}
"""Tasks a minute: how many workers, of how many slots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one load. Cores and MiB of all workers together, cores of Postgres; seconds."""

    load: int
    workers: int
    slots: int
    running: float
    worker_cores: float
    worker_mib: float
    postgres_cores: float
    first_p95: float
    run_p95: float
    wait_p95: float
    tasks: int


def seconds(processes: list[psutil.Process]) -> float:
    """CPU of processes so far."""
    return float(sum(one.cpu_times().user + one.cpu_times().system for one in processes))


async def measure(bench: Bench, postmaster: int, load: int, minutes: float) -> Figures:
    """One load, from an empty queue to an even state, and on for so many minutes."""
    count, slots = LOADS[load]
    async with provider_of(pieces=STREAM * A_SECOND) as provider, bench.fresh() as (url, worker_url, db):
        await set_codecs(db)
        env = {
            "DATABASE_URL": worker_url, "OPENAI_API_KEY": "k", "OPENAI_BASE_URL": provider, "OPENAI_MODEL": "gpt-4.1", "RAG_TOP_K": "0",
            "ATLAS_CONCURRENCY": str(slots), "DAILY_TOKEN_BUDGET": "100000000000", "ATLAS_ENV_FILE": "",
        }  # fmt: skip
        async with Crew(count, env) as workers:
            while await db.fetchval("select count(*) from atlas.worker where state = 'idle'") < count:
                await asyncio.sleep(0.1)
            asking = asyncio.create_task(_ask(url, load))
            await asyncio.sleep(STREAM + 10)
            since = await db.fetchval("select now()")
            began, own, server = time.monotonic(), seconds(workers), postgres_seconds(postmaster)
            memory, running, looks = 0.0, 0, 0
            while time.monotonic() - began < 60 * minutes:
                memory = max(memory, sum(one.memory_info().rss for one in workers) / 2**20)
                running += await db.fetchval("select count(*) from atlas.attempt where state = 'running'")
                looks += 1
                await asyncio.sleep(2)
            took = time.monotonic() - began
            own, server = seconds(workers) - own, postgres_seconds(postmaster) - server
            asking.cancel()
            rows = await db.fetch(
                "select extract(epoch from a.first_delta_at - t.queued_at)::float8 as first, extract(epoch from a.finished_at - "
                "a.started_at)::float8 as run, extract(epoch from a.started_at - t.queued_at)::float8 as wait "
                "from atlas.attempt a join atlas.task t on t.id = a.task_id where a.finished_at > $1", since
            )  # fmt: skip
    if not rows:
        raise RuntimeError("no task ended")

    def p95(name: str) -> float:
        return percentile(sorted(row[name] for row in rows), 0.95)

    return Figures(
        load=load, workers=count, slots=slots, running=running / looks, worker_cores=own / took, worker_mib=memory,
        postgres_cores=server / took, first_p95=p95("first"), run_p95=p95("run"), wait_p95=p95("wait"), tasks=len(rows),
    )  # fmt: skip


class Crew:
    """So many worker processes, killed at the end."""

    def __init__(self, count: int, env: dict[str, str]) -> None:
        self._envs = [env | {"ATLAS_HTTP_PORT": str(free_port())} for _ in range(count)]

    async def __aenter__(self) -> list[psutil.Process]:
        self._open = [process(sys.executable, "-m", "atlas.main", env=env) for env in self._envs]
        return [psutil.Process((await one.__aenter__()).pid) for one in self._open]

    async def __aexit__(self, *_: object) -> None:
        for one in self._open:
            await one.__aexit__(None, None, None)


async def _ask(url: str, load: int) -> None:
    """A question every so often, forever."""
    db = await asyncpg.connect(url)
    await set_codecs(db)
    began = time.monotonic()
    number = 0
    while True:
        await db.execute("insert into public.architect_in (data) values ($1)", chat(f"How do we ship {number}?"))
        number += 1
        await asyncio.sleep(max(0.0, began + number * 60 / load - time.monotonic()))


HEAD = """# Benchmarks: scaling

Written by `python -m benchmarks.scaling --minutes {minutes:g}` on {date}: {cores} cores for workers, provider and Postgres together (the
embedded one, its defaults), Python {python}, load {load:.1f} at its end. Questions come at an even pace; each reply streams for 20 s at 40 tokens
a second, and everything is in place: reservation, parts stored every 250 ms, settlement, audit, outbox. Cores are those that were used, not
those that were there.

| tasks a minute | workers × slots | streams at once | cores of the workers | MiB of the workers | cores of Postgres | first text p95, from the insert | run p95 | wait for a slot p95 | tasks measured |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

A core of worker carries {carried:.0f} streams by these figures (streams at once by cores used, at the highest load); `python -m
benchmarks.reading` measures reading alone at 300.

The manual's table asks for one worker of 1 vCPU and 2 GiB at 10 tasks a minute, two of 4 vCPU and 8 GiB at 100, six of 16 vCPU and 32 GiB at
500. Measured here, memory and CPU are a small part of that: what a load needs is **slots** (tasks a minute × seconds of a reply / 60), and
Postgres. Two workers are for the loss of one, not for the load.

| tasks a minute | the manual | enough by these figures, with half of each core free |
| --- | --- | --- |
{advice}
"""


async def run(minutes: float) -> None:
    """Measures, and writes the report."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder))
        cluster = stack.start_postgres()
        try:
            await stack.prepare(cluster)
            postmaster = int((cluster.home / "postgres" / "postmaster.pid").read_text().splitlines()[0])
            found = []
            for load in LOADS:
                found.append(await measure(Bench(cluster), postmaster, load, minutes))
                sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {found[-1]}\n")
        finally:
            stack.postgres.stop("immediate")
    manual = {10: "1 × 1 vCPU, 2 GiB", 100: "2 × 4 vCPU, 8 GiB", 500: "6 × 16 vCPU, 32 GiB"}
    report = HEAD.format(
        minutes=minutes, date=time.strftime("%Y-%m-%d"), cores=os.cpu_count(), python=platform.python_version(),
        load=os.getloadavg()[0], carried=found[-1].running / found[-1].worker_cores,
        rows="\n".join(
            f"| {one.load} | {one.workers} × {one.slots} | {one.running:.0f} | {one.worker_cores:.2f} | {one.worker_mib:.0f} "
            f"| {one.postgres_cores:.2f} | {one.first_p95 * 1000:.0f} ms | {one.run_p95:.1f} s | {one.wait_p95 * 1000:.0f} ms | {one.tasks} |"
            for one in found
        ),
        advice="\n".join(
            f"| {one.load} | {manual[one.load]} | {max(2, one.workers)} workers of {one.slots} slots, {2 * one.worker_cores:.1f} cores in all; "
            f"Postgres {2 * one.postgres_cores:.1f} cores |"
            for one in found
        ),
    )  # fmt: skip
    (ROOT / "docs" / "benchmarks_scaling.md").write_text(report, encoding="utf-8")
    print(report)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2)
    asyncio.run(run(parser.parse_args().minutes))


if __name__ == "__main__":
    main()
