"""The provider's rate limits: the fleet draws from one bucket a model before it calls, in blocks leased from Postgres."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Protocol

from atlas.llm.errors import RateLimited
from atlas.task import JsonObject

_LEASE_SECONDS = 2.0
"""What was leased and not used for so long is let go: it was a second's worth."""

_LONGEST_WAIT = 30.0
"""Seconds that a call waits for its turn within an attempt."""


class RateRows(Protocol):
    """Where the buckets are kept."""

    async def lease_rate(self, model: str, requests: int, tokens: int) -> JsonObject:
        """atlas.lease_rate in SQL."""

    async def record_rate(self, model: str, limits: list[JsonObject], retry_after: float | None = None) -> None:
        """atlas.record_rate in SQL."""


@dataclass(slots=True)
class _Lease:
    """What this worker may use of a model's limits. Mutable."""

    left: dict[str, float] = field(default_factory=dict)
    taken_at: float = float("-inf")
    recorded_at: float = float("-inf")
    limits: dict[str, int] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class RateBuckets:
    """Draws requests and tokens before calls, and passes on what responses say of the limits."""

    def __init__(self, rows: RateRows) -> None:
        self._rows = rows
        self._leases: dict[str, _Lease] = {}

    async def draw(self, model: str, tokens: int) -> None:
        """Waits until a call of so many tokens keeps within the limits. Raises RateLimited where that takes too long."""
        lease = self._leases.setdefault(model, _Lease())
        async with lease.lock:
            waited = 0.0
            while True:
                now = time.monotonic()
                need = {"requests": 1.0, "tokens": float(tokens)}
                if now - lease.taken_at > _LEASE_SECONDS:
                    lease.left = {}
                elif all(lease.left.get(unit, float("inf")) >= amount for unit, amount in need.items()):
                    for unit in lease.left:
                        lease.left[unit] -= need[unit]
                    return
                # without a limit that is known nothing is leased, and the next seconds ask nobody
                found = await self._rows.lease_rate(model, 1, tokens)
                pause = found.get("wait")
                if pause is None:
                    lease.left = {unit: max(0.0, float(amount) - need[unit]) for unit, amount in found.items()}
                    lease.taken_at = time.monotonic()
                    return
                if waited + pause > _LONGEST_WAIT:
                    raise RateLimited(
                        f"{model}: the rate limit leaves no room for {pause:.0f} s", code="rate_limited", retry_after=pause
                    )
                waited += pause
                await asyncio.sleep(pause)

    async def record(self, model: str, limits: list[JsonObject], retry_after: float | None = None) -> None:
        """Passes on what a response says; at most once a second, unless a limit changed or a call was refused."""
        lease = self._leases.setdefault(model, _Lease())
        most = {row["unit"]: row["per_minute"] for row in limits}
        now = time.monotonic()
        if not limits or (retry_after is None and most == lease.limits and now - lease.recorded_at < 1.0):
            return
        if most != lease.limits:
            # what was drawn while no limit was known ends here
            lease.taken_at = float("-inf")
        lease.recorded_at, lease.limits = now, most
        await self._rows.record_rate(model, limits, retry_after)
