"""Wake-ups over Supabase Realtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from atlas.supabase.channel import Patience, State, SupervisedChannel, Wanted
from atlas.supabase.tokens import Tokens
from atlas.wake_ups.port import Wake

SETTLED = 5.0
"""Seconds after a join in which rows without a wake-up are put down to what was before it."""


class RealtimeWakeUps:
    """Hints over Realtime: inserts into architect_in, and the broadcast that its trigger sends; whichever comes first.

    observe is told of every state and every trouble. missed() counts rows that came without a wake-up while all looked well:
    after `tolerated` of them the session is not trusted any more.
    """

    name = "realtime"

    def __init__(
        self,
        url: str,
        tokens: Tokens,
        *,
        patience: Patience | None = None,
        entered: Callable[[State], None] = lambda _state: None,
        troubled: Callable[[str], None] = lambda _kind: None,
        tolerated: int = 3,
        settled: float = SETTLED,
    ) -> None:
        wanted = Wanted(topic="atlas:wake", changes=(("INSERT", "public", "architect_in", ""),))
        self._channel = SupervisedChannel(url, tokens, wanted, self, patience=patience)
        self._entered = entered
        self._troubled = troubled
        self._tolerated = tolerated
        self._settled = settled
        self._missed = 0
        self._state: State = "down"
        self._opened_at = float("-inf")
        self._wake: Wake = lambda _source, _cancel: None

    async def run(self, wake: Wake) -> None:
        self._wake = wake
        await self._channel.run()

    def missed(self, rows: int) -> None:
        """So many rows were found that no wake-up announced."""
        if self._state != "receiving" or time.monotonic() - self._opened_at < self._settled:
            return  # they came while nobody listened, and the look that follows each join found them
        self._missed += rows
        if self._missed >= self._tolerated:
            self._missed = 0
            self._channel.distrust("rows came without a wake-up")

    def opened(self) -> None:
        self._missed = 0
        self._opened_at = time.monotonic()
        self._wake("realtime_join", False)

    def broadcast(self, event: str, payload: Mapping[str, Any]) -> None:
        self._missed = 0
        if event in ("task_queued", "cancel_requested"):
            self._wake("realtime_broadcast", event == "cancel_requested")

    def change(self) -> None:
        self._missed = 0
        self._wake("realtime_changes", False)

    def entered(self, state: State) -> None:
        self._state = state
        self._entered(state)

    def troubled(self, kind: str) -> None:
        self._troubled(kind)
