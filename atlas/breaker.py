"""A circuit breaker for one thing that this process calls."""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """Opens after some failures in a row, and lets one call through when its pause is over. Seconds."""

    def __init__(self, *, failures: int = 3, pause: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = failures
        self._pause = pause
        self._clock = clock
        self._failed = 0
        self._open_until = float("-inf")

    @property
    def open(self) -> bool:
        """Whether calls are kept back now."""
        return self._clock() < self._open_until

    def enter(self) -> bool:
        """Whether a call may be made. Of those that wait for a pause to end, one may: the next pause has begun for the rest."""
        if self.open:
            return False
        if self._failed >= self._most:
            self._open_until = self._clock() + self._pause
        return True

    def record(self, *, ok: bool) -> None:
        """What became of a call."""
        if ok:
            self._failed = 0
            self._open_until = float("-inf")
            return
        self._failed += 1
        if self._failed >= self._most:
            self._open_until = self._clock() + self._pause
