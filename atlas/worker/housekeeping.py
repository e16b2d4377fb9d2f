"""What a worker does for the whole fleet, every so often: lost leases, holds that end, responses that nobody reads any more."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

from atlas.backoff import jittered
from atlas.errors import DatabaseDown, RefusedError
from atlas.llm.errors import ModelError, ResponseGone
from atlas.llm.port import Generator
from atlas.llm.watch import ModelWatch
from atlas.metrics.worker import Metrics
from atlas.task import AttemptId, JsonObject, Usage

log = logging.getLogger("atlas.worker.housekeeping")


class Upkeep(Protocol):
    """What housekeeping asks of Postgres: the SQL functions of these names."""

    async def release_expired(self) -> int:
        """Puts tasks of lost workers back; says how many."""

    async def end_holds(self) -> int:
        """Ends the holds whose time is over; says how many."""

    async def take_orphans(self) -> list[tuple[int, AttemptId, str]]:
        """Calls whose response no attempt reads any more: spend id, attempt, response."""

    async def record_usage(self, spend_id: int, attempt: AttemptId, usage: Usage | None) -> None:
        """Settles a call."""

    async def measure_models(self) -> int:
        """Measures how long replies usually are."""

    async def queue_metrics(self) -> JsonObject:
        """atlas.queue_metrics in SQL."""

    async def watch_audit(self) -> int:
        """Checks the newest rows of the audit, unless another worker has done so lately; says how many do not fit."""

    async def trim_history(self) -> JsonObject:
        """Trims some of what the retention no longer keeps: {"tasks", "texts", "parts"}, a number each."""

    async def trim_prompt_texts(self) -> int:
        """Removes texts that no prompt has any more; says how many."""

    async def watch_ledger(self) -> JsonObject:
        """Proves the books, unless another worker has done so lately: {"wrong": rows, "rows": those found now}."""


class Housekeeping:
    """Rounds of a worker.

    chain_is_down says whether no model answers. woken is called when tasks came back, observed with what the queue says.
    """

    def __init__(
        self, upkeep: Upkeep, generator: Generator, watch: ModelWatch, metrics: Metrics,
        chain_is_down: Callable[[], Awaitable[bool]], *, lease: float, hold: float,
        woken: Callable[[], None], observed: Callable[[JsonObject], None],
    ) -> None:  # fmt: skip
        self._upkeep = upkeep
        self._generator = generator
        self._watch = watch
        self._metrics = metrics
        self._chain_is_down = chain_is_down
        self._lease = lease
        self._hold = hold
        self._woken = woken
        self._observed = observed

    def rounds(self) -> list[tuple[Callable[[], Awaitable[None]], float]]:
        """What is done, and every how many seconds."""
        return [
            (self.release_expired, self._lease / 4),
            (self.end_holds, max(0.5, min(15.0, self._hold / 4))),
            (self.settle_orphans, min(10.0, self._lease)),
            (self._watch.probe_open, 1.0),
            (self.read_lifecycle, 600.0),
            (self.measure, 60.0),
            (self.observe, 5.0),
            (self.check_books, 60.0),
            (self.check_audit, 300.0),
            (self.trim, 60.0),
            (self.trim_prompts, 21_600.0),
        ]

    async def every(self, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Does something forever; a failed round is counted, and the next one comes."""
        while True:
            try:
                await work()
            except (DatabaseDown, RefusedError) as error:
                self._metrics.housekeeping_errors.inc()
                log.error("%s: %s", work.__name__.strip("_"), error)
            await asyncio.sleep(jittered(seconds))

    async def release_expired(self) -> None:
        released = await self._upkeep.release_expired()
        if released:
            self._metrics.released.inc(released)
            log.warning("%d tasks of lost workers are back in the queue", released)
            self._woken()

    async def end_holds(self) -> None:
        ended = await self._upkeep.end_holds()
        if ended:
            log.warning("%d calls that were sent were never heard of: their holds have ended", ended)
            self._woken()

    async def settle_orphans(self) -> None:
        """Responses whose task is over, or has gone on with another: stopped, and settled with what they used."""
        for spend_id, attempt, response in await self._upkeep.take_orphans():
            try:
                async with asyncio.timeout(20):
                    usage = await self._generator.cancel(response)
            except ResponseGone:
                usage = None
            except (ModelError, TimeoutError) as error:
                log.info("cannot ask what became of %s: %s", response, error)
                continue
            await self._upkeep.record_usage(spend_id, attempt, usage)

    async def read_lifecycle(self) -> None:
        await self._watch.read_lifecycle(datetime.now(UTC).date())

    async def measure(self) -> None:
        await self._upkeep.measure_models()

    async def observe(self) -> None:
        found = await self._upkeep.queue_metrics()
        self._metrics.observe_queue(found)
        self._metrics.chain_down.set(1 if await self._chain_is_down() else 0)
        self._observed(found)

    async def check_books(self) -> None:
        books = await self._upkeep.watch_ledger()
        self._metrics.books_wrong.set(books["wrong"])
        for row in books["rows"][:20]:
            log.error("the books disagree: %(problem)s: %(subject)s: %(expected)s expected, %(found)s found", row)

    async def trim(self) -> None:
        """Batch after batch, with rests, so that nothing else waits for long."""
        total: Counter[str] = Counter()
        while any((trimmed := await self._upkeep.trim_history()).values()):
            total.update(trimmed)
            self._metrics.trimmed(trimmed)
            await asyncio.sleep(0.05)
        if total["tasks"] or total["texts"]:
            log.info("retention: %d tasks trimmed, the texts of %d erased", total["tasks"], total["texts"])

    async def trim_prompts(self) -> None:
        if trimmed := await self._upkeep.trim_prompt_texts():
            log.info("%d texts of prompts trimmed", trimmed)

    async def check_audit(self) -> None:
        broken = await self._upkeep.watch_audit()
        self._metrics.audit_broken.set(broken)
        if broken:
            log.error("%d rows of the audit do not fit: see `atlas audit verify`", broken)
