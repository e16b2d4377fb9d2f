"""Signed webhooks, to public addresses only. The rules are in atlas.webhooks.

The webhook's id is the event's. Redirects are not followed. An address is checked after its name was resolved, and the
connection goes to the address that was checked: a name that answers differently the second time gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpcore

from atlas import __version__
from atlas.errors import SettingsError
from atlas.mirror.events import Event, Postponed, Rejected, Unreachable
from atlas.text import clean
from atlas.webhooks import Allowed, sign

POSTPONED = frozenset({409, 425})
"""What says that this event comes too early, such as while another call still works on it."""
RETRIED = frozenset({401, 403, 404, 407, 408, 410, 429})
"""What says something of the address, the secret or the moment, and not of one event."""


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Resolves a name, checks the addresses, and connects to one of those that were checked."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises httpcore.ConnectError where no address may be called."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} has no address ({error})") from error
        addresses = [str(entry[4][0]) for entry in found]
        public = [one for one in addresses if self._allowed.address(ipaddress.ip_address(one.split("%")[0]), host)]
        if not public:
            raise httpcore.ConnectError(
                f"{host} is {', '.join(dict.fromkeys(addresses))}: a private address is called only where "
                "ATLAS_WEBHOOK_ALLOW names it"
            )
        last: Exception | None = None
        for address in dict.fromkeys(public):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last or httpcore.ConnectError(f"{host} cannot be reached")

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """No webhook is a file."""
        raise httpcore.ConnectError(f"{path}: a webhook has an address")

    async def sleep(self, seconds: float) -> None:
        """As httpcore wants it."""
        await asyncio.sleep(seconds)


class WebhookTarget:
    """One URL. Raises SettingsError for a URL that may not be called. now: seconds since 1970."""

    limit = 1
    room = 32

    def __init__(
        self, url: str, keys: Sequence[bytes], *, allowed: Allowed, timeout: float, now: Callable[[], float],
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self._url = _usable(url)
        parts = urlsplit(self._url)
        if parts.scheme != "https" and not allowed.plain(parts.hostname or ""):
            raise SettingsError([f"{parts.hostname} is called without TLS: use https, or name the host in ATLAS_WEBHOOK_ALLOW"])
        self._keys = keys
        self.timeout = timeout
        self._now = now
        self._pool = httpcore.AsyncConnectionPool(
            network_backend=GuardedBackend(allowed),
            ssl_context=ssl_context,
            max_connections=self.room,
            keepalive_expiry=20,
            retries=0,
        )

    async def send(self, events: Sequence[Event]) -> None:
        """Posts one event; returns when the receiver has answered 2xx."""
        (event,) = events
        body = json.dumps(
            {"type": event.type, "timestamp": event.created_at.isoformat(), "data": event.payload}, ensure_ascii=False
        ).encode()
        timestamp = int(self._now())
        headers = {
            "content-type": "application/json",
            "user-agent": f"atlas-mirror/{__version__}",
            "webhook-id": str(event.event_id),
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(self._keys, str(event.event_id), timestamp, body),
            "connection": "keep-alive",
        } | ({"traceparent": event.traceparent} if event.traceparent else {})
        limits = {"connect": min(5.0, self.timeout), "read": self.timeout, "write": self.timeout, "pool": self.timeout}
        try:
            async with asyncio.timeout(self.timeout):
                async with self._pool.stream("POST", self._url, headers=_raw(headers, self._url), content=body,
                                             extensions={"timeout": limits}) as answer:  # fmt: skip
                    text = await _beginning(answer)
        except (httpcore.TimeoutException, TimeoutError) as error:
            raise Unreachable(f"no answer within {self.timeout:g} s") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error
        _judge(answer, text, self._now())

    async def close(self) -> None:
        """Closes the connections."""
        await self._pool.aclose()


def _usable(url: str) -> str:
    """The URL with its host as DNS wants it. Raises SettingsError for one that cannot be called."""
    try:
        parts = urlsplit(url)
        port = parts.port
        named = parts.hostname or ""
        host = f"[{named}]" if ":" in named else named.encode("idna").decode("ascii")
    except ValueError as error:
        raise SettingsError([f"the URL of this webhook cannot be read ({error}): correct its target"]) from error
    if not host or parts.username is not None or port == 0:
        raise SettingsError(["the URL of this webhook has no host, or a name and password: correct its target"])
    where = host if port is None else f"{host}:{port}"
    return urlunsplit((parts.scheme, where, parts.path or "/", parts.query, ""))


def _raw(headers: dict[str, str], url: str) -> list[tuple[bytes, bytes]]:
    parts = urlsplit(url)
    return [(b"host", parts.netloc.encode()), *((name.encode(), value.encode()) for name, value in headers.items())]


async def _beginning(answer: httpcore.Response, most: int = 4096) -> str:
    found = b""
    async for part in answer.aiter_stream():
        found += part
        if len(found) >= most:
            break
    return clean(found[:most].decode("utf-8", "replace"))


def _judge(answer: httpcore.Response, text: str, now: float) -> None:
    status = answer.status
    said = f"HTTP {status} {' '.join(text.split())[:200]}".strip()
    if 200 <= status < 300:
        return
    if status in POSTPONED:
        raise Postponed(said, _retry_after(answer, now))
    if status >= 500 or status in RETRIED:
        raise Unreachable(said, _retry_after(answer, now))
    if 300 <= status < 400:
        raise Unreachable(f"HTTP {status}: redirects are not followed, name the final URL")
    raise Rejected(said)


def _retry_after(answer: httpcore.Response, now: float) -> float:
    headers: dict[bytes, Any] = {name.lower(): value for name, value in answer.headers}
    value = headers.get(b"retry-after", b"").decode("latin-1").strip()
    if value.isdecimal():
        return min(float(value), 3600.0)
    try:
        return min(max(0.0, parsedate_to_datetime(value).timestamp() - now), 3600.0)
    except (ValueError, OverflowError, TypeError):
        return 0.0
