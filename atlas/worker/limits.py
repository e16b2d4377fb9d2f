"""How a worker works."""

from __future__ import annotations

from dataclasses import dataclass

CONTROL_SLOTS = 4
"""Control messages have slots of their own: they get through while all others are busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Slots, tokens of a run, and seconds."""

    concurrency: int
    lease: float
    per_run: int
    grace: float = 20.0
    hot_poll: float = 0.005
    hot_for: float = 0.05
