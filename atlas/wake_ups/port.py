"""A source of wake-ups: it says that there may be work, and nothing more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Wake = Callable[[str, bool], None]
"""Called with the source of a wake-up, and whether somebody asked for a cancellation. Sets an event, nothing more."""


class WakeUps(Protocol):
    """A source of wake-ups."""

    name: str

    async def run(self, wake: Wake) -> None:
        """Calls wake at every wake-up, forever; survives a lost connection."""
