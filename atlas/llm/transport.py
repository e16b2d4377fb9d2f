"""The connection to the provider: watched, so that a failure says whether the request was written in full, and probed."""

from __future__ import annotations

import socket
from collections.abc import Callable

import httpx2

NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.WriteError, httpx2.WriteTimeout,
              httpx2.ProxyError, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)  # fmt: skip
"""Errors before a request was written in full."""


class NotSent(httpx2.TransportError):
    """The connection broke before the request was written in full: the provider cannot have acted on it."""


class WatchedTransport(httpx2.AsyncBaseTransport):
    """A transport that raises NotSent for whatever breaks before the request was written in full."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        sent = False

        async def trace(event: str, _info: object) -> None:
            nonlocal sent
            sent = sent or event.endswith("send_request_body.complete")

        request.extensions = {**request.extensions, "trace": trace}
        try:
            return await self._inner.handle_async_request(request)
        except httpx2.TransportError as error:
            if sent or isinstance(error, NEVER_SENT):
                raise
            raise NotSent(str(error) or type(error).__name__, request=request) from error

    async def aclose(self) -> None:
        await self._inner.aclose()


def probed_sockets() -> list[tuple[int, int, int]]:
    """Socket options: TCP keep-alive after 15 s of silence, every 10 s, given up after three."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


def watched_client(
    *, read: float, connect: float = 10.0, transport: Callable[[], httpx2.AsyncBaseTransport] | None = None
) -> httpx2.AsyncClient:
    """A client for calls. read: seconds without a byte after which an answer, or a stream, is given up."""
    inner = transport() if transport else httpx2.AsyncHTTPTransport(
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=4.0),
        socket_options=probed_sockets(), retries=0,
    )  # fmt: skip
    timeout = httpx2.Timeout(read, connect=connect, pool=connect)
    return httpx2.AsyncClient(transport=WatchedTransport(inner), timeout=timeout, follow_redirects=True)
