"""A timer: the one source of wake-ups that misses nothing."""

from __future__ import annotations

import asyncio
import random

from atlas.wake_ups.port import Wake


class SweepWakeUps:
    """A timer: the one source that misses nothing. Jittered, so that workers do not march in step.

    It adapts: after wake-ups were missed it is short, and doubles with each quiet sweep up to the longest (seconds).
    """

    name = "sweep"

    def __init__(self, *, shortest: float = 1.0, longest: float = 15.0) -> None:
        self._shortest = shortest
        self._longest = longest
        self.every = longest
        self._changed = asyncio.Event()

    def missed(self, rows: int) -> None:
        """So many rows were found that no wake-up announced: look sooner for a while."""
        if rows and self.every > self._shortest:
            self.every = self._shortest
            self._changed.set()

    async def run(self, wake: Wake) -> None:
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout(self.every * random.uniform(0.75, 1)):  # noqa: S311  jitter
                    await self._changed.wait()
            except TimeoutError:
                self.every = min(self._longest, self.every * 2)
                wake(self.name, False)
