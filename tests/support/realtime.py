"""A raw client of the Realtime protocol."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import websockets

from atlas.local.supabase.app import StandIn
from atlas.supabase.keys import mint
from tests.support.core import Json

USER = UUID("11111111-1111-1111-1111-111111111111")


def _plain(text: str | bytes) -> Any:
    """A frame with what differs from run to run made the same: ids of bindings and rows, times."""
    if isinstance(text, bytes):
        kind, topic, event, meta, encoding = text[:5]
        rest = text[5:]
        parts = rest[:topic].decode(), rest[topic : topic + event].decode(), rest[topic + event : topic + event + meta].decode()
        return kind, encoding, parts[:2], list(json.loads(parts[2])), json.loads(rest[topic + event + meta :])
    return _same(json.loads(text, object_pairs_hook=lambda pairs: [(key, _same(value, key)) for key, value in pairs]))


def _same(value: Any, key: str = "") -> Any:
    if isinstance(value, list):
        return [_same(one, key) if not isinstance(one, tuple) else one for one in value]
    if isinstance(value, str) and re.search(r"Token has expired \d+ seconds ago$", value):
        return re.sub(r"\d+ seconds ago$", "some seconds ago", value)
    if isinstance(value, int) and value > 10_000:
        return "binding"
    if isinstance(value, str) and (key in ("commit_timestamp", "created_at") or (len(value) == 36 and value.count("-") == 4)):
        return f"{key} of {len(value) if key == 'commit_timestamp' else 'any'}"
    return value


class Client:
    """A bare websocket that sends recorded frames, with tokens of this stand-in instead of the removed ones."""

    def __init__(self, socket: websockets.ClientConnection, token: str) -> None:
        self.socket = socket
        self.token = token
        self.got: list[str | bytes] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self.socket:
            self.got.append(message)

    async def send(self, text: str, token: str | None = None) -> None:
        await self.socket.send(text.replace("<jwt>", token or self.token))

    async def until(self, count: int, seconds: float = 8) -> None:
        end = time.monotonic() + seconds
        while len(self.got) < count and time.monotonic() < end:
            await asyncio.sleep(0.01)
        assert len(self.got) >= count, [str(one)[:300] for one in self.got]

    @property
    def plain(self) -> list[Any]:
        return [_plain(one) for one in self.got]


@asynccontextmanager
async def connected(
    stand_in: StandIn, *, claims: Json | None = None, version: str = "1.0.0", apikey: str | None = None
) -> AsyncIterator[Client]:
    token = mint(stand_in.keys.jwt_secret, claims or {"role": "authenticated", "sub": str(USER)}, lasts=60)
    url = f"{stand_in.url.replace('http', 'ws')}/realtime/v1/websocket?apikey={apikey or stand_in.keys.anon}&vsn={version}"
    async with websockets.connect(url, max_size=None) as socket:
        yield Client(socket, token)
