"""Deltas of a running reply over Realtime: what a follower hears on the private topic of its task."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from uuid import UUID

from atlas.supabase.channel import Patience, State, SupervisedChannel, Wanted
from atlas.supabase.tokens import Tokens
from atlas.tasks.port import Part


class Deltas:
    """An async context that keeps the channel of a task open; atlas.ports.Live.

    What is heard may be missing at any moment: `next` answers None for "look at the tables", and the follower does.
    """

    def __init__(self, url: str, tokens: Tokens, task_id: UUID, *, patience: Patience | None = None) -> None:
        wanted = Wanted(topic=f"task:{task_id}", changes=(("INSERT", "public", "architect_out", f"task_id=eq.{task_id}"),))
        self._channel = SupervisedChannel(url, tokens, wanted, self, patience=patience)
        # bounded: a follower that does not read falls back on the tables
        self._heard: asyncio.Queue[Part | None] = asyncio.Queue(1000)
        self._running: asyncio.Task[None] | None = None
        self.joined = False

    async def __aenter__(self) -> Deltas:
        self._running = asyncio.create_task(self._channel.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    async def next(self, seconds: float) -> Part | None:
        """The next part; None when the tables are to be looked at, or nothing came for so long."""
        try:
            async with asyncio.timeout(seconds):
                return await self._heard.get()
        except TimeoutError:
            return None

    def _put(self, part: Part | None) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._heard.put_nowait(part)

    def opened(self) -> None:
        self._put(None)

    def change(self, record: Mapping[str, Any]) -> None:
        self._put(None)

    def broadcast(self, event: str, payload: Mapping[str, Any]) -> None:
        if event == "delta":
            try:
                part = Part(**{name: payload[name] for name in ("attempt", "generation", "seq", "offset", "text")})
            except KeyError:
                part = None
            self._put(part)

    def entered(self, state: State) -> None:
        self.joined = state in ("joined", "receiving")

    def troubled(self, kind: str) -> None:
        self._put(None)
