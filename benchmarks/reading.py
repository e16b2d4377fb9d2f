"""python -m benchmarks.reading --base REF: what it costs to read many streams at once, against a commit, in turns.

A server in a process of its own sends the events of the Responses API over real connections, each stream at 40 deltas a second.
Atlas's adapter reads all of them in one process, on the loop of a worker, and does nothing with the text.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
A_SECOND = 40
"""Deltas of a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one run: CPU of the reader an event, how much of a core that is, how late the loop was, how late the text."""

    cpu_us: float
    core_share: float
    lag_p99_ms: float
    text_p99_ms: float


def event(kind: str, number: int, **more: Any) -> bytes:
    """An event of about the size that OpenAI's have."""
    body = {"type": kind, "sequence_number": number, **more}
    return f"event: {kind}\ndata: {json.dumps(body)}\n\n".encode()


def response(status: str) -> dict[str, Any]:
    """A response object."""
    return {
        "id": "resp_1", "object": "response", "created_at": 0, "status": status, "model": "gpt-4.1", "output": [], "tools": [],
        "parallel_tool_calls": True, "tool_choice": "auto", "usage": {
            "input_tokens": 10, "output_tokens": 10, "total_tokens": 20, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0}},
    }  # fmt: skip


async def serve(seconds: float) -> None:
    """Streams to whoever connects, all by one clock; says its port on stdout."""
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + event("response.created", 0, response=response("in_progress")))
        writers.append(writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    while not writers:
        await asyncio.sleep(0.01)
    await asyncio.sleep(3)
    began = time.monotonic()
    for number in range(1, int(seconds * A_SECOND)):
        await asyncio.sleep(max(0.0, began + number / A_SECOND - time.monotonic()))
        # its text is when it was sent
        more = {"item_id": "msg_0123456789abcdef0123456789abcdef", "output_index": 0, "content_index": 0, "logprobs": [],
                "obfuscation": "qZ3rT7yU1", "delta": f"{time.monotonic():.6f} "}  # fmt: skip
        data = event("response.output_text.delta", number, **more)
        for writer in writers:
            writer.write(data)
    for writer in writers:
        writer.write(event("response.completed", 10**6, response=response("completed")))
        writer.close()
    await asyncio.sleep(5)


async def read(port: int, streams: int) -> Figures:
    """Reads so many streams to their ends."""
    from openai import AsyncOpenAI, Timeout

    from atlas.llm.models import Model
    from atlas.llm.openai_responses import OpenAIGenerator
    from atlas.llm.port import Delta, ModelCall
    from atlas.llm.transport import watched_client

    late: list[float] = []
    lags: list[float] = []
    first: list[float] = []
    cpu = 0.0

    async def one(generator: OpenAIGenerator) -> None:
        nonlocal cpu
        call = ModelCall(model=Model(name="gpt-4.1"), instructions="i", turns=(("user", "q"),), max_output_tokens=100)
        async with aclosing(generator.generate(call)) as events:  # type: ignore[type-var]  # a generator, as its code shows
            async for found in events:
                if isinstance(found, Delta):
                    if not first:
                        # what came before, connections and imports, is not reading
                        first.append(time.monotonic())
                        cpu = own_cpu()
                    late.append(time.monotonic() - float(found.text))

    async def look() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            if first:
                lags.append(time.monotonic() - began - 0.01)

    looking = asyncio.create_task(look())
    async with AsyncOpenAI(
        api_key="k", base_url=f"http://127.0.0.1:{port}", max_retries=0, timeout=Timeout(60, connect=30),
        http_client=watched_client(read=60, connect=30),
    ) as client:  # fmt: skip
        generator = OpenAIGenerator(client, background="auto")
        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(one(generator))
    looking.cancel()
    used, took = own_cpu() - cpu, time.monotonic() - first[0]
    return Figures(
        cpu_us=1e6 * used / len(late), core_share=used / took, lag_p99_ms=1000 * sorted(lags)[int(0.99 * len(lags))],
        text_p99_ms=1000 * sorted(late)[int(0.99 * len(late))],
    )  # fmt: skip


def own_cpu() -> float:
    """Seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(work: Coroutine[Any, Any, Figures]) -> Figures:
    """On the loop that a worker of this code has."""
    try:
        from atlas import loop
    except ImportError:
        return asyncio.run(work)
    return loop.run(work)


def measure(checkout: Path, streams: int, seconds: float) -> Figures:
    """One run of a checkout's code, in a process of its own; the server is this tree's."""
    server = subprocess.Popen([sys.executable, __file__, "--serve", str(seconds)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        done = subprocess.run(
            [sys.executable, "-P", __file__, "--read", port, str(streams)], cwd=checkout, check=True, stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(checkout)}, text=True,
        )  # fmt: skip
        return Figures(**json.loads(done.stdout.splitlines()[-1]))
    finally:
        server.kill()
        server.wait()


def compare(base: str, rounds: int, streams: int, seconds: float) -> None:
    """Measures both in turns, and prints a table."""
    from benchmarks.versus import checked_out, table  # here: the commit that is measured may not have it

    with tempfile.TemporaryDirectory() as folder, checked_out(base, Path(folder)) as other:
        pairs = []
        for number in range(rounds):
            order = [other, ROOT] if number % 2 else [ROOT, other]
            found = {checkout: measure(checkout, streams, seconds) for checkout in order}
            pairs.append((found[other], found[ROOT]))
            sys.stderr.write(f"round {number + 1}: {found[other]} {found[ROOT]}\n")
    print(
        f"{streams} streams at {A_SECOND}/s for {seconds:g} s, {rounds} pairs, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n"
    )
    print(table(base, pairs))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading", description=__doc__)
    parser.add_argument("--base", default="HEAD", help="the commit that it is compared with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--read", nargs=2, type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve))
    elif given.read:
        print(json.dumps(asdict(run(read(*given.read)))))
    else:
        compare(given.base, given.rounds, given.streams, given.seconds)


if __name__ == "__main__":
    main()
