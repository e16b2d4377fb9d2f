"""A websocket server that plays recorded frames to whoever connects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import websockets
from websockets.asyncio.server import ServerConnection, serve

RECORDED = Path(__file__).parent.parent / "realtime" / "recorded"
TOPIC = "realtime:atlas:wake"


def play(name: str, *, upto: int | None = None) -> list[dict[str, Any]]:
    """The frames that the real server sent."""
    found = [json.loads(line) for line in (RECORDED / f"{name}.jsonl").read_text().splitlines()]
    return [frame for frame in found if frame.get("dir") == "recv" and _is_whole(frame["data"])][:upto]


def _is_whole(text: str) -> bool:
    """Long runs were cut from a few recorded frames, which are not JSON since."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def closed(code: int) -> dict[str, Any]:
    """The server closes; 1006 without a good-bye."""
    return {"dir": "close", "code": code}


@dataclass(kw_only=True)
class Player:
    """Plays one script a connection, then the last one again. Mutable: what came, how many connected."""

    port: int
    scripts: list[list[dict[str, Any]] | HTTPStatus]
    connections: int = 0
    joins: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    mute: bool = False
    refused: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def refuse(self, connection: ServerConnection, request: Any) -> Any:
        script = self.scripts[min(self.connections + self.refused, len(self.scripts) - 1)]
        if isinstance(script, HTTPStatus):
            self.refused += 1
            return connection.respond(script, '{"error":"Tenant not found"}')
        return None

    async def serve(self, socket: ServerConnection) -> None:
        script = self.scripts[min(self.connections + self.refused, len(self.scripts) - 1)]
        self.connections += 1
        assert not isinstance(script, HTTPStatus)
        async for text in socket:
            frame = json.loads(text)
            if frame["event"] == "heartbeat" and not self.mute:
                reply = {"status": "ok", "response": {}}
                await socket.send(json.dumps({"ref": frame["ref"], "event": "phx_reply", "topic": "phoenix", "payload": reply}))
            elif frame["event"] == "access_token":
                self.tokens.append(frame["payload"]["access_token"])
                if not self.mute:
                    await self._play(socket, play("00_slot_unavailable_silent_v1", upto=2)[1:], frame)
            elif frame["event"] == "phx_join":
                self.joins.append(frame["payload"])
                await self._play(socket, script, frame)

    @staticmethod
    async def _play(socket: ServerConnection, script: list[dict[str, Any]], join: dict[str, Any]) -> None:
        replied = False
        for step in script:
            if step["dir"] == "close":
                if step["code"] == 1006:
                    socket.transport.abort()
                else:
                    await socket.close(step["code"])
                return
            frame = json.loads(step["data"])
            frame["topic"] = frame["topic"] if frame["topic"] == "phoenix" else join["topic"]
            if frame["event"] == "phx_reply" and frame["topic"] != "phoenix":
                if replied:
                    continue  # the recording's own later joins
                frame["ref"], replied = join["ref"], True
                changes = join["payload"]["config"]["postgres_changes"]
                if frame["payload"]["status"] == "ok":
                    frame["payload"]["response"] = {"postgres_changes": [{"id": n, **one} for n, one in enumerate(changes, 1)]}
            if frame["event"] == "postgres_changes":
                frame["payload"]["ids"] = [1]
            await socket.send(json.dumps(frame))
            await asyncio.sleep(0.005)


GOOD = play("00_slot_unavailable_silent_v1", upto=2)
"""The join's ok, and "Subscribed to PostgreSQL"."""


@asynccontextmanager
async def playing(
    *scripts: list[dict[str, Any]] | HTTPStatus, port: int = 0, change: Callable[[Player], None] | None = None
) -> AsyncIterator[Player]:
    """A player on a port of its own."""
    player = Player(port=port, scripts=list(scripts))
    if change is not None:
        change(player)
    async with serve(player.serve, "127.0.0.1", port, process_request=player.refuse, max_size=None) as server:
        player.port = next(iter(server.sockets)).getsockname()[1]
        yield player


__all__ = ["GOOD", "TOPIC", "Player", "closed", "play", "playing", "websockets"]
