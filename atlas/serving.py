"""What every HTTP server of Atlas shares: it takes its port itself, and closes a connection whose request does not come."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from atlas.errors import StackError
from atlas.metrics.process import CONTENT_TYPE, ProcessMetrics
from atlas.rotation import CurrentSettings, reads_again
from atlas.tls import load_again, server_options

HEADERS_WITHIN = 10.0
"""Seconds from a connection, or from the first byte of its next request, to the end of that request's headers."""


class PromptHeaders(H11Protocol):
    """uvicorn's protocol, which itself waits for headers forever: half-open requests would take all connections."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif self._late is None:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _expect(self) -> None:
        self._late = self.loop.call_later(HEADERS_WITHIN, self._give_up)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        # a websocket has a protocol of its own from its handshake on; a pipelined request may be under way by now
        if self.transport.get_protocol() is not self or (self.cycle is not None and not self.cycle.response_complete):
            return
        self.transport.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


class SignalledServer(uvicorn.Server):
    """uvicorn's server with our signals: SIGTERM ends with exit code 0, since a drained process is not a failure.

    stopping is called when one comes.
    """

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._stopping = stopping

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _stop(self, number: int) -> None:
        # now, and not when uvicorn next looks
        self._stopping()
        self.handle_exit(number, None)


class QuietServer(uvicorn.Server):
    """uvicorn's server beside a process's own work, which takes the signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def pages_of(
    work: asyncio.Task[None], metrics: ProcessMetrics, door: socket.socket, current: CurrentSettings
) -> AsyncIterator[None]:  # fmt: skip
    """Serves /livez and /metrics of a process whose one task is its work, for as long as the context is open.

    SIGHUP reads its secrets and its certificate again.
    """

    async def livez(_request: Request) -> Response:
        dead = work.done()
        return PlainTextResponse("dead" if dead else "ok", status_code=503 if dead else 200)

    async def exposition(_request: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    app = Starlette(routes=[Route("/livez", livez), Route("/metrics", exposition)])
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", http=PromptHeaders, timeout_graceful_shutdown=1,
        **server_options(current.settings),
    )  # fmt: skip
    current.when_renewed(lambda _changed: load_again(config))
    server = QuietServer(config)
    serving = asyncio.create_task(server.serve(sockets=[door]))
    watching = asyncio.create_task(metrics.watch_loop())
    try:
        with reads_again(current):
            yield
    finally:
        watching.cancel()
        server.should_exit = True
        await serving


def listen(host: str, port: int, setting: str, *, or_any: bool = False) -> socket.socket:
    """The socket of a server. Whoever listens takes the port itself: one that was looked up before may be gone by then.

    port 0, and or_any where the port is taken: a free one. Raises StackError for a port that cannot be had; setting names it.
    """
    # TCP by its name: asyncio sends small writes at once only where a socket says so, and each answer took 40 ms more
    taken = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        try:
            taken.bind((host, port))
        except OSError as error:
            if not or_any or error.errno != errno.EADDRINUSE:
                raise
            taken.bind((host, 0))
        # now, and not when the server begins: until then another might listen on it as well
        taken.listen(2048)
    except OSError as error:
        taken.close()
        raise StackError(
            f"port {port} of {host} cannot be used ({error.strerror})", f"set {setting} to a free one, or to 0"
        ) from error
    return taken


def tell_port(file: Path | None, taken: socket.socket) -> None:
    """Leaves the port for the process that started this one; whole, or not at all."""
    if file is not None:
        fresh = file.with_suffix(".fresh")
        fresh.write_text(str(taken.getsockname()[1]))
        fresh.replace(file)
