"""The mirror measured: rows a second, commit to publish, and a topic that is away for a while. `python -m benchmarks.mirror`.

Against a small Pub/Sub in this process (tests/doubles), over real gRPC: its cost is in the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import grpc
from google.pubsub_v1 import types

from atlas.database.pool import Pool, set_codecs
from atlas.local.stack import Stack
from atlas.metrics.mirror import MirrorMetrics
from atlas.rotation import CurrentSettings
from atlas.service import mirror_of
from atlas.tracing.port import Untraced
from atlas.variables import load
from tests.doubles.pubsub import PubSubDouble, pubsub

ROOT = Path(__file__).parent.parent

HEAD = """# Benchmarks: the mirror

`python -m benchmarks.mirror --rows {rows} --away {away}` on {date}, {cores} cores, Python {python}. Postgres, the mirror and a small
Pub/Sub over gRPC share them; its time is in these figures. Each task has two rows, which leave in order.

| what | figure |
| --- | --- |
{lines}
"""


class Watched(PubSubDouble):
    """Notes when each event came first, and whether a task's events came in order."""

    def __init__(self) -> None:
        super().__init__()
        self.came: dict[str, float] = {}
        self.order: dict[str, list[str]] = defaultdict(list)

    def _take(self, topic: str, message: types.PubsubMessage) -> str:
        event = message.attributes["event_id"]
        if event not in self.came:
            self.came[event] = time.time()
            self.order[message.ordering_key].append(message.attributes["status"])
        return super()._take(topic, message)


async def emit(db: asyncpg.Connection, tasks: int) -> None:
    """Rows as complete_tasks writes them: two a task."""
    await db.execute(
        "insert into public.architect_out (data, task_id) select jsonb_build_object('task_id', t, 'role', 'architect', 'msg_type', 'spec', "
        "'content', repeat('word ', 400), 'metadata', jsonb_build_object('status', s, 'schema_ver', 1)), t "
        "from unnest($1::uuid[]) t cross join unnest(array['in_progress', 'completed']) with ordinality as v (s, n) order by n",
        [uuid4() for _ in range(tasks)],
    )  # fmt: skip


async def until_sent(db: asyncpg.Connection, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while await db.fetchval("select exists (select from atlas.outbox where state <> 'sent')"):
        assert time.monotonic() < end, "not all rows left"
        await asyncio.sleep(0.02)


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


@asynccontextmanager
async def mirroring(url: str, host: str) -> AsyncIterator[None]:
    env = {"PUBSUB_PROJECT_ID": "p", "PUBSUB_EMULATOR_HOST": host}
    async with Pool.connect(url) as bus:
        job = asyncio.create_task(mirror_of(CurrentSettings(load(env)), bus, MirrorMetrics(), Untraced()).run())
        try:
            yield
        finally:
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)


async def run(rows: int, away: float) -> list[str]:
    """Measures all of it; lines of a table."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder))
        cluster = stack.start_postgres()
        db = None
        try:
            await stack.prepare(cluster)
            db = await asyncpg.connect(cluster.url())
            await set_codecs(db)
            double = Watched()
            async with pubsub(double), mirroring(cluster.url("atlas_worker"), double.host):
                await emit(db, 50)
                await asyncio.sleep(3)
                await until_sent(db)

                began = time.monotonic()
                await emit(db, rows // 2)
                await until_sent(db)
                rate = rows / (time.monotonic() - began)
                lines.append(f"| {rows} rows at once | {rate:.0f} rows/s |")
                print(lines[-1], flush=True)

                # one task every 20 ms, and what its commit took to reach the topic
                began_at = await db.fetchval("select clock_timestamp()")
                for _ in range(min(500, rows // 4)):
                    await emit(db, 1)
                    await asyncio.sleep(0.02)
                await until_sent(db)
                found = await db.fetch("select event_id, created_at from public.architect_out where created_at >= $1", began_at)
                waits = [(double.came[str(row["event_id"])] - row["created_at"].timestamp()) * 1000 for row in found]
                quick = f"p50 {percentile(waits, 0.5):.0f} ms, p99 {percentile(waits, 0.99):.0f} ms"
                lines.append(f"| commit to publish, a task every 20 ms, mirror alone (it polls) | {quick} |")
                print(lines[-1], flush=True)

                # the topic is away; rows come all the while
                double.fail = lambda _request: grpc.StatusCode.UNAVAILABLE
                before, end, written = len(double.came), time.monotonic() + away, 0
                while time.monotonic() < end:
                    await emit(db, 5)
                    written += 10
                    await asyncio.sleep(0.1)
                waiting = await db.fetchval("select count(*) from atlas.outbox where state <> 'sent'")
                double.fail = lambda _request: None
                back = time.monotonic()
                while len(double.came) == before:
                    await asyncio.sleep(0.01)
                noticed = time.monotonic() - back
                await until_sent(db)
                took = time.monotonic() - back
                lost = written - (len(double.came) - before)
                lines.append(
                    f"| the topic away for {away:.0f} s while {written} rows came | {lost} lost; noticed {noticed:.1f} s after it was back, "
                    f"{waiting} rows caught up in {took:.1f} s ({waiting / max(took - noticed, 0.001):.0f} rows/s) |"
                )
                rejected = await db.fetchval("select max(rejections) from atlas.outbox")
                wrong = sum(1 for seen in double.order.values() if seen != ["in_progress", "completed"])
                lines.append(f"| tasks whose events came out of order, of {len(double.order)} | {wrong} |")
                lines.append(f"| rejections counted against a row for it | {rejected} |")
                print("\n".join(lines[-3:]), flush=True)
        finally:
            if db is not None:
                await db.close()
            stack.postgres.stop("immediate")
    return lines


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mirror", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--away", type=float, default=60)
    parser.add_argument("--json", action="store_true", help="print the lines as JSON, and write no report")
    options = parser.parse_args()
    lines = asyncio.run(run(options.rows, options.away))
    if options.json:
        print(json.dumps(lines))
        return
    report = HEAD.format(
        rows=options.rows, away=f"{options.away:g}", date=time.strftime("%Y-%m-%d"), cores=os.cpu_count(),
        python=platform.python_version(), lines="\n".join(lines),
    )  # fmt: skip
    (ROOT / "docs" / "benchmarks_mirror.md").write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
