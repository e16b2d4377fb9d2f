"""Deltas of a running reply over Realtime: what a follower hears on the private topic of its task."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any
from uuid import UUID

from atlas.errors import AtlasError
from atlas.supabase.channel import Patience, State, SupervisedChannel, Wanted
from atlas.supabase.tokens import Tokens
from atlas.tasks.port import Part

log = logging.getLogger("atlas.realtime")

RENEWED = 10.0
"""Seconds between two calls of atlas.watch_task, which counts for 30."""


class Deltas:
    """An async context that keeps the channel of a task open, and says that somebody watches; atlas.tasks.port.Live.

    What is heard may be missing at any moment: `next` answers None for "look at the tables", and the follower does. watch:
    asks for broadcasts, once for now and again and again; where it fails, the tables are left.
    """

    def __init__(
        self,
        url: str,
        tokens: Tokens,
        task_id: UUID,
        watch: Callable[[], Awaitable[object]],
        *,
        patience: Patience | None = None,
    ) -> None:
        wanted = Wanted(topic=f"task:{task_id}", changes=(("INSERT", "public", "architect_out", f"task_id=eq.{task_id}"),))
        self._channel = SupervisedChannel(url, tokens, wanted, self, patience=patience)
        # bounded: a follower that does not read falls back on the tables
        self._heard: asyncio.Queue[Part | None] = asyncio.Queue(1000)
        self._watch = watch
        self._running: list[asyncio.Task[None]] = []
        self.joined = False

    async def __aenter__(self) -> Deltas:
        # before the channel is joined: what is broadcast from then on is heard
        await self._renew()
        self._running = [asyncio.create_task(self._channel.run()), asyncio.create_task(self._keep_watch())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for job in self._running:
            job.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _keep_watch(self) -> None:
        while True:
            await asyncio.sleep(RENEWED)
            await self._renew()

    async def _renew(self) -> None:
        try:
            await self._watch()
        except AtlasError as error:
            log.info("nobody is told that this task is watched (%s): its text is read from the tables", error)

    async def next(self, seconds: float) -> Part | None:
        """The next part; None when the tables are to be looked at. Raises TimeoutError where nothing came for so long."""
        async with asyncio.timeout(seconds):
            return await self._heard.get()

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
