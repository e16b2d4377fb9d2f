"""What a worker makes of its wake-ups: who was first, how long to wait before it looks, which tasks none announced."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from atlas.metrics.worker import Metrics
from atlas.task import ClaimedTask

OWN = frozenset({"sweep", "release", "realtime_join", "listen_join"})
"""Sources that announce nobody's insert: the worker's own timers, and its looks at what came before it listened."""

LATE = 1.0
"""Seconds after which a ready task that was found without a wake-up counts as missed: Realtime's slowest poll is half of it."""

STEP, WIDEST = 0.015, 0.3
"""Seconds of spread for each other worker, and the most."""


class WakeSignal:
    """An event that wake-ups set, and their bookkeeping. missed is called with a number of tasks that only a sweep found."""

    def __init__(self, metrics: Metrics, missed: Sequence[Callable[[int], None]] = ()) -> None:
        self._metrics = metrics
        self._missed = list(missed)
        self._event = asyncio.Event()
        self._announced = False
        self.others = 0
        """How many other workers there are."""

    def tell(self, missed: Callable[[int], None]) -> None:
        """One more that wants to know of missed tasks."""
        self._missed.append(missed)

    def take(self, source: str) -> None:
        """A wake-up came."""
        self._metrics.wake_ups.labels(source=source).inc()
        if not self._event.is_set():
            self._metrics.wake_ups_first.labels(source=source).inc()
        if source not in OWN:
            self._announced = True
        self._event.set()

    def found_nothing(self) -> None:
        """A look found that what was announced is taken."""
        self._announced = False

    def clear(self) -> None:
        self._event.clear()

    async def wait(self) -> None:
        await self._event.wait()

    @property
    def came(self) -> bool:
        return self._event.is_set()

    def spread(self) -> float:
        """Seconds to wait after a wake-up, so that workers who heard the same one do not claim at once. Full jitter, as wide as
        the fleet: the first to look takes the task, and the others find it taken by a plain read."""
        return random.uniform(0, min(WIDEST, STEP * self.others)) if self.others else 0.0  # noqa: S311

    def count_missed(self, tasks: Sequence[ClaimedTask], *, idle: bool) -> None:
        """Takes what a claim brought: first attempts that had waited for an idle worker without a wake-up."""
        announced, self._announced = self._announced, False
        if announced or not idle:
            return
        now = datetime.now(UTC)
        missed = sum(
            task.attempt == 1
            and (now - task.queued_at).total_seconds() > LATE
            and not (task.message.get("metadata") or {}).get("run_after")
            for task in tasks
        )
        if missed:
            self._metrics.wake_ups_missed.inc(missed)
            for told in self._missed:
                told(missed)
