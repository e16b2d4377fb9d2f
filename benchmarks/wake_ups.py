"""python -m benchmarks.wake_ups: how soon an insert is claimed by each source of wake-ups, and what is lost when Realtime is.

Writes docs/benchmarks_wake_ups.md. Realtime is the stand-in of atlas/local: it speaks the real server's protocol, polls for
postgres_changes as that does, and has its faults as switches; its speed is not the real server's.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import psutil

from atlas.local.postgres import free_port
from atlas.local.stack import Stack
from atlas.local.supabase.access import Keys
from atlas.local.supabase.app import StandIn, open_stand_in
from atlas.messages import chat
from atlas.service import Service, build
from atlas.supabase.channel import Patience
from atlas.supabase.tokens import KeyTokens, MintedTokens
from atlas.variables import load
from atlas.wake_ups.port import WakeUps
from atlas.wake_ups.realtime import RealtimeWakeUps
from atlas.wake_ups.sweep import SweepWakeUps
from benchmarks.databases import Bench
from tests.support.faults import Faults

ROOT = Path(__file__).parent.parent
LEVELS = (1, 5, 20)
SOURCES = ("realtime broadcast", "realtime postgres_changes", "listen", "sweep")


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which that part of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(part * (len(ordered) - 1)))]


@asynccontextmanager
async def fleet(
    worker_url: str, size: int, choose: Callable[[Service], list[WakeUps]], **env: str
) -> AsyncIterator[list[Service]]:
    """So many workers in this process, each with the wake-ups that choose gives it."""
    stopping = asyncio.Event()
    async with AsyncExitStack() as stack:
        services = []
        for _ in range(size):
            service = await stack.enter_async_context(build(load(env), worker_url))
            services.append(dataclasses.replace(service, wake_ups=choose(service)))
        jobs = [asyncio.create_task(service.run(stopping)) for service in services]
        try:
            yield services
        finally:
            stopping.set()
            await asyncio.gather(*jobs)


async def ask(db: asyncpg.Connection, n: int) -> None:
    await db.execute("insert into public.architect_in (data) values ($1)", chat(f"Question {n}?"))


async def done(db: asyncpg.Connection, count: int, seconds: float) -> int:
    """Waits until so many tasks are completed; answers how many are."""
    end = time.monotonic() + seconds
    found = 0
    while time.monotonic() < end:
        found = int(await db.fetchval("select count(*) from atlas.task where state = 'completed'"))
        if found >= count:
            break
        await asyncio.sleep(0.1)
    return found


async def waited(db: asyncpg.Connection) -> list[float]:
    """Milliseconds from each insert to its claim, by Postgres's clock."""
    rows = await db.fetch(
        "select extract(epoch from a.started_at - t.queued_at) * 1000 as ms from atlas.task t join atlas.attempt a on a.task_id = t.id "
        "where a.number = 1"
    )
    return [float(row["ms"]) for row in rows]


def claims(services: list[Service], result: str) -> float:
    return sum(s.metrics.registry.get_sample_value("atlas_claims_total", {"result": result}) or 0 for s in services)


def missed(services: list[Service]) -> float:
    return sum(s.metrics.registry.get_sample_value("atlas_hints_missed_total") or 0 for s in services)


async def latency(bench: Bench, source: str, size: int, inserts: int) -> tuple[list[float], float, float]:
    """Milliseconds of each insert; claims that lost, and looks that spared one, an insert."""
    async with bench.fresh() as (url, worker_url, db), open_stand_in(url, Keys.create(), conduct=Faults()) as stand_in:
        faults_of(stand_in).no_broadcasts = source == "realtime postgres_changes"
        faults_of(stand_in).deaf = source == "realtime broadcast"

        def choose(service: Service) -> list[WakeUps]:
            if source.startswith("realtime"):
                return [RealtimeWakeUps(stand_in.url, KeyTokens(stand_in.keys.secret))]
            return [one for one in service.wake_ups if one.name == source]

        async with fleet(worker_url, size, choose) as services:
            await asyncio.sleep(8)  # all are idle, have joined, and know of each other
            lost, spared = claims(services, "empty"), claims(services, "spared")
            for n in range(inserts):
                # idle for a while, and not in step with any poller
                await asyncio.sleep(random.uniform(0.9, 2.5))
                await ask(db, n)
                await done(db, n + 1, 40)
            return (
                await waited(db),
                (claims(services, "empty") - lost) / inserts,
                (claims(services, "spared") - spared) / inserts,
            )


FAULTS = ("nothing", "the server is killed, and is down for 5 s", "cut off every second", "the slot is lost: no changes, no broadcasts",
          "rate-limited: no changes, no broadcasts", "tokens expire every 3 s")  # fmt: skip


def faults_of(stand_in: StandIn) -> Faults:
    """Its switches."""
    assert isinstance(stand_in.conduct, Faults)
    return stand_in.conduct


async def faults(bench: Bench, tasks: int, which: Sequence[str] = FAULTS) -> list[str]:
    """A worker with Realtime and sweeps alone, while Realtime is killed, cut off, rate-limited, and its tokens expire."""
    lines = ["| what happens | inserted | completed | lost | wake-ups missed | pick-up p50 | p99 | longest | sessions ended |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for fault in which:
        keys, port = Keys.create(), free_port()
        async with bench.fresh() as (url, worker_url, db), AsyncExitStack() as doors:
            stand_in = await doors.enter_async_context(open_stand_in(url, keys, port=port, conduct=Faults()))
            # refreshed too late, so that they really expire
            patience = Patience(refresh_before=-1 if "tokens" in fault else 60)
            tokens = MintedTokens(keys.secret, keys.jwt_secret, lasts=3 if "tokens" in fault else 3600)

            def choose(
                service: Service, url: str = stand_in.url, tokens: MintedTokens = tokens, patience: Patience = patience
            ) -> list[WakeUps]:
                sweep = next(one for one in service.wake_ups if isinstance(one, SweepWakeUps))
                realtime = RealtimeWakeUps(
                    url,
                    tokens,
                    patience=patience,
                    troubled=lambda kind: service.metrics.realtime_troubles.labels(kind=kind).inc(),
                )
                service.worker.wake_signal.tell(realtime.missed)
                return [sweep, realtime]

            async with fleet(worker_url, 1, choose, ATLAS_CONCURRENCY="32") as services:
                await asyncio.sleep(4)

                async def harm(
                    stand_in: StandIn = stand_in,
                    fault: str = fault,
                    url: str = url,
                    doors: AsyncExitStack = doors,
                    keys: Keys = keys,
                    port: int = port,
                ) -> None:
                    await asyncio.sleep(tasks / 100)
                    if "killed" in fault:
                        stand_in.cut(1006)
                        await doors.aclose()
                        await asyncio.sleep(5)
                        await doors.enter_async_context(open_stand_in(url, keys, port=port, conduct=Faults()))
                    elif "every second" in fault:
                        for _ in range(int(tasks / 100)):
                            stand_in.cut(1006)
                            await asyncio.sleep(1)
                    elif "slot" in fault:
                        faults_of(stand_in).deaf = faults_of(stand_in).no_broadcasts = True
                        await asyncio.sleep(tasks / 15)
                        faults_of(stand_in).deaf = faults_of(stand_in).no_broadcasts = False
                    elif "rate" in fault:
                        faults_of(stand_in).rate_limited = faults_of(stand_in).no_broadcasts = True
                        await asyncio.sleep(tasks / 15)
                        faults_of(stand_in).rate_limited = faults_of(stand_in).no_broadcasts = False

                harming = asyncio.create_task(harm())
                for n in range(tasks):
                    await ask(db, n)
                    # bursts with pauses, so that the worker is idle again and again; where nothing is heard, pauses that outlast
                    # the looks which a worker takes by itself after work
                    silent = "no broadcasts" in fault
                    await asyncio.sleep(0.001 if n % (50 if silent else 10) else 5 if silent else random.uniform(0.05, 0.6))
                await harming
                completed = await done(db, tasks, 60)
                ms = await waited(db)
                ended = sum(
                    sample.value
                    for metric in services[0].metrics.realtime_troubles.collect()
                    for sample in metric.samples
                    if sample.name.endswith("_total")
                )
                lines.append(
                    f"| {fault} | {tasks} | {completed} | {tasks - completed} | {missed(services):.0f} | {percentile(ms, 0.5):.0f} ms | "
                    f"{percentile(ms, 0.99):.0f} ms | {max(ms):.0f} ms | {ended:.0f} |"
                )
                print(lines[-1], flush=True)
    return lines


async def flapping(bench: Bench, times: int) -> list[str]:
    """An hour in which the socket is cut every ten seconds, without the waiting: memory, and the time to receive again."""
    async with bench.fresh() as (url, _, _), open_stand_in(url, Keys.create(), conduct=Faults()) as stand_in:
        receiving = asyncio.Event()

        def entered(state: str) -> None:
            if state == "receiving":
                receiving.set()

        wake_ups = RealtimeWakeUps(
            stand_in.url, KeyTokens(stand_in.keys.secret), patience=Patience(longest_pause=0.1, look=0.05), entered=entered
        )
        job = asyncio.create_task(wake_ups.run(lambda _source, _cancel: None))
        process = psutil.Process()
        took, before = [], 0.0
        for n in range(times + 20):
            await receiving.wait()
            if n == 20:
                before = process.memory_info().rss / 2**20
            receiving.clear()
            began = time.monotonic()
            stand_in.cut((1006, 1012, 1000)[n % 3])
            await receiving.wait()
            took.append((time.monotonic() - began) * 1000)
        after = process.memory_info().rss / 2**20
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        running = len(asyncio.all_tasks())
    return ["| reconnects | RSS before | RSS after | receiving again p50 | p99 | asyncio tasks left |", "| --- | --- | --- | --- | --- | --- |",
            f"| {times} | {before:.1f} MiB | {after:.1f} MiB | {percentile(took, 0.5):.0f} ms | {percentile(took, 0.99):.0f} ms | {running} |"]  # fmt: skip


HEAD = """# Benchmarks: wake-ups

Written by `python -m benchmarks.wake_ups --inserts {inserts} --tasks {tasks} --flaps {flaps}` on {date}: {cores} cores, Python
{python}, Postgres 18.6 (embedded), everything on one noisy machine, all workers in one process. Realtime is the stand-in of
`atlas/local`: it delivers `postgres_changes` on the real server's schedule (every 100 ms, up to 500 ms while idle), and its
broadcasts by polling the slot every 10 to 50 ms, where the real server took 1 to 19 ms.

## From the insert to the claim

Idle workers, one insert at a time, {inserts} inserts ({slow} for the sweep), only the named source on. With more than one
worker each waits a random moment, as wide as the fleet, so that few claims lose. With so few, p99 is the
slowest. A worker that had work looks by itself for some seconds, and that is what the sweep's rows show: after a longer rest it
takes up to 15 s.

| source | workers | p50 | p95 | p99 | claims lost an insert | looks an insert |
| --- | --- | --- | --- | --- | --- | --- |
{latency}

## What is lost when Realtime is

One worker with Realtime and the sweep, no LISTEN; questions in bursts of ten. Lost means not completed. Tokens of three seconds are
refreshed too late on purpose, so that each ends its session. A worker that had work looks by itself for some seconds: where nothing
is heard for a minute, the bursts are of fifty with five seconds between them, so that it has stopped looking.

{faults}

## An hour's flapping, compressed

The socket is cut (1006, 1012, 1000 in turn) as soon as it receives again; an hour of one cut every ten seconds has 360.

{flapping}
"""


async def run(inserts: int, tasks: int, flaps: int) -> None:
    """Measures all, and writes the report."""
    slow = max(4, inserts // 5)
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder))
        cluster = stack.start_postgres()
        try:
            await stack.prepare(cluster)
            bench = Bench(cluster)
            flapped = await flapping(bench, flaps)
            print("\n".join(flapped), flush=True)
            rows = []
            for source in SOURCES:
                for size in LEVELS:
                    ms, lost, looked = await latency(bench, source, size, slow if source == "sweep" else inserts)
                    cells = [f"{percentile(ms, part):.0f} ms" for part in (0.5, 0.95, 0.99)]
                    rows.append(f"| {source} | {size} | {' | '.join(cells)} | {lost:.1f} | {looked:.1f} |")
                    print(rows[-1], f"mean {statistics.mean(ms):.0f}", flush=True)
            found = await faults(bench, tasks)
        finally:
            stack.postgres.stop("immediate")
    report = HEAD.format(
        inserts=inserts, slow=slow, tasks=tasks, flaps=flaps, date=time.strftime("%Y-%m-%d"), cores=os.cpu_count(),
        python=platform.python_version(), latency="\n".join(rows), faults="\n".join(found), flapping="\n".join(flapped),
    )  # fmt: skip
    (ROOT / "docs" / "benchmarks_wake_ups.md").write_text(report, encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wake_ups", description=__doc__)
    parser.add_argument("--inserts", type=int, default=25)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--flaps", type=int, default=360)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.inserts, arguments.tasks, arguments.flaps))


if __name__ == "__main__":
    main()
