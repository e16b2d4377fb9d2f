"""Supabase Realtime: one channel kept open, whatever happens to the client under it.

The official client has no supervisor: it gives up after five tries, ends CLOSED when a token expires or a channel is joined
anew, and does not notice a heartbeat without an answer. So a client here lives for one session: its own reconnects are off, it
is watched from outside, and when anything is off it is thrown away and a new one is built, forever, with full jitter up to
30 s. What was missed meanwhile is in the tables: each session begins with a sweep.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import websockets
from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates
from realtime.message import Message
from realtime.types import ChannelEvents, RealtimeChannelOptions

from atlas.backoff import full_jitter, pause_after
from atlas.supabase.tokens import Tokens

log = logging.getLogger("atlas.realtime")

State = Literal["down", "connecting", "joined", "receiving", "broadcasts_only", "changes_only"]
STATES: tuple[State, ...] = ("down", "connecting", "joined", "receiving", "broadcasts_only", "changes_only")
"""The last two are a listener's judgement: the channel is well, and one of its two sources is silent."""

SUBSCRIBED = "Subscribed to PostgreSQL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long is waited for what, in seconds. Source: the recorded behaviour of server 2.122.0."""

    connect: float = 10.0
    join: float = 12.0
    """A refused join of another channel holds a socket up for 5 s."""
    receiving: float = 30.0
    """From the join's ok to "Subscribed to PostgreSQL": 3 s after a cold start."""
    heartbeat: float = 15.0
    """Between two heartbeats of ours. The client has its own, and does not look at the answers."""
    answer: float = 10.0
    """For the answer to one."""
    refresh_before: float = 60.0
    """A token is refreshed so long before it expires, or at half its life where that is later."""
    longest_pause: float = 30.0
    look: float = 0.25
    """Between two looks at the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a channel is to hear. changes: (event, schema, table, filter on a column such as id=eq.1, or empty)."""

    topic: str
    private: bool = True
    changes: tuple[tuple[str, str, str, str], ...] = ()


class Trouble(Exception):
    """Why a session ended. kind: a bounded word for metrics."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Listener(Protocol):
    """What happens on a channel. Called in the event loop: set an event, put into a queue, and nothing more."""

    def opened(self) -> None:
        """It is joined, or receives changes from now on: what came before may be missing."""

    def broadcast(self, event: str, payload: Mapping[str, Any]) -> None: ...

    def change(self, record: Mapping[str, Any]) -> None:
        """A row changed. record may be cut, or empty."""

    def entered(self, state: State) -> None: ...

    def troubled(self, kind: str) -> None: ...


class SupervisedChannel:
    """Keeps one channel open. `run` ends only when it is cancelled."""

    def __init__(
        self, url: str, tokens: Tokens, wanted: Wanted, listener: Listener, *, patience: Patience | None = None
    ) -> None:
        self._url = f"{url.rstrip('/')}/realtime/v1"
        self._tokens = tokens
        self._wanted = wanted
        self._listener = listener
        self._patience = patience or Patience()
        self._session: _Session | None = None

    def distrust(self, why: str) -> None:
        """Something that should have come did not: the session ends, and a new one begins."""
        if self._session is not None:
            self._session.fail(Trouble("deaf", why))

    async def run(self) -> None:
        """Sessions, one after another, forever."""
        failures = 0
        while True:
            began = time.monotonic()
            self._session = _Session(self._url, self._tokens, self._wanted, self._listener, self._patience)
            try:
                await self._session.run()
                trouble = Trouble("closed", "the session ended")
            except Trouble as error:
                trouble = error
            except Exception as error:
                # whatever the client, or the source of tokens, raises: the next session may fare better
                log.debug("realtime %s", self._wanted.topic, exc_info=True)
                trouble = Trouble("client", _words(error))
            finally:
                self._session = None
            # one that lasted is no reason to wait long for the next
            failures = 1 if time.monotonic() - began > 60 else failures + 1
            seconds = pause_after(full_jitter(1.0, self._patience.longest_pause), failures)
            level = logging.WARNING if failures <= 3 or failures % 20 == 0 else logging.DEBUG
            log.log(level, "realtime %s: %s (%s); again in %.1f s", self._wanted.topic, trouble, trouble.kind, seconds)
            self._listener.entered("down")
            self._listener.troubled(trouble.kind)
            await asyncio.sleep(seconds)


class _Pulse(AsyncRealtimeChannel):
    """Hears the answers to heartbeats, which the client drops: they come on a topic that is not a channel."""

    def __init__(self, client: AsyncRealtimeClient) -> None:
        super().__init__(client, "phoenix")
        self.last = time.monotonic()

    def _handle_message(self, message: object) -> None:
        self.last = time.monotonic()


class _Session:
    """One client, from its connect to the first trouble."""

    def __init__(self, url: str, tokens: Tokens, wanted: Wanted, listener: Listener, patience: Patience) -> None:
        self._url = url
        self._tokens = tokens
        self._wanted = wanted
        self._listener = listener
        self._patience = patience
        self._trouble: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._due: float | None = None
        """Until when "Subscribed to PostgreSQL" has to come."""

    def fail(self, trouble: Trouble) -> None:
        if not self._trouble.done():
            self._trouble.set_exception(trouble)
            self._trouble.exception()

    async def run(self) -> None:
        self._listener.entered("connecting")
        token, expires = await self._tokens.token()
        client = AsyncRealtimeClient(
            self._url, token=self._tokens.apikey, auto_reconnect=False, max_retries=1,
            timeout=max(1, int(self._patience.join)),
        )  # fmt: skip
        client.access_token = token
        pulse = client.channels["phoenix"] = _Pulse(client)
        try:
            await self._within(self._patience.connect, client.connect(), "connect", "cannot connect")
            await self._join(client)
            await self._watch(client, pulse, expires)
        finally:
            for channel in client.channels.values():
                # their timers would outlive the client
                channel.rejoin_timer.reset()
                channel.join_push.destroy()
            with contextlib.suppress(Exception):  # whatever a broken client raises: it is thrown away
                async with asyncio.timeout(2):
                    await client.close()

    async def _within(self, seconds: float, work: Awaitable[object], kind: str, what: str) -> None:
        job: asyncio.Future[Any] = asyncio.ensure_future(work)
        try:
            await asyncio.wait({job, self._trouble}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if self._trouble.done():
                self._trouble.result()
            if not job.done():
                raise Trouble(kind, f"{what} within {seconds:g} s")
            error = job.exception()
            if error is not None:
                # a key that is refused is set right by people, and not by waiting
                refused = isinstance(error, websockets.InvalidStatus) and error.response.status_code in (401, 403)
                raise Trouble("key" if refused else kind, f"{what} ({_words(error)})")
        finally:
            job.cancel()

    async def _join(self, client: AsyncRealtimeClient) -> None:
        options: RealtimeChannelOptions = {
            "config": {
                "broadcast": {"ack": False, "self": False},
                "presence": {"key": "", "enabled": False},
                "private": self._wanted.private,
            }
        }
        channel = client.channel(self._wanted.topic, options)
        for event, schema, table, where in self._wanted.changes:
            channel.on_postgres_changes(event, self._changed, table=table, schema=schema, filter=where or None)  # type: ignore[arg-type]
        channel.on_broadcast("*", self._broadcast)
        channel.on_system(self._system)
        if self._wanted.changes:
            self._due = time.monotonic() + self._patience.receiving
        await self._within(self._patience.join, channel.subscribe(self._state), "join", "cannot join")

    def _state(self, state: RealtimeSubscribeStates, error: Exception | None) -> None:
        if state is RealtimeSubscribeStates.SUBSCRIBED:
            self._listener.entered("joined")
            self._listener.opened()
        else:
            # CLOSED also where a rejoin's old close is taken for ours: the client would stay closed for good
            self.fail(Trouble(state.value.lower(), _words(error) if error else "the server closed the channel"))

    def _system(self, payload: Any) -> None:
        if payload.message == SUBSCRIBED:
            self._due = None
            self._listener.entered("receiving")
            self._listener.opened()

    def _broadcast(self, message: Any) -> None:
        found = message if isinstance(message, Mapping) else message.model_dump()
        self._listener.broadcast(str(found.get("event")), found.get("payload") or {})

    def _changed(self, message: Any) -> None:
        found = message if isinstance(message, Mapping) else message.model_dump()
        record = (found.get("data") or {}).get("record")
        self._listener.change(record if isinstance(record, Mapping) else {})

    async def _watch(self, client: AsyncRealtimeClient, pulse: _Pulse, expires: float | None) -> None:
        refresh_at = self._refresh_at(expires)
        beaten = time.monotonic()
        while True:
            await asyncio.wait({self._trouble}, timeout=self._patience.look)
            if self._trouble.done():
                self._trouble.result()
            now = time.monotonic()
            listening = client._listen_task
            if not client.is_connected or listening is None or listening.done():
                raise Trouble("closed", "the socket is closed")
            if now - beaten >= self._patience.heartbeat:
                beaten = now
                beat = client.send(Message(topic="phoenix", event=ChannelEvents.heartbeat, payload={}, ref=None))
                await self._within(self._patience.answer, beat, "closed", "cannot send")
            if now - pulse.last > self._patience.heartbeat + self._patience.answer:
                raise Trouble("silent", "a heartbeat had no answer")
            if self._due is not None and now > self._due:
                raise Trouble("silent", f"{SUBSCRIBED!r} did not come")
            if refresh_at is not None and time.time() >= refresh_at:
                token, expires = await self._tokens.token()
                if expires is not None and expires <= time.time():
                    raise Trouble("token", "there is no token that is still good")
                # a good refresh has no reply; the subscription is confirmed once more
                if self._wanted.changes:
                    self._due = now + self._patience.receiving
                await self._within(self._patience.answer, client.set_auth(token), "token", "cannot refresh the token")
                refresh_at = self._refresh_at(expires)

    def _refresh_at(self, expires: float | None) -> float | None:
        if expires is None:
            return None
        left = expires - time.time()
        return expires - min(self._patience.refresh_before, left / 2)


def _words(error: BaseException) -> str:
    if isinstance(error, websockets.InvalidStatus):
        body = (error.response.body or b"").decode(errors="replace")[:200]
        return f"HTTP {error.response.status_code} {body}".strip()
    return str(error) or type(error).__name__
