"""A provider of the Responses API in a process of its own, and processes that end with what measures them.

It answers each call at once, and streams a whole record of some 8 KB.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from benchmarks.atlas_load import LONG_REPLY
from benchmarks.reading import A_SECOND, event, response

ROOT = Path(__file__).parent.parent


async def serve(pieces: int) -> None:
    """Says its port, then answers until it is killed. A stream has a piece 40 times a second."""
    size = -(-len(LONG_REPLY) // pieces)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
        await reader.readexactly(length)
        if not head.startswith(b"POST"):
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            writer.close()
            return
        answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        writer.write(answer + event("response.created", 0, response=response("in_progress") | {"id": f"resp_{uuid4().hex}"}))
        began = time.monotonic()
        for number in range(1, pieces + 1):
            text = LONG_REPLY[(number - 1) * size : number * size]
            more = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": [], "delta": text}
            writer.write(event("response.output_text.delta", number, **more))
            await asyncio.sleep(max(0.0, began + number / A_SECOND - time.monotonic()))
        writer.write(event("response.completed", pieces + 1, response=response("completed")))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@asynccontextmanager
async def process(*words: str, env: Mapping[str, str] | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program, killed at the end."""
    started = await asyncio.create_subprocess_exec(
        *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=os.environ | dict(env or {})
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


@asynccontextmanager
async def provider_of(pieces: int) -> AsyncIterator[str]:
    """A provider whose replies have so many pieces; its URL."""
    async with process(sys.executable, "-m", "benchmarks.provider", str(pieces)) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(await server.stdout.readline())}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("pieces", type=int)
    asyncio.run(serve(parser.parse_args().pieces))
