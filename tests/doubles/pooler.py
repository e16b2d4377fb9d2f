"""A transaction pooler, as Supavisor and PgBouncer are in that mode: each transaction gets the server connection that was idle
longest, so that nothing of a session survives. Logins are passed through; notifications are dropped."""

from __future__ import annotations

import asyncio
import collections
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SSL_REQUEST = 80877103


@dataclass(kw_only=True)
class Pooler:
    """port: where it listens. transactions: how many went through. Mutable: the idle server connections."""

    server_port: int
    port: int = 0
    transactions: int = 0
    idle: collections.deque[Stream] = field(default_factory=collections.deque)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held: Stream | None = None
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            try:
                if not await self._log_in(reader, writer):
                    return
                while True:
                    kind, body = await _message(reader)
                    if kind == b"X":
                        return
                    if held is None:
                        while not self.idle:
                            await asyncio.sleep(0.001)
                        held = self.idle.popleft()
                        answering = asyncio.create_task(self._answer(held[0], writer))
                    held[1].write(kind + struct.pack("!I", len(body) + 4) + body)
                    if kind in b"SQ":
                        # parse and describe come with a Flush: they are of the transaction that the Sync ends
                        state = await answering
                        if state == b"I":
                            self.transactions += 1
                            self.idle.append(held)
                            held = None
                        else:
                            answering = asyncio.create_task(self._answer(held[0], writer))
            finally:
                if held is not None:
                    held[1].close()
                writer.close()

    async def _log_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        (length,) = struct.unpack("!I", await reader.readexactly(4))
        start = await reader.readexactly(length - 4)
        if struct.unpack("!I", start[:4])[0] == SSL_REQUEST:
            writer.write(b"N")
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            start = await reader.readexactly(length - 4)
        server = await asyncio.open_connection("127.0.0.1", self.server_port)
        server[1].write(struct.pack("!I", len(start) + 4) + start)
        while True:
            kind, body = await _message(server[0])
            writer.write(kind + struct.pack("!I", len(body) + 4) + body)
            if kind == b"Z":
                self.idle.append(server)
                return True
            if kind == b"E":
                return False
            if kind == b"R" and struct.unpack("!I", body[:4])[0] in (3, 5, 10, 11):
                kind, body = await _message(reader)
                server[1].write(kind + struct.pack("!I", len(body) + 4) + body)

    @staticmethod
    async def _answer(server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        while True:
            kind, body = await _message(server)
            if kind != b"A":
                writer.write(kind + struct.pack("!I", len(body) + 4) + body)
            if kind == b"Z":
                return body


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    (length,) = struct.unpack("!I", await reader.readexactly(4))
    return kind, await reader.readexactly(length - 4)


@asynccontextmanager
async def pooling(server_port: int) -> AsyncIterator[Pooler]:
    """A pooler before a server."""
    pooler = Pooler(server_port=server_port)
    server = await asyncio.start_server(pooler.serve, "127.0.0.1", 0)
    pooler.port = server.sockets[0].getsockname()[1]
    try:
        yield pooler
    finally:
        server.close()
        for _, writer in pooler.idle:
            writer.close()
