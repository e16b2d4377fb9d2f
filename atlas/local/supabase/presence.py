"""Who is on a topic: presences that channels track, told to all of the topic that asked for them (transcript 16_presence_A)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any, Protocol
from uuid import uuid4


class Present(Protocol):
    """The parts of a channel that presence needs."""

    @property
    def name(self) -> str: ...
    @property
    def private(self) -> bool: ...
    @property
    def presence_key(self) -> str | None: ...

    async def tell(self, event: str, payload: dict[str, Any], *, addressed: bool = False) -> None:
        """Sends one frame."""


def presence_key(config: dict[str, Any]) -> str | None:
    """The key that a join asks for, a new one where it names none; None: it wants no presence."""
    return str(config.get("key") or uuid4()) if config.get("enabled") else None


class Presence:
    """All presences, each with its channel, which has at most one."""

    def __init__(self, channels: Callable[[], Iterable[Present]]) -> None:
        self._channels = channels
        self._tracked: dict[Present, dict[str, Any]] = {}

    def state(self, channel: Present) -> dict[str, Any]:
        """Who is on the channel's topic now."""
        found: dict[str, Any] = {}
        for other, meta in self._tracked.items():
            if _together(other, channel):
                found.setdefault(str(other.presence_key), {"metas": []})["metas"].append(meta)
        return found

    async def say(self, channel: Present, payload: dict[str, Any]) -> None:
        """A channel's track or untrack."""
        if payload.get("event") == "track" and channel.presence_key is not None:
            earlier = self._tracked.pop(channel, None)
            given = payload.get("payload")
            meta = {"phx_ref": secrets.token_urlsafe(12), **(given if isinstance(given, dict) else {})}
            self._tracked[channel] = meta
            await self._tell(channel, joins=meta, leaves=earlier)
        elif payload.get("event") == "untrack":
            await self.leave(channel)

    async def leave(self, channel: Present) -> None:
        """A channel is closed, or tracks no more."""
        if (meta := self._tracked.pop(channel, None)) is not None:
            await self._tell(channel, joins=None, leaves=meta)

    async def _tell(self, channel: Present, *, joins: dict[str, Any] | None, leaves: dict[str, Any] | None) -> None:
        key = str(channel.presence_key)
        diff = {
            name: {key: {"metas": [meta]}} if meta is not None else {} for name, meta in (("joins", joins), ("leaves", leaves))
        }
        for other in list(self._channels()):
            if other.presence_key is not None and _together(other, channel):
                await other.tell("presence_diff", diff)


def _together(one: Present, other: Present) -> bool:
    return (one.name, one.private) == (other.name, other.private)
