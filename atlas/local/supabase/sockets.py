"""One websocket of a Realtime client, and the channels that it joined, as the real server was recorded."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from atlas.local.supabase.access import Access
from atlas.local.supabase.changes import Visibility
from atlas.local.supabase.conduct import Conduct
from atlas.local.supabase.frames import Frame, decode, encode
from atlas.local.supabase.presence import Presence, presence_key
from atlas.local.supabase.subscriptions import BadFilter, Binding, check_filter
from atlas.supabase.keys import Claims, TokenRefused, is_opaque

MOST_UNREAD = 8 * 1024 * 1024
"""Bytes that wait for a client to read."""


@dataclass(slots=True, kw_only=True, eq=False)
class Channel:
    """One subscriber of one topic. Mutable: its token, and whether it hears changes yet."""

    socket: Socket
    topic: str
    join_ref: str | None
    claims: Claims
    private: bool
    ack: bool
    to_self: bool
    bindings: tuple[Binding, ...]
    presence_key: str | None
    receiving: bool = False
    jobs: set[asyncio.Task[None]] = field(default_factory=set)
    expiry: asyncio.Task[None] | None = None
    sent_at: collections.deque[float] = field(default_factory=collections.deque)

    @property
    def name(self) -> str:
        return self.topic.removeprefix("realtime:")

    async def tell(self, event: str, payload: dict[str, Any], *, addressed: bool = False) -> None:
        await self.socket.send(
            Frame(topic=self.topic, event=event, payload=payload, join_ref=self.join_ref if addressed else None)
        )

    async def system(self, message: str, *, ok: bool, extension: str = "postgres_changes") -> None:
        payload = {"message": message, "status": "ok" if ok else "error", "extension": extension, "channel": self.name}
        await self.tell("system", payload, addressed=True)

    def later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs beside the socket, until the channel is closed."""
        job = asyncio.create_task(work)
        self.jobs.add(job)
        job.add_done_callback(self.jobs.discard)
        return job

    def end(self) -> None:
        for job in list(self.jobs):
            if job is not asyncio.current_task():
                job.cancel()


class Hub(Protocol):
    """What a socket needs of the server behind it."""

    access: Access
    visibility: Visibility
    conduct: Conduct
    presence: Presence

    async def publish(self, name: str, private: bool, payload: dict[str, Any], *, but: Channel | None = None) -> None:
        """Tells all subscribers of a topic."""


class Socket:
    """One connection. Its frames are handled one after another, so that a refused join holds the others up."""

    def __init__(self, hub: Hub, websocket: WebSocket, version: str, claims: Claims) -> None:
        self._hub = hub
        self._websocket = websocket
        self._version = version
        self._claims = claims
        self._busy = asyncio.Lock()
        self._reading: asyncio.Task[None]
        self._cut: int | None = None
        self._outgoing: collections.deque[str | bytes | None] = collections.deque()
        self._outgoing_size = 0
        self._more = asyncio.Event()
        self.channels: dict[str, Channel] = {}

    async def run(self) -> None:
        """Reads until the client leaves, or sends nothing for too long."""
        self._reading = asyncio.create_task(self._read())
        writing = asyncio.create_task(self._write())
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            try:
                await self._reading
            except asyncio.CancelledError:
                if self._cut is None:
                    raise
                if self._cut != 1006:
                    await self._websocket.close(self._cut, "service restart")
                # an app that ends without a close: uvicorn drops the connection
            finally:
                writing.cancel()
                await asyncio.wait({writing})

    async def _read(self) -> None:
        last = time.monotonic()
        while True:
            left = last + self._hub.conduct.idle_timeout - time.monotonic()
            try:
                async with asyncio.timeout(left):
                    message = await self._websocket.receive()
            except TimeoutError:
                await self._websocket.close(1000)
                return
            if message["type"] == "websocket.disconnect":
                return
            frame = decode(message.get("text") or message.get("bytes") or "", self._version)
            if frame is None:
                continue
            if frame.topic == "phoenix":
                last = time.monotonic()
            await self._handle(frame)

    async def send(self, frame: Frame) -> None:
        """One frame out, in its turn; nothing when the client is gone. A client that does not read is dropped."""
        found = encode(frame, self._version)
        if self._outgoing_size + len(found) > MOST_UNREAD:
            self._end(1006)
            return
        self._outgoing.append(found)
        self._outgoing_size += len(found)
        self._more.set()

    async def _write(self) -> None:
        """Sends what there is to send: a client that is slow holds up nobody else."""
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                await self._more.wait()
                self._more.clear()
                while self._outgoing:
                    found = self._outgoing.popleft()
                    if found is None:
                        self._reading.cancel()
                        return
                    self._outgoing_size -= len(found)
                    async with self._busy:
                        if isinstance(found, bytes):
                            await self._websocket.send_bytes(found)
                        else:
                            await self._websocket.send_text(found)

    def cut(self, code: int) -> None:
        """Ends the socket after what is on its way: 1006 without a good-bye, any other code with it."""
        self._cut = code
        self._outgoing.append(None)
        self._more.set()
        asyncio.get_running_loop().call_later(1.0, self._reading.cancel)

    def _end(self, code: int) -> None:
        self._cut = code
        self._reading.cancel()

    async def drop(self, channel: Channel) -> None:
        """Closes a channel, and leaves the socket open."""
        if self.channels.get(channel.topic) is channel:
            del self.channels[channel.topic]
        frame = Frame(topic=channel.topic, event="phx_close", payload={}, ref=channel.join_ref, join_ref=channel.join_ref)
        await self.send(frame)
        channel.end()
        await self._hub.presence.leave(channel)

    async def _reply(self, frame: Frame, status: str, response: dict[str, Any]) -> None:
        payload = {"status": status, "response": response}
        await self.send(Frame(topic=frame.topic, event="phx_reply", payload=payload, ref=frame.ref, join_ref=frame.join_ref))

    async def _handle(self, frame: Frame) -> None:
        if not self._hub.conduct.answers():
            return
        channel = self.channels.get(frame.topic)
        match frame.event:
            case "heartbeat" if frame.topic == "phoenix":
                await self._reply(frame, "ok", {})
            case "phx_join" if frame.topic.startswith("realtime:"):
                await self._join(frame)
            case _ if channel is None:
                await self._reply(frame, "error", {"reason": "unmatched topic"})
            case "phx_leave":
                del self.channels[frame.topic]
                await self._reply(frame, "ok", {})
                await self.drop(channel)
            case "access_token":
                await self._refresh(channel, frame.payload.get("access_token"))
            case "broadcast":
                await self._broadcast(channel, frame)
            case "presence":
                await self._hub.presence.say(channel, frame.payload)
                await self._reply(frame, "ok", {})
            case _:
                pass

    # --- joining ----------------------------------------------------------------------------------------------

    async def _join(self, frame: Frame) -> None:
        try:
            channel = await self._admit(frame)
        except TokenRefused as error:
            async with self._busy:
                await asyncio.sleep(self._hub.conduct.refusal_takes)
            await self._reply(frame, "error", {"reason": f"{error.code}: {error}"})
            return
        except (TypeError, ValueError, AttributeError, KeyError):
            # a config that is not one: the real server's own words for it
            await self._reply(frame, "error", {"reason": "Unknown Error on Channel"})
            return
        earlier = self.channels.get(frame.topic)
        self.channels[frame.topic] = channel
        await self._reply(frame, "ok", {"postgres_changes": [binding.as_json() for binding in channel.bindings]})
        if earlier is not None:
            # the new join's ok first, then a close with the old one's ref
            close = Frame(topic=frame.topic, event="phx_close", payload={}, ref=earlier.join_ref, join_ref=earlier.join_ref)
            await self.send(close)
            earlier.end()
            await self._hub.presence.leave(earlier)
        config = frame.payload.get("config") or {}
        if (config.get("broadcast") or {}).get("replication_ready"):
            await channel.system("Replication connection established", ok=True, extension="system")
        # what was said on a private topic is for those who were let into it
        if channel.private and (replay := (config.get("broadcast") or {}).get("replay")):
            await self._replay(channel, replay)
        if channel.presence_key is not None:
            await channel.tell("presence_state", self._hub.presence.state(channel))
        if channel.bindings:
            channel.later(self._subscribe(channel))
        self._expire_later(channel)

    async def _admit(self, frame: Frame) -> Channel:
        if not frame.name:
            raise TokenRefused("You must provide a topic name", code="TopicNameRequired")
        token = frame.payload.get("access_token") or frame.payload.get("user_token")
        claims = self._claims if not token or is_opaque(token) else await self._hub.access.of_token(token)
        # the connection's own token may have run out meanwhile
        self._hub.access.check_time(claims)
        config = frame.payload.get("config", {"postgres_changes": [{"schema": frame.name}]})
        broadcast = config.get("broadcast") or {}
        if not isinstance(broadcast, dict):
            raise TokenRefused("no function clause matching in Access.get/3", code="UnknownErrorOnChannel")
        private = bool(config.get("private"))
        if private and not await self._hub.visibility.may_read(frame.name, claims):
            reason = f"You do not have permissions to read from this Channel topic: {frame.name}"
            raise TokenRefused(reason, code="Unauthorized")
        return Channel(
            socket=self, topic=frame.topic, join_ref=frame.join_ref, claims=claims, private=private,
            ack=bool(broadcast.get("ack")), to_self=bool(broadcast.get("self")),
            bindings=tuple(Binding.of(wanted) for wanted in config.get("postgres_changes") or ()),
            presence_key=presence_key(config.get("presence") or {}),
        )  # fmt: skip

    async def _subscribe(self, channel: Channel) -> None:
        await asyncio.sleep(self._hub.conduct.subscribes_after())
        for binding in channel.bindings:
            try:
                await check_filter(self._hub.visibility, binding)
            except BadFilter as error:
                await channel.system(str(error), ok=False)
                return
        channel.receiving = True
        await channel.system("Subscribed to PostgreSQL", ok=True)

    async def _replay(self, channel: Channel, replay: dict[str, Any]) -> None:
        since, limit = replay.get("since"), replay.get("limit", 25)
        if not isinstance(since, int | float) or not isinstance(limit, int) or not (0 <= since < 1e14 and 0 < limit <= 25):
            return
        for row in await self._hub.visibility.messages_since(channel.name, since=since, limit=limit):
            meta = {"id": str(row["id"]), "replayed": True}
            payload = {"event": row["event"], "meta": meta, "payload": json.loads(row["payload"]), "type": "broadcast"}
            await channel.tell("broadcast", payload)

    # --- tokens -----------------------------------------------------------------------------------------------

    def _expire_later(self, channel: Channel) -> None:
        if channel.expiry is not None:
            channel.expiry.cancel()
        channel.expiry = channel.later(self._expire(channel))

    async def _expire(self, channel: Channel) -> None:
        await asyncio.sleep(max(0.0, float(channel.claims["exp"]) - time.time()))
        await channel.system("Token has expired 0 seconds ago", ok=False, extension="system")
        await self.drop(channel)

    async def _refresh(self, channel: Channel, token: object) -> None:
        if not isinstance(token, str) or is_opaque(token):
            return
        try:
            channel.claims = await self._hub.access.of_token(token)
        except TokenRefused as error:
            message = ":signature_error" if error.code == "JwtSignatureError" else str(error)
            await channel.system(message, ok=False, extension="system")
            await self.drop(channel)
            return
        self._expire_later(channel)
        if channel.bindings:
            channel.later(self._subscribe_again(channel))

    async def _subscribe_again(self, channel: Channel) -> None:
        await asyncio.sleep(self._hub.conduct.resubscribed_after)
        await channel.system("Subscribed to PostgreSQL", ok=True)

    # --- broadcast --------------------------------------------------------------------------------------------

    async def _broadcast(self, channel: Channel, frame: Frame) -> None:
        if channel.private and not await self._hub.visibility.may_write(channel.name, channel.claims):
            return
        payload = {"event": frame.payload.get("event"), "payload": frame.payload.get("payload"), "type": "broadcast"}
        await self._hub.publish(channel.name, channel.private, payload, but=None if channel.to_self else channel)
        if channel.ack:
            await self._reply(frame, "ok", {})
