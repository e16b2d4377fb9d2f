"""The way to a provider: a TCP relay on loopback that breaks as networks and gateways do. It knows nothing of HTTP but the end
of a request's head, and the answers that a gateway gives in the provider's place."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Literal

Mode = Literal["open", "refuse", "close", "lost", "mute", "silent", "malformed", "502", "503", "504"]
"""open: relays. refuse: the port is closed. close: takes the request, and closes without an answer. lost: the provider
gets it, and its answer is lost. mute: the same, and the connection stays open. silent: takes it, and says nothing. A number: a gateway's bare answer.
malformed: 200 with a body that cannot be read as an event stream."""

_BARE = b"HTTP/1.1 %d Gateway\r\ncontent-type: text/html\r\ncontent-length: 13\r\nconnection: close\r\n\r\n<html></html>"

_MALFORMED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nevent: response.created\ndata: {nonsense\n\n"


class Way:
    """Runs in a thread of its own. requests: how many were begun on it in a mode that breaks them."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.requests = 0
        self.target = target_port
        """Where connections go: it may move."""
        self._mode: Mode = "open"
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._passing = asyncio.Event()
        self._passing.set()

    def __enter__(self) -> Way:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._stop_listening())
        self.cut()
        self._call(asyncio.sleep(0.05))  # what was cut ends
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def set(self, mode: Mode, *, cut: bool = True) -> None:
        """From now on connections are treated so; cut: those that are open are reset."""
        self._mode = mode
        self._call(self._stop_listening() if mode == "refuse" else self._listen())
        if cut:
            self.cut()

    def cut(self) -> None:
        """Resets every connection that is open."""
        self._call(self._cut())

    def freeze(self) -> None:
        """Nothing passes on connections that are open; none is reset."""
        self._loop.call_soon_threadsafe(self._passing.clear)

    def thaw(self) -> None:
        """All passes again."""
        self._loop.call_soon_threadsafe(self._passing.set)

    def _call(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _cut(self) -> None:
        self._passing.set()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._treat(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _treat(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mode = self._mode
        if mode == "open":
            await self._relay(reader, writer)
            return
        self.requests += 1
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0
        )
        body = await reader.readexactly(length)
        if mode in ("lost", "mute"):
            _, back = await asyncio.open_connection("127.0.0.1", self.target)
            back.write(head + body)
            await back.drain()
            await asyncio.sleep(0.3)
            back.close()
            if mode == "mute":
                await reader.read()
        elif mode == "silent":
            await reader.read()
        elif mode == "malformed":
            writer.write(_MALFORMED)
            await writer.drain()
        elif mode != "close":
            writer.write(_BARE % int(mode))
            await writer.drain()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            return
        self._writers.add(back)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    await self._passing.wait()
                    sink.write(data)
                    await sink.drain()
            sink.close()

        try:
            await asyncio.gather(pump(reader, back), pump(there, writer))
        finally:
            self._writers.discard(back)
            back.close()
