"""Wake-ups over Supabase Realtime."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from atlas.supabase.channel import Patience, State, SupervisedChannel, Wanted
from atlas.supabase.tokens import Tokens
from atlas.wake_ups.port import Wake

log = logging.getLogger("atlas.realtime")

SETTLED = 5.0
"""Seconds after a join in which rows without a wake-up are put down to what was before it."""


OWED = 10.0
"""Seconds that one source may be behind the other. Source: postgres_changes were at most 0.6 s behind."""

ANEW = 300.0
"""Seconds between two new sessions for a source that stays silent: a server was seen to need over three minutes."""


class Sources:
    """Judges the two sources of a channel by each other: each question is told by both, the broadcast first.

    A server that lost its replication slot goes on with broadcasts, and says nothing of it.
    """

    def __init__(self, *, owed: float = OWED, tolerated: int = 3, clock: Callable[[], float] = time.monotonic) -> None:
        self._owed = owed
        self._tolerated = tolerated
        self._clock = clock
        self._ahead = 0
        """Rows that broadcasts told of and changes did not; negative: the other way round."""
        self._since = 0.0

    def forget(self) -> None:
        """A new session: what came before it is nobody's fault."""
        self._ahead = 0

    def told(self, broadcasts: int = 0, changes: int = 0) -> None:
        """So many rows were told of."""
        was = self._ahead
        self._ahead += broadcasts - changes
        if was == 0 or (was > 0) != (self._ahead > 0) or (changes if was > 0 else broadcasts):
            # the one that is behind was heard just now, or has only begun to be behind
            self._since = self._clock()

    @property
    def state(self) -> State:
        """What is heard: receiving where both are."""
        if abs(self._ahead) < self._tolerated or self._clock() - self._since < self._owed:
            return "receiving"
        return "broadcasts_only" if self._ahead > 0 else "changes_only"


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
        sources: Sources | None = None,
        anew: float = ANEW,
    ) -> None:
        wanted = Wanted(topic="atlas:wake", changes=(("INSERT", "public", "architect_in", ""),))
        self._channel = SupervisedChannel(url, tokens, wanted, self, patience=patience)
        self._entered = entered
        self._troubled = troubled
        self._tolerated = tolerated
        self._settled = settled
        self._missed = 0
        self._sources = sources or Sources(tolerated=tolerated)
        self._anew = anew
        self._renewed_at = float("-inf")
        self._state: State = "down"
        self._opened_at = float("-inf")
        self._wake: Wake = lambda _source, _cancel: None

    async def run(self, wake: Wake) -> None:
        self._wake = wake
        await self._channel.run()

    def missed(self, rows: int) -> None:
        """So many rows were found that no wake-up announced."""
        if self._state in ("down", "connecting", "joined") or time.monotonic() - self._opened_at < self._settled:
            return  # they came while nobody listened, and the look that follows each join found them
        self._missed += rows
        if self._missed >= self._tolerated:
            self._missed = 0
            self._channel.distrust("rows came without a wake-up")

    def opened(self) -> None:
        self._missed = 0
        self._sources.forget()
        self._opened_at = time.monotonic()
        self._wake("realtime_join", False)

    def broadcast(self, event: str, payload: Mapping[str, Any]) -> None:
        self._missed = 0
        if event in ("task_queued", "cancel_requested"):
            self._wake("realtime_broadcast", event == "cancel_requested")
        rows = payload.get("queued")
        if event == "task_queued" and isinstance(rows, int):
            self._sources.told(broadcasts=rows)
            self._judge()

    def change(self, record: Mapping[str, Any]) -> None:
        self._missed = 0
        self._wake("realtime_changes", False)
        message = record.get("data")
        # messages for others are told of by no broadcast
        if isinstance(message, Mapping) and message.get("role") == "architect":
            self._sources.told(changes=1)
            self._judge()

    def _judge(self) -> None:
        """Says which of the two is silent; a new session may bring it back, and is tried now and then."""
        state = self._sources.state
        if self._state in ("down", "connecting", "joined") or state == self._state:
            return
        self.entered(state)
        if state == "receiving":
            log.info("realtime: both broadcasts and changes of tables come again")
            return
        log.warning(
            "realtime: %s come; the other source is silent", "broadcasts" if state == "broadcasts_only" else "changes of tables"
        )
        if time.monotonic() - self._renewed_at >= self._anew:
            self._renewed_at = time.monotonic()
            self._channel.distrust(state.replace("_", " "))

    def entered(self, state: State) -> None:
        self._state = state
        self._entered(state)

    def troubled(self, kind: str) -> None:
        self._troubled(kind)
