"""A relay carries the outbox to one destination. At least once, in order per task, nothing lost.

It leases rows, sends those of one task in order and those of many tasks at once, and settles what
was confirmed. A destination in trouble opens its breaker (in Postgres, for the whole fleet) and costs no row anything; a row
that is refused three times is a dead letter, and holds back only the later rows of its own task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from atlas.backoff import half_jitter, pause_after
from atlas.batch import Batcher
from atlas.errors import DatabaseDown, RefusedError
from atlas.metrics.mirror import MirrorMetrics
from atlas.mirror.events import Destination, Event, Later, Rejected, Settlement, Unreachable
from atlas.mirror.ports import Outbox, Target
from atlas.text import clean
from atlas.tracing import names
from atlas.tracing.port import UNTRACED, Span, Tracer

log = logging.getLogger("atlas.mirror.relay")

POLLS = ((2.0, 0.05), (10.0, 0.25), (float("inf"), 1.0))
"""(Seconds since the last row, seconds between looks). A worker's own completion is looked at without delay."""


class Relay:
    """Carries the rows of one destination."""

    def __init__(
        self, destination: Destination, target: Target, outbox: Outbox, metrics: MirrorMetrics, *, tracer: Tracer, lease: float
    ) -> None:
        self.destination = destination
        self._target = target
        self._outbox = outbox
        self._metrics = metrics
        self._tracer = tracer
        self._lease = lease
        self._room = target.room
        self._lease_owner = uuid4()
        self._carrying: set[asyncio.Task[None]] = set()
        self._held: dict[int, Event] = {}
        self._woken = asyncio.Event()
        self._settle: Batcher[Settlement, int] = Batcher(self._settle_batch, limit=100)
        self._failed_at = float("-inf")
        self._open_until = float("-inf")
        self._healthy_at = float("-inf")
        self._streak = 0

    def wake(self) -> None:
        """There may be a new row."""
        self._woken.set()

    async def run(self) -> None:
        """Carries rows until it is cancelled; then waits a moment for what is under way, and releases the rest."""
        last = time.monotonic()
        try:
            while True:
                self._woken.clear()
                claimed = time.monotonic()
                events = await self._claim()
                tasks: dict[str, list[Event]] = {}
                for event in events:
                    tasks.setdefault(event.ordering_key, []).append(event)
                for rows in tasks.values():
                    self._carry(rows, claimed)
                now = time.monotonic()
                last = now if events else last
                pause = next(seconds for quiet, seconds in POLLS if now - last < quiet)
                pause = max(pause, min(self._open_until - now, 5.0))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._woken.wait()
        finally:
            await self._leave()

    async def _claim(self) -> list[Event]:
        room = self._room - len(self._held)
        if room <= 0 or time.monotonic() < self._open_until:
            return []
        try:
            events = await self._outbox.claim_outbox(self._lease_owner, self.destination.id, room, self._lease)
        except (DatabaseDown, RefusedError) as error:
            log.error("cannot claim the outbox: %s", error)
            return []
        # a lease of our own that ran out while we still send: one sending is enough
        fresh = [event for event in events if event.id not in self._held]
        self._held |= {event.id: event for event in fresh}
        return fresh

    def _carry(self, events: list[Event], claimed: float) -> None:
        job = asyncio.create_task(self._deliver(events, claimed), name=f"relay {self.destination.name}")
        self._carrying.add(job)
        job.add_done_callback(self._carrying.discard)

    async def _deliver(self, events: list[Event], claimed: float) -> None:
        """The rows of one task, in order; one that does not arrive keeps back the others. claimed: when the leases began."""
        left = list(events)
        try:
            for batch in _batches(events, self._target.limit):
                began = time.monotonic()
                # a call that ended after the lease could be another relay's as well
                if began + self._target.timeout > claimed + self._lease and batch[0] is not events[0]:
                    break
                sent: list[int] = []
                problem = await self._send(batch, sent)
                left = [event for event in left if event.id not in sent]
                if problem is None:
                    await self._settle.submit(Settlement(sent=sent))
                    await self._observe(batch, began)
                    continue
                error, culprit = problem
                left = [event for event in left if event is not culprit]
                settlement = await self._judge(error, culprit, sent, [event.id for event in left], began)
                left = []
                await self._settle.submit(settlement)
                break
            if left:
                await self._settle.submit(Settlement(released=[event.id for event in left]))
        except (DatabaseDown, RefusedError) as error:
            # what was sent is sent again when the lease runs out: receivers dedupe on the event id
            log.error("cannot settle %d rows of the outbox: %s", len(events), error)
        finally:
            for event in events:
                self._held.pop(event.id, None)
            self._woken.set()

    async def _send(self, batch: Sequence[Event], sent: list[int]) -> tuple[Rejected | Later, Event] | None:
        try:
            with contextlib.ExitStack() as stack:
                spans = [stack.enter_context(self._span(event)) for event in batch]
                carried = [replace(event, traceparent=span.traceparent) for event, span in zip(batch, spans, strict=True)]
                await self._target.send(carried)
        except Rejected as error:
            if len(batch) == 1:
                return error, batch[0]
            for event in batch:  # which of them is it?
                problem = await self._send([event], sent)
                if problem is not None:
                    return problem
            return None
        except Later as error:
            return error, batch[0]
        except Exception as error:
            # whatever a receiver makes a library say: its rows must not hang on it
            log.exception("a call to %s", self.destination.name)
            return Unreachable(f"{type(error).__name__}: {error}"), batch[0]
        sent.extend(event.id for event in batch)
        return None

    def _span(self, event: Event) -> Span:
        """The span of a delivery. What belongs to no trace, such as a seal of the audit, begins none."""
        parent = (event.payload.get("metadata") or {}).get("traceparent")
        if not isinstance(parent, str):
            return UNTRACED
        name, attributes = names.delivery(
            self.destination.name, kind=self.destination.kind, event=str(event.event_id), task=event.ordering_key
        )
        return self._tracer.start(name, kind="producer", parent=parent, attributes=attributes)

    async def _judge(
        self, error: Rejected | Later, culprit: Event, sent: list[int], later: list[int], began: float
    ) -> Settlement:
        said = clean(str(error))  # text from outside: what Postgres cannot store would keep the row from being settled
        what = f"{type(error).__name__.lower()}: {said}"
        if isinstance(error, Rejected):
            self._metrics.mirrored(self.destination.name, "rejected")
            log.warning(
                "%s refuses event %s (%s of 3): %s", self.destination.name, culprit.event_id, culprit.rejections + 1, said
            )
            return Settlement(sent=sent, rejected=[{"id": culprit.id, "error": what}], released=later)
        self._metrics.mirrored(self.destination.name, "failed")
        # many calls fail at once when a destination goes: they are one failure
        if isinstance(error, Unreachable) and began > self._failed_at:
            self._failed_at = time.monotonic()
            self._streak = min(self._streak + 1, 4)
            until = await self._outbox.record_destination(self.destination.id, ok=False, error=said, seconds=error.retry_after)
            if until is not None:
                self._open_until = time.monotonic() + max(0.0, (until - datetime.now(UTC)).total_seconds())
            log.warning(
                "%s: %s%s", self.destination.name, said, f"; its breaker is open until {until:%H:%M:%S}" if until else ""
            )
        # the row waits, and longer the longer nothing arrives, so that the next look takes another one
        seconds = max(error.retry_after, pause_after(half_jitter(2, 16), self._streak))
        return Settlement(sent=sent, failed=[{"id": culprit.id, "error": what, "seconds": seconds}], released=later)

    async def _observe(self, events: Sequence[Event], began: float) -> None:
        """A batch arrived."""
        now = datetime.now(UTC)
        for event in events:
            self._metrics.seconds.observe(max(0.0, (now - event.created_at).total_seconds()))
        self._metrics.mirrored(self.destination.name, "sent", len(events))
        self._streak = 0
        if began > self._healthy_at + 5 or self._failed_at > self._healthy_at:
            self._healthy_at = time.monotonic()
            self._open_until = float("-inf")
            await self._outbox.record_destination(self.destination.id, ok=True)

    async def _settle_batch(self, settlements: Sequence[Settlement]) -> list[int]:
        await self._outbox.settle_outbox(self._lease_owner, settlements)
        return [0] * len(settlements)

    async def _leave(self) -> None:
        if self._carrying:
            await asyncio.wait(self._carrying, timeout=3)
        for job in list(self._carrying):
            job.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)
        await self._target.close()


def _batches(events: Sequence[Event], limit: int) -> list[Sequence[Event]]:
    return [events[start : start + limit] for start in range(0, len(events), limit)]
