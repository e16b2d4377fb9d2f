"""What a fault is tried on: a server, a fleet of real workers, a provider behind a way that breaks, a queue that is never empty."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from atlas.database import migrate
from atlas.database.pool import set_codecs
from atlas.ids import new_id
from atlas.local.postgres import Cluster, free_port
from atlas.local.stack import Stack
from benchmarks.databases import AWAY
from tests.doubles.openai import OpenAIDouble
from tests.doubles.way import Way
from tests.support.core import ADR, ROOT, clean_environment

DEPTH = 150
"""Questions that wait at least: the fleet is what limits the rate."""
STREAM: dict[str, Any] = {"text": ADR, "chunk": 60, "delay": 0.05}
"""A reply of some 0.3 s."""


@dataclass(kw_only=True)
class Arena:
    """A run. seconds: how long each part of it takes. Mutable: the fleet."""

    stack: Stack
    cluster: Cluster
    openai: OpenAIDouble
    way: Way
    folder: Path
    seconds: float
    fleet: list[subprocess.Popen[bytes]] = field(default_factory=list)
    environments: list[dict[str, str]] = field(default_factory=list)
    depth: int = DEPTH
    """Questions that wait at least."""
    asked: set[UUID] = field(default_factory=set)
    """Questions whose insert was confirmed."""
    undelivered: Callable[[asyncpg.Connection], Awaitable[int]] | None = None
    """Counts the events that did not arrive, where somebody is to get them."""
    samples: list[tuple[float, int]] = field(default_factory=list)
    """When it was looked, and how many questions were answered then."""
    url: str = ""
    """Where workers find Postgres; empty: directly."""

    # --- the fleet ----------------------------------------------------------------------------------------------

    def start(self, count: int = 1, **settings: object) -> None:
        """Starts workers."""
        for _ in range(count):
            env = clean_environment() | {
                "DATABASE_URL": self.url or self.cluster.url("atlas_worker"), "ATLAS_HTTP_PORT": str(free_port()),
                "ATLAS_LEASE_SECONDS": "5", "ATLAS_CONCURRENCY": "16", "ATLAS_MIRROR": "false", "DAILY_TOKEN_BUDGET": "1000000000",
                "OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": self.way.url, "OPENAI_FALLBACK_MODELS": "none",
                "OPENAI_STREAM_IDLE_SECONDS": "3", "ATLAS_HOLD_SECONDS": "8", "ATLAS_HELD_RETRY_SECONDS": "2",
            } | {name.upper(): str(value) for name, value in settings.items()}  # fmt: skip
            self.environments.append(env)
            self.fleet.append(self._process(len(self.fleet), env))

    def _process(self, number: int, env: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"worker{number}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "atlas.main"], env=env, stdout=log, stderr=log, cwd=ROOT)

    def kill(self, number: int) -> None:
        """As a machine that is gone."""
        self.fleet[number].kill()
        self.fleet[number].wait()

    def restart(self, number: int) -> None:
        self.fleet[number] = self._process(number, self.environments[number])

    def send(self, number: signal.Signals) -> None:
        """A signal for every worker."""
        for process in self.fleet:
            process.send_signal(number)

    # --- the queue ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[asyncpg.Connection]:
        db = await asyncpg.connect(self.cluster.url(), timeout=5, command_timeout=10)
        try:
            await set_codecs(db)
            yield db
        finally:
            db.terminate()

    async def produce(self, stopping: asyncio.Event) -> None:
        """Keeps the queue filled, and looks what was answered."""
        while not stopping.is_set():
            try:
                async with self.operator() as db:
                    while not stopping.is_set():
                        done, waiting = await db.fetchrow(
                            "select count(*) filter (where state = 'completed'), count(*) filter (where ready) from atlas.task"
                        )
                        self.samples.append((time.monotonic(), done))
                        if waiting < self.depth:
                            self.asked |= await self._ask(db, self.depth)
                        await asyncio.sleep(0.25)
            except AWAY:
                await asyncio.sleep(0.1)

    @staticmethod
    async def _ask(db: asyncpg.Connection, count: int) -> set[UUID]:
        ids = {new_id() for _ in range(count)}
        await db.execute(
            "insert into public.architect_in (data) select jsonb_build_object('task_id', id, 'role', 'architect', "
            "'msg_type', 'chat', 'content', 'question ' || id) from unnest($1::uuid[]) id", list(ids),
        )  # fmt: skip
        return ids

    # --- what is seen -------------------------------------------------------------------------------------------

    def rate(self, since: float, until: float) -> float:
        """Answers a second between two moments; 0 where nobody could look."""
        inside = [(at, done) for at, done in self.samples if since <= at <= until]
        if len(inside) < 2 or inside[-1][0] == inside[0][0]:
            return 0.0
        return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])

    def usual(self, since: float, until: float) -> float:
        """The median of the rates of windows of 1.5 s, one each second."""
        return statistics.median(self.rate(since + n, since + n + 1.5) for n in range(max(1, int(until - since) - 1)))

    @staticmethod
    async def pick_up(db: asyncpg.Connection, since: datetime, until: datetime) -> float | None:
        """Seconds within which 95 % of the questions of a time were claimed for the first time; None where there were none."""
        found = await db.fetchval(
            "select percentile_cont(0.95) within group (order by extract(epoch from a.started_at - t.queued_at)) "
            "from atlas.task t join atlas.attempt a on a.task_id = t.id and a.number = 1 where t.queued_at between $1 and $2", since, until,
        )  # fmt: skip
        return None if found is None else float(found)

    async def unanswered(self, db: asyncpg.Connection) -> int:
        """Questions that were confirmed, or are there, and have no reply."""
        answered = await db.fetch(
            "select task_id from public.architect_out where data #>> '{metadata,status}' = 'completed' and data ->> 'msg_type' = 'spec'"
        )
        there = await db.fetch("select id from atlas.task")
        return len((self.asked | {row["id"] for row in there}) - {row["task_id"] for row in answered})

    async def drained(self, patience: float = 120) -> dict[str, int]:
        """Waits until all that was asked has ended; the states in the end."""
        end = time.monotonic() + patience
        while True:
            with contextlib.suppress(*AWAY):
                async with self.operator() as db:
                    rows = await db.fetch(
                        "select coalesce(wait_reason, state) as state, count(*) as n from atlas.task group by 1"
                    )
                    states = {row["state"]: row["n"] for row in rows}
                    left = await db.fetchval("select count(*) from atlas.spend where state <> 'settled'")
                    if time.monotonic() > end or (set(states) <= {"completed", "failed", "dead_lettered"} and not left):
                        return states
            await asyncio.sleep(0.5)

    def paid_again(self) -> int:
        """Responses of the provider beyond one per question: all that it may ask money for, so those too that were cut short."""
        made = Counter(response["metadata"]["task"] for response in self.openai.responses() if response["status"] != "failed")
        return sum(count - 1 for count in made.values())


@asynccontextmanager
async def arena(
    seconds: float, home: Path | None = None, tuned: Callable[[Cluster], None] | None = None
) -> AsyncIterator[Arena]:
    """A fresh run. home: where the server lives; tuned: what is done with the server before it serves."""
    with (
        tempfile.TemporaryDirectory(dir="/tmp", prefix="atlas-chaos-") as name,
        OpenAIDouble() as openai,
        Way(openai.port) as way,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        stack = Stack(home or folder / "stack")
        cluster = stack.start_postgres()
        if tuned is not None:
            tuned(cluster)
        openai.plan(**STREAM)
        found = Arena(stack=stack, cluster=cluster, openai=openai, way=way, folder=folder, seconds=seconds)
        try:
            await stack.prepare(cluster)
            async with found.operator() as db:
                await migrate.seed(db)
                await db.execute("select atlas.set_budget('global', '{\"daily\": null}')")
            yield found
        finally:
            for process in found.fleet:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGCONT)
                process.kill()
                process.wait()
            stack.postgres.stop("immediate")


Fault = AbstractAsyncContextManager[None]
"""Entered when it begins; yields when it is over."""
Started = tuple[Arena, Callable[[], Fault]]
"""An arena with its fleet, and the fault that is tried on it."""
