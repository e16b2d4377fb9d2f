"""The worker: claims tasks, runs each in its own asyncio task, hands back what it cannot finish."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from atlas import control
from atlas.adapters.postgres import Bus
from atlas.architect import Architect
from atlas.batch import Batcher
from atlas.control import Server
from atlas.errors import AtlasError, DatabaseDown, LeaseLost, RefusedError
from atlas.generation import Run
from atlas.hints import Hints
from atlas.leases import Leases, Stop
from atlas.limits import CONTROL_SLOTS, Limits
from atlas.metrics import Metrics
from atlas.model_errors import BadRequest, ContextOverflow, ModelError, Refused, ResponseGone, Returned
from atlas.ports import Generator
from atlas.progress import ProgressWriter
from atlas.prompt import InputTooLarge
from atlas.reading import clean
from atlas.task import ClaimedTask, Completion, Usage

log = logging.getLogger("atlas.worker")


class Worker:
    """One worker. `run` works until it is cancelled; `drain` finishes or hands back what is under way."""

    def __init__(
        self,
        *,
        worker_id: UUID,
        bus: Bus,
        architect: Architect,
        generator: Generator,
        progress: ProgressWriter,
        metrics: Metrics,
        limits: Limits,
        server: Server,
        hints: Hints,
        replied: Callable[[], None],
    ) -> None:
        self.worker_id = worker_id
        self._bus = bus
        self._architect = architect
        self._generator = generator
        self._progress = progress
        self._metrics = metrics
        self._limits = limits
        self._server = server
        self._complete: Batcher[Completion, bool] = Batcher(self._complete_batch)
        self.leases = Leases(bus, worker_id, metrics, lease=limits.lease)
        self.hints = hints
        self._replied = replied
        self._slot = asyncio.Event()
        self._idle = False

    def wake(self, source: str, cancel: bool = False) -> None:
        """A hint from outside: sets events, and nothing more."""
        self.hints.take(source)
        if cancel:
            self.leases.look()

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a wake-up."""
        return self._idle

    # --- claiming ---------------------------------------------------------------------------------------------

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Claims and starts tasks, for ever.

        After a claim that brought something the worker looks again by itself, every few milliseconds, and says that it is
        busy: no NOTIFY is sent, and none is needed. Only when nothing came for a while does it say that it is idle, and
        looks once more, since an insert may have been on its way.
        """
        last_work = time.monotonic()
        quiet = 0
        look_first = False
        while True:
            self.hints.clear()
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
                await self._first(self._slot.wait(), self.hints.wait())
                look_first = not self._slot.is_set()
            elif time.monotonic() - last_work < self._limits.hot_for:
                await self._pause(self._limits.hot_poll)
            elif not self._idle:
                await self._mark("idle")
            else:
                # a few looks more, further and further apart, for inserts that still saw us busy; then only a wake-up counts
                quiet = min(quiet + 1, 6)
                await self._first(
                    self.hints.wait(), self._pause(min(0.01 * 4**quiet if quiet < 5 else 3600, await self._due()))
                )
                # alone, a claim at once is quickest; in a fleet, whoever is first takes it, and the others only look
                await self._pause(self.hints.spread() if self.hints.came else 0)
                look_first = not self.hints.came or self.hints.others > 0

    async def _claim(self, free: int, controls: int, *, look_first: bool) -> list[ClaimedTask]:
        if free <= 0 and controls <= 0:
            return []
        try:
            if look_first and not await self._bus.has_work(chats=free > 0):
                self._metrics.claims.labels(result="spared").inc()
                self.hints.found_nothing()
                return []
        except (DatabaseDown, RefusedError) as error:
            log.error("cannot look for work: %s", error)
            await self._pause(1.0)
            return []
        claiming = asyncio.ensure_future(
            self._bus.claim_tasks(self.worker_id, chats=max(0, free), controls=max(0, controls), lease=self._limits.lease)
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
        self.hints.count_missed(tasks, idle=self._idle)
        now = datetime.now(UTC)
        for task in tasks:
            if task.attempt == 1:
                self._metrics.pick_up.observe(max(0.0, (now - task.queued_at).total_seconds()))
        return tasks

    async def _hand_back(self, claiming: asyncio.Future[list[ClaimedTask]]) -> None:
        with contextlib.suppress(AtlasError, TimeoutError):
            async with asyncio.timeout(2):
                for task in await claiming:
                    await self._bus.fail_task(
                        task.attempt_id, code="shutdown", message="the worker was stopped", kind="released"
                    )

    async def _due(self) -> float:
        """Seconds until a task that waits now is due; far away where none does."""
        try:
            due = await self._bus.next_due()
        except (DatabaseDown, RefusedError) as error:
            log.error("cannot ask what is due: %s", error)
            return 5.0
        return 3600.0 if due is None else max(0.05, due) + self.hints.spread()

    async def _mark(self, state: Literal["busy", "idle"]) -> None:
        if self._idle != (state == "idle"):
            try:
                self.hints.others = await self._bus.mark_worker(self.worker_id, state)
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
        job = group.create_task(self._guard(run), name=f"task {task.task_id}")
        self.leases.begin(run, job)

    # --- one task ---------------------------------------------------------------------------------------------

    async def _guard(self, run: Run) -> None:
        """Everything around a task that is not the task: metrics, stops, failures."""
        began = time.monotonic()
        attempt = run.task.attempt_id
        result = "failed"
        running = self.leases[attempt]
        try:
            try:
                result = await self.run_task(run)
            except asyncio.CancelledError:
                if running.stop is None:
                    raise
                result = running.stop
                if running.storing is not None and await running.storing:
                    result = "completed"
                else:
                    await self._stopped(run, running.stop)
        except LeaseLost as error:
            result = "lost"
            self._metrics.lease_losses.inc()
            log.warning("%s", error)
        except Exception as error:
            # whatever it is, it must not take the other tasks with it: the lease runs out, and another attempt begins
            result = "lost"
            log.exception("task %s is left to its lease (%s)", run.task.task_id, type(error).__name__)
        finally:
            self._progress.forget(attempt)
            self.leases.end(attempt)
            self._metrics.run_seconds.labels(result=result).observe(time.monotonic() - began)
            self._slot.set()

    async def run_task(self, run: Run) -> str:
        """One attempt, from claim to its end. Answers how it ended."""
        task = run.task
        try:
            if task.cancel_requested:
                await self._stopped(run, "cancelled")
                return "cancelled"
            if task.kind == "control":
                completion = await control.execute(task, self._bus, self._server, self._metrics)
            else:
                completion = await self._architect.answer(run)
            await self._store(completion)
            if run.finished:
                self._metrics.settled(completion.model or "none", run.finished.usage)
        except Returned as error:
            log.info("task %s waits: %s", task.task_id, error)
            return "waiting"
        except ResponseGone as error:
            # settled already; a new attempt begins with a run's whole budget
            return await self._fail(run, "response_gone", str(error), "released")
        except (Refused, InputTooLarge) as error:
            return await self._fail(run, getattr(error, "code", "input_too_large"), str(error), "final")
        except ModelError as error:
            kind = (
                "outage"
                if error.outage and error.usage is not None
                else "final"
                if isinstance(error, (BadRequest, ContextOverflow))
                else "own"
            )
            return await self._fail(run, error.code, str(error), kind, error.retry_after)
        except LeaseLost:
            raise
        except RefusedError as error:
            return await self._fail(run, getattr(error, "sqlstate", "refused"), error.line, "final")
        except DatabaseDown:
            raise
        except Exception as error:
            # a defect of ours: the task is tried again, and dead-lettered in the end
            log.exception("task %s", task.task_id)
            return await self._fail(run, "internal", f"{type(error).__name__}: {error}", "own")
        return "completed"

    async def _store(self, completion: Completion) -> None:
        # what is pending stands in the reply; and a part that is on its way while the attempt ends says nothing of its lease
        self._progress.forget(completion.attempt_id)
        running = self.leases[completion.attempt_id]
        running.storing = asyncio.ensure_future(self._complete.submit(completion))
        if not await asyncio.shield(running.storing):
            raise LeaseLost(f"attempt {completion.attempt_id} is somebody else's now")

    async def _complete_batch(self, items: Sequence[Completion]) -> list[bool]:
        held = await self._bus.complete_tasks([item.as_json() for item in items])
        self._replied()
        return [item.attempt_id in held for item in items]

    async def _fail(self, run: Run, code: str, message: str, kind: str, retry_after: float | None = None) -> str:
        log.warning("task %s: %s (%s)", run.task.task_id, message, code)
        return await asyncio.shield(
            self._bus.fail_task(
                run.task.attempt_id, code=code, message=clean(message), kind=kind, retry_after=retry_after, usages=run.usages
            )
        )

    async def _stopped(self, run: Run, why: Stop) -> None:
        """The call of a stopped task was closed; now its money and its state."""
        if why == "lost":
            self._metrics.lease_losses.inc()
            log.warning("task %s: the lease is lost, its call was stopped", run.task.task_id)
            return
        try:
            if why == "shutdown":
                await self._bus.fail_task(
                    run.task.attempt_id, code="shutdown", message="the worker was stopped", kind="released",
                    usages=run.usages,
                )  # fmt: skip
                return
            usages = dict(run.usages)
            carried = run.task.carried
            response = run.open_response or (carried.response_id if carried and run.open_call is None else None)
            if response is not None:
                usage = await self._cancel_response(response)
                if usage is not None:
                    usages[str(run.open_call or 0)] = usage.as_json()
            await self._bus.cancel_task(run.task.task_id, run.task.attempt_id, usages)
        except LeaseLost as error:
            log.warning("%s", error)

    async def _cancel_response(self, response_id: str) -> Usage | None:
        try:
            async with asyncio.timeout(20):
                return await self._generator.cancel(response_id)
        except (ModelError, TimeoutError) as error:
            log.warning("cannot confirm that %s is cancelled: %s", response_id, error)
            return None

    # --- the end ----------------------------------------------------------------------------------------------

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
                await self._bus.mark_worker(self.worker_id, "stopped")
        except (AtlasError, TimeoutError) as error:
            log.warning("cannot say that this worker stopped: %s", error)
