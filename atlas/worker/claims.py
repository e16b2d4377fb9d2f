"""A worker: claims tasks while it has free slots, starts an attempt for each, and drains them in the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from atlas.architect.run import Run
from atlas.errors import AtlasError, DatabaseDown, RefusedError
from atlas.metrics.worker import Metrics
from atlas.task import ClaimedTask
from atlas.worker.attempt import Attempts
from atlas.worker.leases import Leases
from atlas.worker.limits import CONTROL_SLOTS, Limits
from atlas.worker.ports import Queue
from atlas.worker.wake_signal import WakeSignal

log = logging.getLogger("atlas.worker")


class Worker:
    """One worker. `run` works until it is cancelled; `drain` finishes or hands back what is under way.

    closed_door answers why no model may be called now, None while one may.
    """

    def __init__(
        self, *, worker_id: UUID, queue: Queue, attempts: Attempts, leases: Leases, metrics: Metrics, limits: Limits,
        wake_signal: WakeSignal, closed_door: Callable[[], Awaitable[str | None]],
    ) -> None:  # fmt: skip
        self.worker_id = worker_id
        self.leases = leases
        self.wake_signal = wake_signal
        self._queue = queue
        self._attempts = attempts
        self._metrics = metrics
        self._limits = limits
        self._closed_door = closed_door
        self._slot = asyncio.Event()
        self._idle = False
        self._deferred_at = float("-inf")

    def wake(self, source: str, cancel: bool = False) -> None:
        """A wake-up from outside: sets events, and nothing more."""
        self.wake_signal.take(source)
        if cancel:
            self.leases.look()

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a wake-up."""
        return self._idle

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Claims and starts tasks, forever.

        After a claim that brought something the worker looks again by itself, every few milliseconds, and says that it is
        busy: no NOTIFY is sent, and none is needed. Only when nothing came for a while does it say that it is idle, and
        looks once more, since an insert may have been on its way.
        """
        last_work = time.monotonic()
        quiet = 0
        look_first = False
        while True:
            self.wake_signal.clear()
            self._slot.clear()
            free = self._limits.concurrency - self.leases.count("chat")
            controls = CONTROL_SLOTS - self.leases.count("control")
            tasks = await self._claim(free, controls, look_first=look_first or free <= 0)
            look_first = True
            for task in tasks:
                self._start(task, group)
            if tasks:
                last_work, quiet = time.monotonic(), 0
                # a claim that got all it asked for has probably left some
                look_first = sum(task.kind == "chat" for task in tasks) < free
                await self._mark("busy")
            elif free <= 0:
                await self._first(self._slot.wait(), self.wake_signal.wait())
                look_first = not self._slot.is_set()
            elif time.monotonic() - last_work < self._limits.hot_for:
                await self._pause(self._limits.hot_poll)
            elif not self._idle:
                await self._mark("idle")
            else:
                # a few looks more, further and further apart, for inserts that still saw us busy; then only a wake-up counts
                quiet = min(quiet + 1, 6)
                due = await self._due()
                await self._first(self.wake_signal.wait(), self._pause(min(0.01 * 4**quiet if quiet < 5 else 3600, due)))
                # alone, a claim at once is quickest; in a fleet, whoever is first takes it, and the others only look
                await self._pause(self.wake_signal.spread() if self.wake_signal.came else 0)
                look_first = not self.wake_signal.came or self.wake_signal.others > 0

    async def _claim(self, free: int, controls: int, *, look_first: bool) -> list[ClaimedTask]:
        if free <= 0 and controls <= 0:
            return []
        try:
            closed = await self._closed_door() if free > 0 else None
            if closed is not None:
                # no question is sent now; what has a response already is claimed all the same
                if time.monotonic() - self._deferred_at < 0.2:
                    return []
                self._deferred_at = time.monotonic()
                await self._queue.defer_upstream(closed)
            if look_first and not await self._queue.has_work(chats=free > 0):
                self._metrics.claims.labels(result="spared").inc()
                self.wake_signal.found_nothing()
                return []
        except (DatabaseDown, RefusedError) as error:
            log.error("cannot look for work: %s", error)
            await self._pause(1.0)
            return []
        claiming = asyncio.ensure_future(
            self._queue.claim_tasks(self.worker_id, chats=max(0, free), controls=max(0, controls), lease=self._limits.lease)
        )
        try:
            tasks = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # what a claim under way brings is handed back, not left to its lease
            await self._hand_back(claiming)
            raise
        except (DatabaseDown, RefusedError) as error:
            log.error("cannot claim: %s", error)
            await self._pause(1.0)
            return []
        self._metrics.claims.labels(result="tasks" if tasks else "empty").inc()
        self.wake_signal.count_missed(tasks, idle=self._idle)
        now = datetime.now(UTC)
        for task in tasks:
            if task.attempt == 1:
                self._metrics.pick_up.observe(max(0.0, (now - task.queued_at).total_seconds()))
        return tasks

    async def _hand_back(self, claiming: asyncio.Future[list[ClaimedTask]]) -> None:
        with contextlib.suppress(AtlasError, TimeoutError):
            async with asyncio.timeout(2):
                for task in await claiming:
                    await self._queue.fail_task(
                        task.attempt_id, code="shutdown", message="the worker was stopped", kind="released"
                    )

    async def _due(self) -> float:
        """Seconds until a task that waits now is due; far away where none does."""
        try:
            due = await self._queue.next_due()
        except (DatabaseDown, RefusedError) as error:
            log.error("cannot ask what is due: %s", error)
            return 5.0
        return 3600.0 if due is None else max(0.05, due) + self.wake_signal.spread()

    async def _mark(self, state: Literal["busy", "idle"]) -> None:
        if self._idle != (state == "idle"):
            try:
                self.wake_signal.others = await self._queue.mark_worker(self.worker_id, state)
            except (DatabaseDown, RefusedError) as error:
                log.error("cannot mark the worker %s: %s", state, error)
                return
            self._idle = state == "idle"

    @staticmethod
    async def _pause(seconds: float) -> None:
        await asyncio.sleep(seconds)

    @staticmethod
    async def _first(*waits: Awaitable[object]) -> None:
        jobs = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for job in jobs:
                job.cancel()

    def _start(self, task: ClaimedTask, group: asyncio.TaskGroup) -> None:
        run = Run(task=task, per_run=task.per_run if task.per_run is not None else self._limits.per_run)
        job = group.create_task(self._attempts.run(run), name=f"task {task.task_id}")
        job.add_done_callback(lambda _job: self._slot.set())
        self.leases.begin(run, job)

    async def drain(self) -> None:
        """Waits for what runs, for as long as the grace lasts; then hands the rest back to the queue."""
        log.info("stopping: %d tasks under way", len(self.leases))
        jobs = self.leases.jobs()
        if jobs:
            await asyncio.wait(jobs, timeout=self._limits.grace)
        self.leases.stop_all("shutdown")
        left = self.leases.jobs()
        if left:
            await asyncio.wait(left, timeout=3)
            for job in left:
                # Postgres is away, or the provider does not answer: the lease does the rest
                job.cancel()
        try:
            async with asyncio.timeout(2):
                await self._queue.mark_worker(self.worker_id, "stopped")
        except (AtlasError, TimeoutError) as error:
            log.warning("cannot say that this worker stopped: %s", error)
