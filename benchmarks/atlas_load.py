"""What is measured of Atlas: rate, pick-up, first delta, memory. Everything is in place: reserve, settle, audit, outbox."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import asyncpg
import psutil

from atlas.commands.knowledge import Pruning, index_paths
from atlas.commands.search import opened
from atlas.database.pool import set_codecs
from atlas.llm.port import Delta, Finished, ModelCall, ModelEvent, Started
from atlas.local.postgres import default_binaries
from atlas.messages import chat
from atlas.service import Service, build
from atlas.task import Usage
from atlas.variables import load
from benchmarks.life import Life

ROOT = Path(__file__).parent.parent
REPLY = Path(__file__).with_name("reply.md").read_text(encoding="utf-8")


LONG_REPLY = REPLY.replace(
    "\n## Consequences",
    "\n" + "\n\n".join(f"{n}. What was decided holds, and is written down here." for n in range(160)) + "\n\n## Consequences",
)
"""The same record with a decision of some 8 KB."""


class Instant:
    """A model that answers at once, with a response id and usage as OpenAI gives them. pieces: deltas of a reply; pause: the
    seconds before each."""

    def __init__(self, *, pieces: int = 1, pause: float = 0.0, reply: str = REPLY) -> None:
        self._pieces = pieces
        self._pause = pause
        self._reply = reply
        self._number = 0

    async def generate(self, call: ModelCall) -> AsyncIterator[ModelEvent]:
        self._number += 1
        yield Started(response_id=f"resp_{self._number}", resumable=True)
        size = -(-len(self._reply) // self._pieces)
        for number, start in enumerate(range(0, len(self._reply), size)):
            if self._pause:
                await asyncio.sleep(self._pause)
            yield Delta(text=self._reply[start : start + size], sequence_number=number)
        yield Finished(usage=Usage(input_tokens=500, output_tokens=200))

    async def resume(
        self, response_id: str, after: int | None, *, age: float = 0.0, window: str = "soonest"
    ) -> AsyncIterator[ModelEvent]:
        raise AssertionError("nothing is lost here")
        yield  # makes this an async generator

    async def cancel(self, response_id: str) -> Usage | None:
        return None

    async def count(self, call: ModelCall) -> int | None:
        return None

    async def probe(self, model: str) -> date | None:
        return None


@asynccontextmanager
async def worker(url: str, concurrency: int, generator: Instant) -> AsyncIterator[Service]:
    """A whole service in this process, with a model of ours."""
    settings = load(
        {
            "OPENAI_API_KEY": "bench",
            "ATLAS_CONCURRENCY": str(concurrency),
            "DAILY_TOKEN_BUDGET": "100000000000",
            "RAG_TOP_K": "5",
        }
    )
    stopping = asyncio.Event()
    async with build(settings, url, generator=generator) as service:
        running = asyncio.create_task(service.run(stopping))
        try:
            yield service
        finally:
            stopping.set()
            await running


async def insert(connection: asyncpg.Connection, count: int, *, senders: int = 1, priority: int = 0) -> None:
    """Questions in one statement, of so many outside senders; 1: of the service role."""
    await connection.execute(
        "insert into public.architect_in (data) select $1::jsonb || jsonb_build_object('task_id', atlas.new_id(), 'metadata', "
        "$1::jsonb -> 'metadata' || jsonb_build_object('priority', $4::integer) || case when $3 > 1 "
        "then jsonb_build_object('sender_key', 'people:' || n % $3) else '{}' end) from generate_series(1, $2) n",
        chat("How do we ship?"), count, senders, priority,
    )  # fmt: skip


LEFT = (
    "select exists (select from atlas.task where ready and kind = 'chat' and rank = 0) "
    "or exists (select from atlas.attempt a join atlas.task t on t.id = a.task_id where a.state = 'running' and t.rank = 0)"
)
"""Whether questions of priority 0 are left: what waits behind them is not what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What is in the database beside the tasks that are measured."""

    backlog: int = 0
    """Questions of a lower priority that wait."""
    senders: int = 1
    history: int = 0
    """Tasks that were finished before."""
    snapshot: bool = False
    """Somebody holds a snapshot all the while."""


async def rate(url: str, worker_url: str, tasks: int, concurrency: int, beside: Beside = Beside()) -> float:
    """Tasks a second, from the moment a worker that is up is let at a full queue, to the last reply."""
    db = await asyncpg.connect(url)
    await set_codecs(db)
    holder = await _prepared(db, url, worker_url, beside)
    await db.execute("select atlas.pause('until all is in place')")
    await insert(db, tasks, senders=beside.senders)
    async with worker(worker_url, concurrency, Instant()):
        await asyncio.sleep(2)
        began = await db.fetchval("select clock_timestamp()")
        await db.execute("select atlas.resume()")
        while await db.fetchval(LEFT):
            await asyncio.sleep(0.02)
        # the worker goes on with what waits behind
        await db.execute("select atlas.pause('it is done')")
    found = await _rate_since(db, began, tasks)
    if holder is not None:
        await holder.close()
    await db.close()
    return found


async def _prepared(db: asyncpg.Connection, url: str, worker_url: str, beside: Beside) -> asyncpg.Connection | None:
    """Puts beside what is to be there; a connection that holds a snapshot, where one is to be held."""
    if beside.history:
        one = await asyncpg.connect(worker_url)
        await set_codecs(one)
        await one.execute("set plan_cache_mode = force_generic_plan")
        await insert(db, beside.history)
        life = Life(one, db)
        for _ in range(-(-beside.history // 50)):
            await life.run(50)
        await one.close()
    if beside.backlog:
        await insert(db, beside.backlog, senders=beside.senders, priority=-1)
    if beside.history or beside.backlog:
        await db.execute("vacuum analyze")
    if not beside.snapshot:
        return None
    holder = await asyncpg.connect(url)
    await holder.execute("begin isolation level repeatable read")
    await holder.fetchval("select count(*) from atlas.task")
    return holder


async def _rate_since(db: asyncpg.Connection, began: datetime, tasks: int) -> float:
    last, done = await db.fetchrow(
        "select max(o.created_at), count(*) from public.architect_out o join atlas.task t on t.out_id = o.id "
        "where t.rank = 0 and t.state = 'completed' and o.created_at >= $1", began,
    )  # fmt: skip
    if done != tasks:
        raise RuntimeError(f"{done} of {tasks} tasks were answered")
    return float(tasks / (last - began).total_seconds())


async def fleet(url: str, worker_url: str, tasks: int, concurrency: int, workers: int) -> float:
    """Tasks a second of so many worker processes together."""
    db = await asyncpg.connect(url)
    await set_codecs(db)
    await db.execute("select atlas.pause('until all is in place')")
    await insert(db, tasks)
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks", "--only", "serve", url, worker_url, "0", str(concurrency), cwd=ROOT,
            stdout=asyncio.subprocess.DEVNULL,
        )
        for _ in range(workers)
    ]  # fmt: skip
    while await db.fetchval("select count(*) from atlas.worker where state = 'idle'") < workers:
        if any(process.returncode is not None for process in processes):
            raise RuntimeError("a worker ended before it began")
        await asyncio.sleep(0.1)
    began = await db.fetchval("select clock_timestamp()")
    await db.execute("select atlas.resume()")
    for process in processes:
        if await process.wait():
            raise RuntimeError("a worker failed")
    found = await _rate_since(db, began, tasks)
    await db.close()
    return found


async def limit(url: str, tasks: int, clients: int = 4) -> float:
    """Tasks a second of Postgres alone: pgbench takes them through the same SQL, 16 at a time over so many connections."""
    db = await asyncpg.connect(url)
    await set_codecs(db)
    await insert(db, tasks)
    began = await db.fetchval("select clock_timestamp()")
    process = await asyncio.create_subprocess_exec(
        str(default_binaries() / "pgbench"), "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-D", f"reply={REPLY}",
        "-t", str(-(-tasks // (16 * clients)) + 2), "-f", str(Path(__file__).with_name("life.sql")), url,
        env=os.environ | {"PGOPTIONS": "-c plan_cache_mode=force_generic_plan"}, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    if await process.wait():
        raise RuntimeError("pgbench failed")
    found = await _rate_since(db, began, tasks)
    await db.close()
    return found


async def serve(url: str, worker_url: str, concurrency: int) -> float:
    """A worker until all questions are answered."""
    db = await asyncpg.connect(url)
    async with worker(worker_url, concurrency, Instant()):
        while await db.fetchval("select paused_at is not null from atlas.control") or await db.fetchval(LEFT):
            await asyncio.sleep(0.05)
    await db.close()
    return 0.0


async def whole(url: str, worker_url: str, tasks: int, concurrency: int) -> float:
    """Tasks a second of the whole way: from before the inserts to the last reply of 8 KB, which comes in 200 deltas; each
    question is another one, and is searched for in an index that is filled (with Atlas's own docs)."""
    async with opened(load({}), url) as known:
        await index_paths(known, [ROOT / "docs"], project=None, pruning=Pruning.ALWAYS, named="docs")
    db = await asyncpg.connect(url)
    await set_codecs(db)
    async with worker(worker_url, concurrency, Instant(pieces=200, reply=LONG_REPLY)) as service:
        await service.claims.wait()
        began = await db.fetchval("select clock_timestamp()")
        await db.execute(
            "insert into public.architect_in (data) select jsonb_set(jsonb_set($1, '{task_id}', to_jsonb(atlas.new_id()::text)), "
            "'{content}', to_jsonb('How does a ' || (array['lease', 'budget', 'claim', 'seal', 'wake-up'])[n % 5 + 1] || ' end, case ' || n || '?')) "
            "from generate_series(1, $2) n", chat("?"), tasks,
        )  # fmt: skip
        while await db.fetchval("select exists (select from atlas.task where finished_at is null)"):
            await asyncio.sleep(0.02)
    row = await db.fetchrow(
        "select max(created_at) as last, count(*) as done, min(length(data ->> 'content')) as shortest, "
        "avg(jsonb_array_length(data #> '{metadata,sources}')) as sources from public.architect_out where data ->> 'content' <> ''"
    )
    await db.close()
    if row["done"] != tasks or row["shortest"] < 8000 or row["sources"] < 1:
        raise RuntimeError(f"not the whole way: {dict(row)}")
    return float(tasks / (row["last"] - began).total_seconds())


async def rate_while_inserting(url: str, worker_url: str, tasks: int, concurrency: int, inserters: int = 32) -> float:
    """Tasks a second while as many connections insert one question a commit: wake-ups are in it."""
    pool = await asyncpg.create_pool(url, min_size=inserters, max_size=inserters, init=set_codecs)
    left = iter(range(tasks))

    async def insert_all() -> None:
        for _ in left:
            await pool.execute("insert into public.architect_in (data) values ($1)", chat("How do we ship?"))

    async with worker(worker_url, concurrency, Instant()):
        await asyncio.sleep(1)
        began = await pool.fetchval("select clock_timestamp()")
        async with asyncio.TaskGroup() as group:
            for _ in range(inserters):
                group.create_task(insert_all())
        while await pool.fetchval("select exists (select from atlas.task where finished_at is null)"):
            await asyncio.sleep(0.02)
    last = await pool.fetchval("select max(created_at) from public.architect_out where data ->> 'content' <> ''")
    await pool.close()
    return float(tasks / (last - began).total_seconds())


async def pick_up(url: str, worker_url: str, tasks: int, concurrency: int) -> list[float]:
    """Milliseconds from each insert to its claim, at 10 tasks a second."""
    db = await asyncpg.connect(url)
    await set_codecs(db)
    async with worker(worker_url, concurrency, Instant()):
        await asyncio.sleep(1)
        for _ in range(tasks):
            began = time.monotonic()
            await db.execute("insert into public.architect_in (data) values ($1)", chat("How do we ship?"))
            await asyncio.sleep(max(0, 0.1 - (time.monotonic() - began)))
        await asyncio.sleep(1)
    rows = await db.fetch(
        "select extract(epoch from a.started_at - t.queued_at)::float8 * 1000 as ms from atlas.attempt a "
        "join atlas.task t on t.id = a.task_id where a.number = 1"
    )
    await db.close()
    return sorted(row["ms"] for row in rows)


async def first_delta(url: str, worker_url: str, tasks: int, concurrency: int) -> list[float]:
    """Milliseconds from a claim to its first stored text, with a model that gives it at once and goes on for a second."""
    db = await asyncpg.connect(url)
    await set_codecs(db)
    await insert(db, tasks)
    async with worker(worker_url, concurrency, Instant(pieces=10, pause=0.1)):
        while await db.fetchval("select exists (select from atlas.task where finished_at is null)"):
            await asyncio.sleep(0.1)
    rows = await db.fetch(
        "select extract(epoch from first_delta_at - started_at)::float8 * 1000 - 100 as ms from atlas.attempt "
        "where first_delta_at is not null"
    )
    await db.close()
    return sorted(row["ms"] for row in rows)


async def memory(url: str, worker_url: str, streams: int) -> float:
    """MiB of this process while so many streams run; 0: an idle worker."""
    db = await asyncpg.connect(url)
    await set_codecs(db)
    highest = 0.0
    async with worker(worker_url, max(streams, 1), Instant(pieces=200, pause=0.05)):
        await insert(db, streams)
        await asyncio.sleep(2)
        while True:
            highest = max(highest, psutil.Process().memory_info().rss / 2**20)
            if not await db.fetchval("select exists (select from atlas.task where finished_at is null)"):
                break
            await asyncio.sleep(0.25)
    most = await db.fetchval("select count(*) from atlas.attempt where first_delta_at is not null")
    await db.close()
    if most < streams:
        raise RuntimeError(f"{most} of {streams} streams ran")
    return highest


def percentile(values: list[float], share: float) -> float:
    """Of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))]
