"""The tasks under way in a worker, and their leases: extended while they run, given up when they are lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from atlas.architect.run import Run
from atlas.errors import DatabaseDown, RefusedError
from atlas.metrics.worker import Metrics
from atlas.task import AttemptId
from atlas.worker.ports import Queue

log = logging.getLogger("atlas.leases")

Stop = Literal["lost", "cancelled", "adopted", "shutdown"]


@dataclass(slots=True, kw_only=True)
class RunningTask:
    """A task under way. Mutable: why it was stopped, and until when its lease is known to hold."""

    run: Run
    job: asyncio.Task[None]
    holds_until: float
    stop: Stop | None = None
    storing: asyncio.Future[bool] | None = None
    """The reply on its way into Postgres: from here on nothing takes it back."""


class Leases:
    """What runs, by attempt. lease: seconds."""

    def __init__(self, queue: Queue, worker_id: UUID, metrics: Metrics, *, lease: float) -> None:
        self._queue = queue
        self._worker_id = worker_id
        self._metrics = metrics
        self._lease = lease
        self._running: dict[AttemptId, RunningTask] = {}
        self._look = asyncio.Event()

    def __len__(self) -> int:
        return len(self._running)

    def __getitem__(self, attempt: AttemptId) -> RunningTask:
        return self._running[attempt]

    def jobs(self) -> list[asyncio.Task[None]]:
        return [running.job for running in self._running.values()]

    def count(self, kind: str) -> int:
        """How many of a kind (chat, control) run."""
        return sum(1 for running in self._running.values() if running.run.task.kind == kind)

    def begin(self, run: Run, job: asyncio.Task[None]) -> None:
        holds_until = time.monotonic() + self._lease
        self._running[run.task.attempt_id] = RunningTask(run=run, job=job, holds_until=holds_until)
        self._metrics.running.set(len(self._running))

    def end(self, attempt: AttemptId) -> None:
        self._running.pop(attempt, None)
        self._metrics.running.set(len(self._running))

    def stop(self, attempts: Iterable[AttemptId], why: Stop) -> None:
        """Stops the calls of tasks at once."""
        for attempt in list(attempts):
            running = self._running.get(attempt)
            if running is not None and running.stop is None:
                running.stop = why
                running.job.cancel()

    def lost(self, attempt: AttemptId) -> None:
        """An attempt turned out to be somebody else's."""
        self.stop([attempt], "lost")

    def stop_all(self, why: Stop) -> None:
        self.stop(self._running, why)

    def look(self) -> None:
        """Somebody asked for a cancellation: look now."""
        self._look.set()

    async def keep(self) -> None:
        """Extends the leases of what runs, forever; stops what is no longer ours, or was asked to be cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._lease / 3):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            began = time.monotonic()
            try:
                held = await self._queue.extend_leases(self._worker_id, list(self._running), lease=self._lease)
            except (DatabaseDown, RefusedError) as error:
                log.error("cannot extend leases: %s", error)
                held = {}
            for attempt, lease in held.items():
                running = self._running.get(attempt)
                if running is None:
                    continue
                if not lease.held:
                    self.stop([attempt], "lost")
                elif lease.cancelled:
                    self.stop([attempt], "cancelled")
                elif lease.adopted:
                    self.stop([attempt], "adopted")
                running.holds_until = began + self._lease
            if time.monotonic() - began > self._lease / 3:
                # Postgres was away for a while: what is known of the leases is old
                self._look.set()

    async def watch(self) -> None:
        """Stops what runs beyond its lease while Postgres is away: another worker may have it by then."""
        while True:
            await asyncio.sleep(min(1.0, self._lease / 10))
            now = time.monotonic()
            self.stop([attempt for attempt, running in self._running.items() if running.holds_until < now], "lost")
