"""Who may call the RAG service, and how often: a bearer key, a Supabase login, or nobody but this machine."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import httpx
import jwt
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atlas.errors import AtlasError
from atlas.supabase.keys import TokenRefused, Verifier
from atlas.task import JsonObject

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class CallRefused(AtlasError):
    """A call that is not answered. status: of HTTP; code: what programs look at."""

    def __init__(self, status: int, code: str, message: str, hint: str = "", *, wait: float | None = None) -> None:
        super().__init__(message, hint)
        self.status = status
        self.code = code
        self.wait = wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls. claims None: the service role, by the key or from this machine."""

    name: str
    claims: JsonObject | None = None

    def must_be_service(self, what: str) -> None:
        """Raises CallRefused for a user."""
        if self.claims is not None:
            raise CallRefused(
                403, "not_allowed", f"{what} needs the service's key, and not a user's login", "ask whoever runs Atlas"
            )


class Gateway:
    """Lets callers in. key None and verifier None: only who calls from this machine, under one of its own names."""

    def __init__(self, *, key: str | None, verifier: Verifier | None, buckets: Buckets) -> None:
        self.key = key
        """RAG_API_KEY, which may be renewed."""
        self._verifier = verifier
        self._buckets = buckets

    async def enter(self, authorization: str | None, host: str) -> Caller:
        """The caller. Raises CallRefused."""
        caller = await self._caller(authorization, host)
        wait = self._buckets.take(caller.name)
        if wait > 0:
            raise CallRefused(
                429,
                "too_many_calls",
                f"more calls than {self._buckets.rate:g} a second",
                f"try again in {wait:.1f} s",
                wait=wait,
            )
        return caller

    async def _caller(self, authorization: str | None, host: str) -> Caller:
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            # a page in a browser reaches this machine's ports under another name: it is not this machine that asks
            if self.key is None and self._verifier is None and _name_of(host) in LOOPBACK:
                return Caller(name="loopback")
            raise CallRefused(
                401, "no_token", "there is no bearer token", "send Authorization: Bearer with RAG_API_KEY, or a login"
            )
        token = token.strip()
        if self.key is not None and hmac.compare_digest(token.encode(), self.key.encode()):
            return Caller(name="key")
        if self._verifier is None:
            raise CallRefused(401, "wrong_token", "the bearer token is not this service's key", "check RAG_API_KEY")
        try:
            claims = await self._verifier.claims(token)
        except (httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
            said = f"the project's keys cannot be read ({error.__class__.__name__})"
            raise CallRefused(503, "away", said, "try again", wait=2) from error
        except TokenRefused as error:
            raise CallRefused(401, "wrong_token", str(error), error.hint) from None
        if claims.get("role") == "service_role":
            return Caller(name="service_role")
        if claims.get("role") != "authenticated" or not isinstance(claims.get("sub"), str):
            raise CallRefused(403, "not_allowed", f"a token of {claims.get('role')} reads nothing here", "log in")
        return Caller(name=f"user:{claims['sub']}", claims=claims)


def _name_of(host: str) -> str:
    """The name of a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


class Buckets:
    """A token bucket a caller: rate calls a second, ten times as many at once. The least used of many callers are forgotten."""

    def __init__(self, rate: float, *, most: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._size = max(1.0, 10 * rate)
        self._most = most
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> float:
        """Takes one; answers the seconds to wait where none is left."""
        now = self._clock()
        left, at = self._left.pop(name, (self._size, now))
        left = min(self._size, left + (now - at) * self.rate)
        wait = 0.0 if left >= 1 else (1 - left) / self.rate
        self._left[name] = (left - 1 if wait == 0 else left, now)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return wait


class CallLimit:
    """Answers 503 to a call that is one too many at once. The paths of `free` are for operators: they are always answered."""

    def __init__(self, app: ASGIApp, *, most: int, free: frozenset[str]) -> None:
        self._app = app
        self._most = most
        self._free = free
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._free:
            await self._app(scope, receive, send)
            return
        if self._under_way >= self._most:
            await _answer(send, 503, "busy", f"{self._most} calls are under way", "try again", {b"retry-after": b"2"})
            return
        self._under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way -= 1


class BodyLimit:
    """Answers 413 to a body that is larger, by its header or as it comes, and 408 to one that takes longer."""

    def __init__(self, app: ASGIApp, *, most: int, within: float = 30.0) -> None:
        self._app = app
        self._most = most
        self._within = within

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > self._most:
            await self._too_large(receive, send)
            return
        got = 0
        answered = refused = late = whole = False
        deadline = asyncio.get_running_loop().time() + self._within

        async def counted() -> Message:
            nonlocal got, refused, late, whole
            try:
                # after the body, what is waited for is the client's going away
                async with asyncio.timeout_at(None if whole else deadline):
                    message = await receive()
            except TimeoutError:
                refused = late = True
                return {"type": "http.disconnect"}
            got += len(message.get("body", b""))
            whole = whole or not message.get("more_body", False)
            if got > self._most:
                refused = True
                # the app reads an end that came too early; what it answers is not sent
                return {"type": "http.disconnect"}
            return message

        async def watched(message: Message) -> None:
            nonlocal answered
            if refused and not answered:
                return
            answered = True
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except Exception:
            # cut off in the middle of its body, the app may end in any way; every other error is its own
            if not refused:
                raise
        if refused and not answered:
            if late:
                await _answer(send, 408, "slow", f"the body took longer than {self._within:g} s", "send it in parts")
            else:
                await self._too_large(receive, send)

    async def _too_large(self, receive: Receive, send: Send) -> None:
        # what a client sends is taken and forgotten, up to a point: one that still writes does not read the answer
        left = 8 * self._most
        with suppress(TimeoutError):
            async with asyncio.timeout(self._within):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body"):
                        break
        await _answer(send, 413, "too_large", f"the body is larger than {self._most // 1024 // 1024} MiB", "send it in parts")


async def _answer(
    send: Send, status: int, code: str, message: str, hint: str, headers: dict[bytes, bytes] | None = None
) -> None:
    body = json.dumps({"error": {"code": code, "message": message, "hint": hint}}).encode()
    sent = {b"content-type": b"application/json", b"connection": b"close"} | (headers or {})
    await send({"type": "http.response.start", "status": status, "headers": list(sent.items())})
    await send({"type": "http.response.body", "body": body})
