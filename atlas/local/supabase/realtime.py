"""The Realtime server of the stand-in: who is connected, and what happened in Postgres that they are told of."""

from __future__ import annotations

import asyncio
import collections
import json
import logging
import time
from collections.abc import Sequence
from typing import Any

import asyncpg
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from atlas.database.pool import CONNECTION_LOST
from atlas.local.supabase.access import Access
from atlas.local.supabase.bodies import BadBody, read_json
from atlas.local.supabase.changes import Replication, Visibility, payload_of
from atlas.local.supabase.conduct import Conduct
from atlas.local.supabase.frames import VERSIONS
from atlas.local.supabase.pgoutput import Change
from atlas.local.supabase.presence import Presence
from atlas.local.supabase.sockets import Channel, Socket
from atlas.local.supabase.subscriptions import by_select, matches
from atlas.supabase.keys import TokenRefused

log = logging.getLogger("atlas.supabase")

MAX_BODY = 1_048_576

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
        self.presence = Presence(self.channels)
        self._changes: list[Change] = []
        self._events: collections.deque[tuple[float, int]] = collections.deque()
        self._counted = 0

    async def run(self) -> None:
        """Delivers forever."""
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
        content = json.loads(row["payload"] or "null")
        if not isinstance(content, dict) or self._is_over_rate():
            return
        payload = {"event": row["event"], "meta": {"id": row["id"]}, "payload": content, "type": "broadcast"}
        heard = self._subscribers(str(row["topic"]), row["private"] == "t")
        self._count(1 + len(heard))
        for channel in heard:
            await channel.tell("broadcast", payload)
            if code := self.conduct.cuts_after_broadcast():
                channel.socket.cut(code)

    def _is_over_rate(self) -> bool:
        """Whether the tenant had more events in the last minute than it may: then broadcasts of SQL vanish silently."""
        return self._count(0) > self.conduct.messages_a_second * 60

    def _count(self, events: int) -> int:
        """Counts events, each publish and each delivery; answers those of the last minute."""
        now = time.monotonic()
        if events:
            self._events.append((now, events))
            self._counted += events
        while self._events and self._events[0][0] < now - 60:
            self._counted -= self._events.popleft()[1]
        return self._counted

    def _subscribers(self, name: str, private: bool) -> list[Channel]:
        return [channel for channel in self.channels() if channel.name == name and channel.private == private]

    async def api_broadcast(self, request: Request) -> Response:
        """POST /realtime/v1/api/broadcast: {"messages": [{"topic", "event", "payload", "private"}]}; 202."""
        try:
            claims = await self.access.of_request(request.headers.get("apikey"), request.headers.get("authorization"))
        except TokenRefused as error:
            return JSONResponse({"error": str(error)}, status_code=401)
        try:
            messages = [
                (str(one["topic"]), bool(one.get("private")), {"event": str(one["event"]), "payload": one["payload"]})
                for one in (await read_json(request, MAX_BODY))["messages"]
            ]
        except (BadBody, KeyError, TypeError, AttributeError):
            return JSONResponse({"error": "messages: a list of {topic, event, payload, private}"}, status_code=422)
        for topic, private, payload in messages:
            if not private or await self.visibility.may_write(topic, claims):
                await self.publish(topic, private, payload | {"type": "broadcast"})
        return Response(status_code=202)

    async def publish(self, name: str, private: bool, payload: dict[str, Any], *, but: Channel | None = None) -> None:
        """Tells all subscribers of a topic."""
        for channel in self._subscribers(name, private):
            if channel is not but:
                await self._limited(channel, payload)

    async def _limited(self, channel: Channel, payload: dict[str, Any]) -> None:
        now = time.monotonic()
        channel.sent_at.append(now)
        while channel.sent_at[0] < now - 60:
            channel.sent_at.popleft()
        await channel.tell("broadcast", payload)
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
                    # lost silently, as the real server loses what it cannot look at
                    log.warning("a change of %s is not delivered (%s)", change.relation.table, error)

    async def _deliver(self, change: Change) -> None:
        types = await self.visibility.types(change.relation)
        seen: dict[str, bool] = {}
        for channel in self.channels():
            # one that was refused has bindings that nothing can match
            if not channel.receiving:
                continue
            bindings = [b for b in channel.bindings if matches(b, change) and await self.visibility.passes(b.filters, change)]
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
            for wanted, ids in by_select(bindings):
                shown = visible if wanted is None else [name for name in visible if name in wanted]
                data = payload_of(change, types, shown, keys, unauthorized=not visible)
                await channel.tell("postgres_changes", {"data": data, "ids": ids})

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
                await self.presence.leave(channel)
