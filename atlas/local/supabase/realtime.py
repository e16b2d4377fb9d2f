"""The Realtime server of the stand-in: who is connected, and what happened in Postgres that they are told of."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from typing import Any

import asyncpg
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from atlas.database.pool import CONNECTION_LOST
from atlas.local.supabase.access import Access
from atlas.local.supabase.changes import Replication, Visibility, payload_of
from atlas.local.supabase.conduct import Conduct
from atlas.local.supabase.frames import VERSIONS
from atlas.local.supabase.pgoutput import Change
from atlas.local.supabase.sockets import Channel, Socket
from atlas.local.supabase.subscriptions import matches
from atlas.supabase.keys import TokenRefused

log = logging.getLogger("atlas.supabase")

POLL = 0.1
"""The real server's poller of postgres_changes: every 100 ms while there is something, up to 5 times that while idle."""


class Realtime:
    """All sockets of the stand-in, and the one stream of changes behind them."""

    def __init__(self, url: str, access: Access, visibility: Visibility, conduct: Conduct) -> None:
        self.access = access
        self.visibility = visibility
        self.conduct = conduct
        self.sockets: set[Socket] = set()
        self.replication = Replication(url, self._take)
        self._changes: list[Change] = []

    async def run(self) -> None:
        """Delivers for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.replication.run())
            group.create_task(self._deliver_changes())

    def channels(self) -> list[Channel]:
        return [channel for socket in self.sockets for channel in socket.channels.values()]

    async def _take(self, found: Sequence[Change]) -> None:
        for change in found:
            if (change.relation.schema, change.relation.table) == ("realtime", "messages"):
                if change.kind == "INSERT" and self.conduct.hears_broadcasts():
                    await self._broadcast_row(change.new)
            elif self.conduct.hears_changes():
                # who is listening when it happens gets it: those that come later do not
                self._changes.append(change)

    async def _broadcast_row(self, row: dict[str, str | None]) -> None:
        payload = {
            "event": row["event"],
            "meta": {"id": row["id"]},
            "payload": json.loads(row["payload"] or "{}"),
            "type": "broadcast",
        }
        await self.publish(str(row["topic"]), row["private"] == "t", payload)

    async def publish(self, name: str, private: bool, payload: dict[str, Any], *, but: Channel | None = None) -> None:
        """Tells all subscribers of a topic."""
        for channel in self.channels():
            if channel.name == name and channel.private == private and channel is not but:
                await self._limited(channel, payload)

    async def _limited(self, channel: Channel, payload: dict[str, Any]) -> None:
        now = time.monotonic()
        channel.sent_at.append(now)
        while channel.sent_at[0] < now - 60:
            channel.sent_at.popleft()
        await channel.tell("broadcast", payload)
        if code := self.conduct.cuts_after_broadcast():
            channel.socket.cut(code)
        if len(channel.sent_at) > self.conduct.messages_a_second * 60:
            await channel.system("Too many messages per second", ok=False, extension="system")
            await channel.socket.drop(channel)

    async def _deliver_changes(self) -> None:
        pause = POLL
        while True:
            await asyncio.sleep(pause)
            taken, self._changes = self._changes, []
            pause = POLL if taken else min(5 * POLL, pause + POLL)
            for change in taken:
                try:
                    await self._deliver(change)
                except (asyncpg.PostgresError, *CONNECTION_LOST, TimeoutError) as error:
                    # lost without a word, as the real server loses what it cannot look at
                    log.warning("a change of %s is not delivered (%s)", change.relation.table, error)

    async def _deliver(self, change: Change) -> None:
        types = await self.visibility.types(change.relation)
        seen: dict[str, bool] = {}
        for channel in self.channels():
            # one that was refused has bindings that nothing can match
            if not channel.receiving:
                continue
            bindings = [binding for binding in channel.bindings if matches(binding, change)]
            if not bindings:
                continue
            visible = await self.visibility.columns(change.relation, str(channel.claims["role"]))
            if visible and change.kind != "DELETE":
                who = json.dumps(channel.claims, sort_keys=True)
                if who not in seen:
                    seen[who] = await self.visibility.sees(change, channel.claims)
                if not seen[who]:
                    continue
            keys = await self.visibility.old_columns(change.relation)
            data = payload_of(change, types, visible, keys)
            await channel.tell("postgres_changes", {"data": data, "ids": [binding.id for binding in bindings]})

    async def serve(self, websocket: WebSocket) -> None:
        """One socket, from its connect to its close."""
        version = websocket.query_params.get("vsn", "1.0.0")
        if version not in VERSIONS:
            await websocket.send_denial_response(Response(status_code=403))
            return
        key = websocket.query_params.get("apikey") or websocket.headers.get("x-api-key")
        try:
            if not key:
                raise TokenRefused("API key is missing")
            claims = await self.access.of_key(key)
        except TokenRefused as error:
            await asyncio.sleep(self.conduct.connect_refusal_takes)
            message = "Token has expired" if str(error).startswith("Token has expired") else str(error)
            await websocket.send_denial_response(JSONResponse({"error": message}, status_code=401))
            return
        await websocket.accept()
        socket = Socket(self, websocket, version, claims)
        self.sockets.add(socket)
        try:
            await socket.run()
        finally:
            self.sockets.discard(socket)
            for channel in socket.channels.values():
                channel.end()
