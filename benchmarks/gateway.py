"""python -m benchmarks.gateway --litellm PATH: how long a caller waits for the first text, directly, through LiteLLM's proxy and through
Atlas, in turns.

A provider in a process of its own answers each call at once, and streams for half a second. LiteLLM runs in one process as its documentation has it, with a master key and without a database: it keeps nothing. Atlas is all of it: the question is
inserted over REST, claimed, priced, reserved and audited, and the text comes back over Realtime. PATH: LiteLLM's command in an
environment of its own (pip install 'litellm[proxy]'), since its packages are not ours.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from uuid import UUID

import httpx

from atlas import loop
from atlas.local.stack import Stack
from atlas.local.supabase.access import Keys
from atlas.local.supabase.app import open_stand_in
from atlas.messages import chat
from atlas.service import build
from atlas.supabase.tasks import RestTasks, connect
from atlas.tasks.follow import MoreText, follow
from atlas.variables import load
from benchmarks.atlas_load import percentile
from benchmarks.databases import Bench
from benchmarks.provider import process, provider_of

ROOT = Path(__file__).parent.parent
KEY = "sk-bench"
Ask = Callable[[], Awaitable[float]]


async def work(url: str, supabase: str, key: str, provider: str) -> None:
    """A worker, until it is killed."""
    settings = load(
        {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": provider, "ATLAS_CONCURRENCY": "50", "DAILY_TOKEN_BUDGET": "100000000000",
         "RAG_TOP_K": "0", "ATLAS_MODEL": "gpt-4.1", "SUPABASE_URL": supabase, "SUPABASE_SECRET_KEY": key}
    )  # fmt: skip
    async with build(settings, url) as service:
        await service.run(asyncio.Event())


async def by_http(client: httpx.AsyncClient, base: str) -> float:
    """Seconds from the call to the first text, of a server that speaks the Responses API."""
    began = time.monotonic()
    body = {"model": "gpt-4.1", "input": "How do we ship?", "stream": True}
    async with client.stream("POST", f"{base}/responses", json=body, headers={"authorization": f"Bearer {KEY}"}) as answer:
        answer.raise_for_status()
        first = None
        async for line in answer.aiter_lines():
            if first is None and line.startswith("data:") and json.loads(line[5:])["type"] == "response.output_text.delta":
                first = time.monotonic() - began
    if first is None:
        raise RuntimeError(f"no text from {base}")
    return first


async def by_atlas(reads: RestTasks) -> float:
    """Seconds from the insert of a question to its first text."""
    message = chat("How do we ship?")
    began = time.monotonic()
    await reads.submit(message)
    first = None
    async for found in follow(reads, UUID(message["task_id"])):
        if first is None and isinstance(found, MoreText):
            first = time.monotonic() - began
    if first is None:
        raise RuntimeError("no text from Atlas")
    return first


@asynccontextmanager
async def litellm(command: str, provider: str, folder: Path) -> AsyncIterator[str]:
    """LiteLLM's proxy in front of the provider; its base URL."""
    config = folder / "litellm.json"  # JSON is YAML
    model = {"model_name": "gpt-4.1", "litellm_params": {"model": "openai/gpt-4.1", "api_base": provider, "api_key": KEY}}
    config.write_text(
        json.dumps({"model_list": [model], "general_settings": {"master_key": KEY}, "litellm_settings": {"telemetry": False}})
    )
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    words = (command, "--config", str(config), "--host", "127.0.0.1", "--port", str(port))
    async with process(*words, env={"LITELLM_LOCAL_MODEL_COST_MAP": "True"}) as running, httpx.AsyncClient() as client:
        while True:
            if running.returncode is not None:
                raise RuntimeError("LiteLLM ended before it began")
            try:
                if (await client.get(f"http://127.0.0.1:{port}/health/liveliness")).is_success:
                    break
            except httpx.TransportError:
                await asyncio.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"


async def burst(ask: Ask, at_once: int) -> list[float]:
    """Milliseconds to the first text of each of so many calls that are made together."""
    return [1000 * value for value in await asyncio.gather(*(ask() for _ in range(at_once)))]


async def measure(
    bench: Bench, command: str, rounds: int, levels: list[int], folder: Path
) -> dict[tuple[str, int], list[list[float]]]:
    """Milliseconds to the first text by way and calls at once, a list a round."""
    keys = Keys.create()
    me = (sys.executable, "-m", "benchmarks.gateway", "--only")
    found: dict[tuple[str, int], list[list[float]]] = {}
    async with (
        provider_of(pieces=20) as provider,
        bench.fresh() as (url, worker_url, db),
        open_stand_in(url, keys) as stand_in,
    ):
        client_settings = load({"SUPABASE_URL": stand_in.url, "SUPABASE_SECRET_KEY": keys.secret})
        async with (
            process(*me, json.dumps([worker_url, stand_in.url, keys.secret, provider])),
            litellm(command, provider, folder) as proxy,
            httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=200)) as client,
            connect(client_settings) as reads,
        ):
            while not await db.fetchval("select exists (select from atlas.worker where state = 'idle')"):
                await asyncio.sleep(0.1)
            ways: dict[str, Ask] = {
                "the provider itself": lambda: by_http(client, provider),
                "LiteLLM's proxy": lambda: by_http(client, proxy),
                "Atlas": lambda: by_atlas(reads),
            }
            for ask in ways.values():  # what is slow the first time only: imports, connections, plans
                await burst(ask, max(levels))
                await burst(ask, 1)
            for number in range(rounds):
                for level in levels:
                    for name, ask in list(ways.items()) if number % 2 else reversed(list(ways.items())):
                        if name == "Atlas":
                            # what was broadcast before counts in Supabase's limit, which Atlas keeps to: text then comes by the tables
                            await asyncio.sleep(15)
                        values = [value for _ in range(max(1, 20 // level)) for value in await burst(ask, level)]
                        found.setdefault((name, level), []).append(values)
                        sys.stderr.write(f"round {number + 1}: {name}, {level} at once: {median(values):.1f} ms\n")
    return found


async def run(command: str, rounds: int, levels: list[int]) -> None:
    """Measures, and prints a table."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder))
        try:
            cluster = stack.start_postgres()
            await stack.prepare(cluster)
            found = await measure(Bench(cluster), command, rounds, levels, Path(folder))
        finally:
            stack.postgres.stop("immediate")
    version = subprocess.run(
        [Path(command).with_name("python"), "-c", "import importlib.metadata as m; print(m.version('litellm'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    print(f"LiteLLM {version}, {rounds} rounds in turns, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    print("| calls at once | way | first text: p50 | p95 | over the provider itself (p50) |\n| --- | --- | --- | --- | --- |")
    for level in levels:
        base = median(value for values in found["the provider itself", level] for value in values)
        for name in dict.fromkeys(name for name, _ in found):
            values = sorted(value for values in found[name, level] for value in values)
            over = "" if name == "the provider itself" else f"{median(values) - base:.1f} ms"
            print(f"| {level} | {name} | {median(values):.1f} ms | {percentile(values, 0.95):.1f} ms | {over} |")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--litellm", help="LiteLLM's command")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 10, 40], help="calls at once")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        loop.run(work(*json.loads(given.only)))
    elif given.litellm is None:
        parser.error("--litellm is missing: install litellm[proxy] in an environment of its own, and give its command")
    else:
        loop.run(run(given.litellm, given.rounds, given.levels))


if __name__ == "__main__":
    main()
