"""A percentile of what was measured lately, for readers that have no PromQL."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable


class RecentValues:
    """Values of the last seconds; at most so many are kept, the newest."""

    def __init__(self, *, clock: Callable[[], float], seconds: float = 300.0, most: int = 10_000) -> None:
        self._clock = clock
        self._seconds = seconds
        self._values: deque[tuple[float, float]] = deque(maxlen=most)

    def add(self, value: float) -> None:
        """Adds a value, as of now."""
        self._values.append((self._clock(), value))

    def percentile(self, share: float) -> float:
        """The value that so large a share is not above; 0 where there is none."""
        oldest = self._clock() - self._seconds
        while self._values and self._values[0][0] < oldest:
            self._values.popleft()
        if not self._values:
            return 0.0
        values = sorted(value for _, value in self._values)
        return values[max(0, math.ceil(share * len(values)) - 1)]
