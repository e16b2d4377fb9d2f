"""Atlas as a system of hardbyte/postgresql-job-queue-benchmarking: `python -m benchmarks.adapter`, by its contract for adapters.

Settings come in the environment (DATABASE_URL, PRODUCER_MODE, PRODUCER_RATE, TARGET_DEPTH, WORKER_COUNT, JOB_PAYLOAD_BYTES, JOB_WORK_MS,
SAMPLE_EVERY_S), samples leave as JSON Lines on stdout, logs on stderr; SIGTERM ends it. A job is a question: claimed, reserved,
answered by a model in this process that takes JOB_WORK_MS, settled, audited, and put into the outbox. The database is migrated at
the start; DATABASE_URL is its owner's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg

from atlas import __version__, loop
from atlas.database import migrate
from atlas.database.pool import set_codecs
from atlas.ids import new_id
from atlas.messages import chat
from benchmarks.atlas_load import Instant, worker
from benchmarks.databases import AWAY

MANIFEST = json.loads(Path(__file__).with_name("adapter.json").read_text(encoding="utf-8"))
log = logging.getLogger("atlas.benchmarks")
WINDOW = 30
"""Seconds."""
LATENCY = (
    "select percentile_disc(array[0.5, 0.95, 0.99]) within group "
    "(order by extract(epoch from a.started_at - greatest(t.queued_at, t.run_after)) * 1000) "
    "from atlas.attempt a join atlas.task t on t.id = a.task_id where a.id >= $1 and a.number = 1"
)
"""Of the last seconds alone, by the ids, which are in order of time: nothing is kept here, and no table is read whole."""
DONE = "select count(*) from atlas.attempt where lease_owner = $1 and state = 'completed'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the harness asks for."""

    url: str
    depth: int | None
    """The queue is filled up to this; None: so many jobs a second are added."""
    rate: float
    workers: int
    payload: int
    work: float
    """Seconds a job takes."""
    every: float

    @classmethod
    def read(cls, environment: dict[str, str]) -> Load:
        mode = environment.get("PRODUCER_MODE", "fixed")
        return cls(
            url=environment["DATABASE_URL"], depth=int(environment.get("TARGET_DEPTH", "1000")) if mode == "depth-target" else None,
            rate=float(environment.get("PRODUCER_RATE", "100")), workers=int(environment.get("WORKER_COUNT", "8")),
            payload=int(environment.get("JOB_PAYLOAD_BYTES", "256")), work=float(environment.get("JOB_WORK_MS", "1")) / 1000,
            every=float(environment.get("SAMPLE_EVERY_S", "5")),
        )  # fmt: skip


def emit(record: dict[str, object]) -> None:
    """One line for the harness."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def connect(load: Load) -> asyncpg.Connection:
    db = await asyncpg.connect(load.url, timeout=10, command_timeout=30)
    await set_codecs(db)
    return db


async def prepare(load: Load) -> str:
    """Migrates; several adapters may start at once. Answers the version of the schema."""
    db = await connect(load)
    try:
        await migrate.provide_supabase(db)
        await migrate.migrate(db)
        await migrate.seed(db)
        await db.execute("select atlas.set_budget('global', '{\"daily\": null}')")
        return migrate.read_migrations()[-1].version
    finally:
        await db.close()


class Producer:
    """Adds jobs. added: how many, so far."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._message = chat("x" * load.payload)
        self.added = 0

    async def run(self) -> None:
        due = 0.0
        while True:
            try:
                db = await connect(self._load)
                last = time.monotonic()
                while True:
                    await asyncio.sleep(0.05)
                    if self._load.depth is not None:
                        due = self._load.depth - await db.fetchval("select count(*) from atlas.task where ready")
                    else:
                        due, last = due + (time.monotonic() - last) * self._load.rate, time.monotonic()
                    if due >= 1:
                        await db.execute(
                            "insert into public.architect_in (data) select $1::jsonb || jsonb_build_object('task_id', atlas.new_id()) "
                            "from generate_series(1, $2::int)", self._message, int(due),
                        )  # fmt: skip
                        self.added += int(due)
                        due -= int(due)
            except AWAY as error:
                log.warning("Postgres is away: %s", error)
                await asyncio.sleep(0.2)


async def sample(load: Load, producer: Producer, worker_id: UUID) -> None:
    """A tick every so often, aligned to the clock."""
    added, done, at = 0, 0, time.time()
    while True:
        await asyncio.sleep(load.every - time.time() % load.every)
        try:
            db = await connect(load)
            since = new_id(time.time_ns() // 1_000_000 - WINDOW * 1000, bytes(10))
            try:
                p50, p95, p99 = await db.fetchval(LATENCY, since) or (0.0, 0.0, 0.0)
                completed = await db.fetchval(DONE, worker_id)
                depth = await db.fetchval("select count(*) from atlas.task where ready")
            finally:
                await db.close()
        except AWAY as error:
            log.warning("Postgres is away: %s", error)
            continue
        span = time.time() - at
        figures = {
            "claim_p50_ms": (float(p50 or 0), WINDOW), "claim_p95_ms": (float(p95 or 0), WINDOW), "claim_p99_ms": (float(p99 or 0), WINDOW),
            "enqueue_rate": ((producer.added - added) / span, load.every), "completion_rate": ((completed - done) / span, load.every),
            "queue_depth": (depth, 0),
        }  # fmt: skip
        added, done, at = producer.added, completed, time.time()
        for metric, (value, window) in figures.items():
            emit({"t": now(), "system": MANIFEST["system"], "kind": "adapter", "subject_kind": "adapter", "subject": "", "metric": metric,
                  "value": round(value, 3), "window_s": window})  # fmt: skip


async def run() -> int:
    load = Load.read(dict(os.environ))
    version = await prepare(load)
    emit({"kind": "descriptor", "system": MANIFEST["system"], "event_tables": MANIFEST["event_tables"], "extensions": [],
          "version": __version__, "schema_version": version, "db_name": MANIFEST["db_name"], "started_at": now()})  # fmt: skip
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    producer = Producer(load)
    async with worker(load.url, load.workers, Instant(pause=load.work)) as service:
        jobs = [asyncio.create_task(producer.run()), asyncio.create_task(sample(load, producer, service.worker.worker_id))]
        await stopping.wait()
        for job in jobs:
            job.cancel()
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    sys.exit(loop.run(run()))
