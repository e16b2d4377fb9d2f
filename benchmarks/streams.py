"""python -m benchmarks.streams: what readers and wake-ups get of Realtime while many replies are written at once.

Writes docs/benchmarks_streams.md. Realtime is the stand-in of atlas/local, with the real server's limit: 100 events a second for
all of a project, averaged over a minute; past it broadcasts vanish. Worker and readers are processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

from atlas.database.pool import set_codecs
from atlas.llm.port import Delta, Finished, ModelCall, ModelEvent, Started
from atlas.local.stack import Stack
from atlas.local.supabase.access import Keys
from atlas.local.supabase.app import open_stand_in
from atlas.messages import chat
from atlas.service import build
from atlas.supabase.tasks import connect
from atlas.supabase.tokens import KeyTokens
from atlas.task import Usage
from atlas.tasks.follow import Ended, MoreText, follow
from atlas.variables import load
from atlas.wake_ups.realtime import RealtimeWakeUps
from benchmarks.atlas_load import Instant
from benchmarks.databases import Bench
from benchmarks.wake_ups import percentile

ROOT = Path(__file__).parent.parent
EVERY = 0.2
"""Seconds from one piece of a reply to the next."""


QUICK = "A quick one?"
STEP = 0.05
"""Events of a reader that are closer than this are one step."""


class Clock(Instant):
    """A model whose every piece is the time at which it was sent: what a reader shows says how old it is."""

    async def generate(self, call: ModelCall) -> AsyncIterator[ModelEvent]:
        self._number += 1
        yield Started(response_id=f"resp_{self._number}", resumable=True)
        end = time.monotonic() + (0 if call.question.strip() == QUICK else 1e9)
        number = 0
        while True:
            yield Delta(text=f"{time.time():.3f}\n", sequence_number=(number := number + 1))
            if time.monotonic() > end:
                break
            await asyncio.sleep(EVERY)
        yield Finished(usage=Usage(input_tokens=500, output_tokens=200))


async def work(url: str, supabase: str, key: str, streams: int) -> None:
    """A worker, until it is killed."""
    settings = load(
        {"OPENAI_API_KEY": "bench", "ATLAS_CONCURRENCY": str(streams + 20), "DAILY_TOKEN_BUDGET": "100000000000", "RAG_TOP_K": "0",
         "SUPABASE_URL": supabase, "SUPABASE_SECRET_KEY": key}
    )  # fmt: skip
    async with build(settings, url, generator=Clock()) as service:
        await service.run(asyncio.Event())


async def read(supabase: str, key: str, tasks: list[str], seconds: float) -> None:
    """Readers that come one by one, half a second apart, and a listener for wake-ups; prints what each saw."""
    settings = load({"SUPABASE_URL": supabase, "SUPABASE_SECRET_KEY": key})
    heard = 0

    def wake(source: str, _: bool) -> None:
        nonlocal heard
        heard += source == "realtime_broadcast"

    async def one(task: UUID, begins: float) -> tuple[float, list[float], list[float]]:
        await asyncio.sleep(begins)
        arrived: list[float] = []
        ages: list[float] = []
        async with connect(settings) as reads:
            await reads.submit(chat("How do we ship?") | {"task_id": str(task)})
            async for event in follow(reads, task):
                if isinstance(event, MoreText):
                    now, times = time.time(), event.text.split()
                    if not arrived:
                        ages.append(now - float(times[0]))
                    elif now - arrived[-1] < STEP:
                        continue
                    else:
                        ages.append(now - float(times[-1]))
                    arrived.append(now)
                if isinstance(event, Ended) or (arrived and arrived[-1] - arrived[0] > seconds):
                    break
        return ages[0], [later - earlier for earlier, later in itertools.pairwise(arrived)], ages[1:]

    listener = asyncio.create_task(RealtimeWakeUps(supabase, KeyTokens(key)).run(wake))
    await asyncio.sleep(2)
    print("ready", flush=True)
    found = await asyncio.gather(*(one(UUID(task), number / 2) for number, task in enumerate(tasks)))
    print("read", flush=True)
    await asyncio.sleep(3)
    listener.cancel()
    print(json.dumps({"first": [a for a, _, _ in found], "gaps": [g for _, gs, _ in found for g in gs],
                      "ages": [a for _, _, ages in found for a in ages], "heard": heard}))  # fmt: skip


async def measure(bench: Bench, streams: int, watched: int, seconds: float) -> list[str]:
    """A run; the rows of the report."""
    keys = Keys.create()
    async with bench.fresh() as (url, worker_url, db), open_stand_in(url, keys) as stand_in:
        await set_codecs(db)
        me = (sys.executable, "-m", "benchmarks.streams", "--only")
        words = json.dumps([worker_url, stand_in.url, keys.secret, streams])
        worker = await asyncio.create_subprocess_exec(*me, "work", words, cwd=ROOT)
        tasks = [str(await db.fetchval("select atlas.new_id()")) for _ in range(watched)]
        words = json.dumps([stand_in.url, keys.secret, tasks, seconds])
        await db.execute(
            "insert into public.architect_in (data) select jsonb_set($1, '{task_id}', to_jsonb(atlas.new_id()::text)) "
            "from generate_series(1, $2::int)", chat("How do we ship?"), streams - watched,
        )  # fmt: skip
        while await db.fetchval('select count(*) from atlas.reply_part where "offset" = 0') < streams - watched:
            await asyncio.sleep(0.5)
        readers = await asyncio.create_subprocess_exec(
            *me, "read", words, stdout=asyncio.subprocess.PIPE, cwd=ROOT, limit=2**26
        )
        assert readers.stdout is not None
        await readers.stdout.readline()
        asked, load, running = watched, 0.0, 0
        reading = asyncio.create_task(readers.stdout.readline())
        while not reading.done():
            await db.execute("insert into public.architect_in (data) values ($1)", chat(QUICK))
            asked += 1
            running = max(running, await db.fetchval("select count(*) from atlas.task where state = 'running'"))
            load = max(load, os.getloadavg()[0])
            await asyncio.sleep(1)
        found = json.loads(await readers.stdout.readline())
        events = await db.fetchval(
            "select count(*) from realtime.messages where topic like 'task:%' and inserted_at > now() - interval '1 minute'"
        )
        worker.kill()
        await worker.wait()

    def row(what: str, values: list[float]) -> str:
        return f"| {what} | {' | '.join(f'{percentile(values, part) * 1000:.0f} ms' for part in (0.5, 0.95, 0.99, 1))} |"

    return [
        row("first text, from the provider to the reader", found["first"]),
        row("from one step of a reader to the next", found["gaps"]),
        row("age of the newest text that a step shows", found["ages"]),
        "",
        f"Running at once: {running} streams, {watched} of them watched. Wake-ups heard: {found['heard']} of {asked} "
        f"inserts. Broadcasts of text in the last minute: {events}. Load of the machine: up to {load:.1f}.",
    ]


HEAD = """# Benchmarks: many streams at once

Written by `python -m benchmarks.streams --streams {streams} --watched {watched} --seconds {seconds:g}` on {date}: {cores} cores, Python
{python}, Postgres 18.6 (embedded) and the stand-in of `atlas up` in one process, one worker, all readers in another. Each stream has a piece
every {every:g} ms; the readers come half a second apart while the other streams run, and a question a second is asked on top. The
stand-in drops broadcasts above 100 events a second, as the real server does.

| | p50 | p95 | p99 | longest |
| --- | --- | --- | --- | --- |
{rows}
"""


async def run(streams: int, watched: int, seconds: float) -> None:
    """Measures, and writes the report."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder))
        cluster = stack.start_postgres()
        try:
            await stack.prepare(cluster)
            rows = await measure(Bench(cluster), streams, watched, seconds)
        finally:
            stack.postgres.stop("immediate")
    report = HEAD.format(
        streams=streams, watched=watched, seconds=seconds, date=time.strftime("%Y-%m-%d"), cores=os.cpu_count(),
        python=platform.python_version(), every=EVERY * 1000, rows="\n".join(rows),
    )  # fmt: skip
    (ROOT / "docs" / "benchmarks_streams.md").write_text(report, encoding="utf-8")
    print(report)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--watched", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=150, help="how long each reader reads")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        what, words = arguments.only
        asyncio.run(work(*json.loads(words)) if what == "work" else read(*json.loads(words)))
    else:
        asyncio.run(run(arguments.streams, arguments.watched, arguments.seconds))


if __name__ == "__main__":
    main()
