"""One attempt as a pipeline: claimed, answered, completed or failed; around it stops, metrics and money."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from atlas.architect.answer import Architect
from atlas.architect.prompt import InputTooLarge
from atlas.architect.run import Run
from atlas.batch import Batcher
from atlas.errors import AtlasError, DatabaseDown, LeaseLost, RefusedError
from atlas.llm.errors import BadRequest, CallHeld, ContextOverflow, ModelError, Pending, Refused, ResponseGone, Returned
from atlas.llm.port import Generator
from atlas.logs import about
from atlas.metrics.worker import Metrics
from atlas.task import Completion, JsonObject, QuestionBack, Usage
from atlas.text import clean
from atlas.tracing import names
from atlas.tracing.port import Tracer
from atlas.worker.control import Controller
from atlas.worker.leases import Leases, Stop
from atlas.worker.ports import Queue
from atlas.worker.progress import ProgressWriter

log = logging.getLogger("atlas.worker.attempt")


def kind_of(error: ModelError) -> str:
    """How atlas.fail_task treats what upstream did: as the task's own failure, or as nobody's."""
    if isinstance(error, CallHeld):
        return "held"
    if isinstance(error, Pending):
        return "response"
    if isinstance(error, ResponseGone):
        # settled already; a new attempt begins with a run's whole budget
        return "released"
    if isinstance(error, (BadRequest, ContextOverflow)):
        return "final"
    return "outage" if error.outage else "own"


class Attempts:
    """Runs attempts. replied is called when replies were committed."""

    def __init__(
        self, *, queue: Queue, architect: Architect, generator: Generator, control: Controller, progress: ProgressWriter,
        leases: Leases, metrics: Metrics, tracer: Tracer, replied: Callable[[], None],
    ) -> None:  # fmt: skip
        self._queue = queue
        self._architect = architect
        self._generator = generator
        self._control = control
        self._progress = progress
        self._leases = leases
        self._metrics = metrics
        self._tracer = tracer
        self._replied = replied
        self._complete: Batcher[Completion, bool] = Batcher(self._complete_batch)

    async def run_task(self, run: Run) -> str:
        """One attempt, from claim to its end. Answers how it ended."""
        task = run.task
        try:
            if task.cancel_requested:
                await self._stopped(run, "cancelled")
                return "cancelled"
            if task.kind == "control":
                completion: Completion | QuestionBack = await self._control.execute(task)
            else:
                completion = await self._architect.answer(run)
            if isinstance(completion, QuestionBack):
                await self._progress.flush([task.attempt_id])
                await self._queue.ask_back(completion.attempt_id, completion.content, completion.metadata, completion.usages)
                self._count(run)
                return "waiting"
            await self._store(completion)
            self._count(run)
        except Returned as error:
            log.info("task %s waits: %s", task.task_id, error)
            return "waiting"
        except InputTooLarge as error:
            return await self._fail(run, "input_too_large", str(error), "final")
        except Refused as error:
            return await self._fail(run, error.code, str(error), "final" if error.code == "no_model" else "budget")
        except ModelError as error:
            ended = await self._fail(run, error.code, str(error), kind_of(error), error.retry_after)
            # no model was called: it only waited
            return "waiting" if error.code == "breaker_open" and not run.usages else ended
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

    async def run(self, run: Run) -> None:
        """Everything around a task that is not the task: metrics, stops, failures."""
        with about(task_id=run.task.task_id, attempt_id=run.task.attempt_id):
            await self._run(run)

    async def _run(self, run: Run) -> None:
        began = time.monotonic()
        attempt = run.task.attempt_id
        result = "failed"
        name, attributes = names.attempt(run.task)
        run.span = self._tracer.start(name, kind="consumer", parent=run.task.metadata.get("traceparent"), attributes=attributes)
        running = self._leases[attempt]
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
            self._leases.end(attempt)
            self._metrics.ended(result, time.monotonic() - began)
            if run.span.recording:
                await self._trace(run, result)

    async def _trace(self, run: Run, result: str) -> None:
        """Hands over the spans of an attempt that has ended, with what its calls have cost."""
        run.span.stop()
        spends = []
        if run.calls:
            try:
                spends = await self._queue.attempt_spend(run.task.attempt_id)
            except AtlasError as error:
                log.info("the trace of %s is without its cost: %s", run.task.attempt_id, error)
        for spend in spends:
            if spend.call in run.calls and spend.usd is not None:
                run.calls[spend.call].add({names.COST: float(spend.usd), names.KNOWN: spend.known})
        for span in run.calls.values():
            span.finish()
        costs = [spend.usd for spend in spends if spend.usd is not None]
        run.span.add({names.OUTCOME: result} | ({names.COST: float(sum(costs))} if costs else {}))
        if result in ("failed", "dead_lettered", "lost"):
            run.span.fail(result)
        run.span.finish()

    async def _store(self, completion: Completion) -> None:
        # what is pending stands in the reply; and a part that is on its way while the attempt ends says nothing of its lease
        self._progress.forget(completion.attempt_id)
        running = self._leases[completion.attempt_id]
        running.storing = asyncio.ensure_future(self._complete.submit(completion))
        if not await asyncio.shield(running.storing):
            raise LeaseLost(f"attempt {completion.attempt_id} is somebody else's now")

    async def _complete_batch(self, items: Sequence[Completion]) -> list[bool]:
        held = await self._queue.complete_tasks([item.as_json() for item in items])
        self._replied()
        return [item.attempt_id in held for item in items]

    async def _fail(self, run: Run, code: str, message: str, kind: str, retry_after: float | None = None) -> str:
        log.warning("task %s: %s (%s)", run.task.task_id, message, code)
        ended = await asyncio.shield(
            self._queue.fail_task(
                run.task.attempt_id, code=code, message=clean(message), kind=kind, retry_after=retry_after, usages=run.usages
            )
        )
        self._count(run)
        return ended

    def _count(self, run: Run, stopped: Usage | None = None) -> None:
        """Counts what the end of the attempt has settled. stopped: what its open call had used when it was stopped."""
        if run.finished is not None:
            self._metrics.settled(run.finished.model, run.finished.usage)
        if stopped is not None:
            self._metrics.settled(run.open_model, stopped)

    async def _stopped(self, run: Run, why: Stop) -> None:
        """The call of a stopped task was closed; now its money and its state."""
        if why == "lost":
            self._metrics.lease_losses.inc()
            log.warning("task %s: the lease is lost, its call was stopped", run.task.task_id)
            return
        try:
            if why == "shutdown":
                await self._queue.fail_task(
                    run.task.attempt_id, code="shutdown", message="the worker was stopped", kind="released",
                    usages=run.usages,
                )  # fmt: skip
                self._count(run)
                return
            usage = None
            usages: JsonObject = dict(run.usages)
            inherited = run.task.inherited
            response = run.open_response or (inherited.response_id if inherited and run.open_call is None else None)
            if response is not None:
                usage = await self._cancel_response(response)
                if usage is not None:
                    usages[str(run.open_call or 0)] = usage.as_json() | {"response_id": response}
            if why == "adopted":
                await self._queue.fail_task(
                    run.task.attempt_id, code="adopted", message="another call of this task was answered first",
                    kind="released", usages=usages,
                )  # fmt: skip
            else:
                await self._queue.cancel_task(run.task.task_id, run.task.attempt_id, usages)
            self._count(run, usage)
        except LeaseLost as error:
            log.warning("%s", error)

    async def _cancel_response(self, response_id: str) -> Usage | None:
        try:
            async with asyncio.timeout(20):
                return await self._generator.cancel(response_id)
        except (ModelError, TimeoutError) as error:
            log.warning("cannot confirm that %s is cancelled: %s", response_id, error)
            return None
