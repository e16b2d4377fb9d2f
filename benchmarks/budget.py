"""python -m benchmarks.budget: a thousand calls at once against a cap that fits fifty, with workers killed; writes
docs/benchmarks_budget.md.

--litellm PATH: LiteLLM's proxy (pip install 'litellm[proxy]' in an environment of its own), measured beside it with its provider
budget, which is the one that needs no database of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from atlas.local.stack import Stack
from tests.doubles.openai import OpenAIDouble, usage
from tests.doubles.serving import serving
from tests.support.core import ADR, Database, Json, workers_of

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/benchmarks_budget.md"
INPUT, OUTPUT = 600, 400
KILLING = 30.0
"""Seconds for which workers are killed; then all comes to rest."""
PRICE = (INPUT * 2 + OUTPUT * 8) / 1_000_000
"""USD of one call to gpt-4.1."""
KEY = "sk-0123456789abcdef0123456789abcdef0123456789abcdef"
"""A key for one run on loopback."""
FITS = 50
CAP = round(PRICE * FITS, 6)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one of them did. highest: the most that was settled and reserved at any look, in USD; used: the provider's ledger."""

    name: str
    made: int
    used: float
    highest: float | None
    false_refusals: int | None
    kills: int
    seconds: float

    @property
    def over(self) -> float:
        return max(0.0, self.used - CAP, (self.highest or 0) - CAP)


async def atlas(tasks: int, seconds: float) -> Found:
    """Two workers, one of them killed with -9 every 0.8 s for half a minute, on a Postgres of their own."""
    folder = Path(tempfile.mkdtemp())
    stack = Stack(folder / "home")
    cluster = stack.start_postgres()
    kills = 0
    highest = 0.0
    began = time.monotonic()
    try:
        await stack.prepare(cluster)
        database = Database(cluster=cluster, name="postgres")
        with OpenAIDouble() as double, workers_of(database, folder) as workers:
            double.plan(text=ADR, delay=0.005, usage=usage(INPUT, OUTPUT))
            async with database.connect() as db, database.connect() as eyes:
                await db.execute("select atlas.set_budget('global', $1)", {"usd_daily": CAP, "daily": None})
                await db.execute(
                    "insert into public.architect_in (data) select jsonb_build_object('task_id', atlas.new_id(), 'role', "
                    "'architect', 'msg_type', 'chat', 'content', 'question ' || n) from generate_series(1, $1::int) n",
                    tasks,
                )
                settings: Json = {
                    "openai_api_key": "k", "openai_base_url": double.url, "openai_fallback_models": "none", "atlas_lease_seconds": 2,
                    "atlas_hold_seconds": 4, "atlas_held_retry_seconds": 1, "daily_token_budget": 10**9,
                }  # fmt: skip
                for _ in range(2):
                    await workers.start(**settings)
                stopping = asyncio.Event()
                started = time.monotonic()

                async def watch() -> None:
                    nonlocal highest
                    while not stopping.is_set():
                        row = await eyes.fetchrow(
                            "select settled_usd + reserved_usd as usd from atlas.budget_now where scope = 'global'"
                        )
                        highest = max(highest, float(row["usd"]))
                        await asyncio.sleep(0.01)

                async def kill() -> None:
                    nonlocal kills
                    while not stopping.is_set():
                        await asyncio.sleep(0.8)
                        alive = [worker for worker in workers.started if worker.process.poll() is None]
                        if not stopping.is_set() and alive and time.monotonic() - started < KILLING:
                            random.choice(alive).process.send_signal(signal.SIGKILL)
                            kills += 1
                            await workers.start(**settings)

                async with asyncio.TaskGroup() as group:
                    watching, killing = group.create_task(watch()), group.create_task(kill())
                    end = time.monotonic() + seconds
                    while time.monotonic() < end:
                        await asyncio.sleep(0.5)
                        open_calls = await db.fetchval("select count(*) from atlas.spend where state <> 'settled'")
                        left = await db.fetchval(
                            "select count(*) from atlas.task where finished_at is null and wait_reason is distinct from 'settled_budget'"
                        )
                        if open_calls == 0 and left == 0:
                            break
                    stopping.set()
                    await asyncio.gather(watching, killing)
                await settle(db, double)
                wrong = await false_refusals(db)
                made = await db.fetchval("select count(*) from atlas.task where state = 'completed'")
                if await db.fetch("select * from atlas.check_ledger()"):
                    raise RuntimeError("the books disagree")
            used = sum(response["usage"] is not None for response in double.responses()) * PRICE
        return Found(name="Atlas", made=made, used=used, highest=highest, false_refusals=wrong, kills=kills,
                     seconds=time.monotonic() - began)  # fmt: skip
    finally:
        stack.postgres.stop("immediate")


async def settle(db: asyncpg.Connection, double: OpenAIDouble) -> None:
    """What the provider's webhook tells: calls of killed workers become known."""
    for response in double.responses():
        if response["usage"]:
            told = {"id": response["id"], "status": response["status"], "metadata": response["metadata"], "text": "late",
                    "usage": {"input_tokens": INPUT, "output_tokens": OUTPUT}}  # fmt: skip
            await db.execute("select atlas.adopt_response($1)", told)


async def false_refusals(db: asyncpg.Connection) -> int:
    """Tasks that wait for a spent budget although the smallest call that was reserved would fit what is left of it."""
    return int(
        await db.fetchval(
            "select count(*) from atlas.task t cross join atlas.budget_now b where b.scope = 'global' "
            "and t.wait_reason = 'settled_budget' and b.settled_usd + b.reserved_usd + "
            "(select min(s.reserved_usd) from atlas.spend s where s.corrects is null) <= b.usd_daily"
        )
    )


async def litellm(path: str, calls: int) -> Found:
    """LiteLLM's proxy with a provider budget of the same size, called by as many clients at once."""
    answered = 0

    async def complete(request: Request) -> Response:
        nonlocal answered
        await asyncio.sleep(0.15)
        answered += 1
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}
        counts = {"prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT}
        return JSONResponse({"id": f"c{answered}", "object": "chat.completion", "created": 0, "model": "gpt-4.1", "choices": [choice],
                             "usage": counts})  # fmt: skip

    app = Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])
    began = time.monotonic()
    async with serving(app) as port:
        folder = Path(tempfile.mkdtemp())
        model = {"model": "openai/gpt-4.1", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": "k"}
        config = {"model_list": [{"model_name": "gpt-4.1", "litellm_params": model}],
                  "router_settings": {"provider_budget_config": {"openai": {"budget_limit": CAP, "time_period": "1d"}}}}  # fmt: skip
        (folder / "config.yaml").write_text(json.dumps(config))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            own = free.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            path, "--config", str(folder / "config.yaml"), "--port", str(own), "--host", "127.0.0.1",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, cwd=folder,
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY},
        )  # fmt: skip
        try:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{own}", timeout=300, limits=limits) as client:
                for _ in range(240):
                    try:
                        if (await client.get("/health/liveliness")).status_code == 200:
                            break
                    except httpx.HTTPError:
                        pass
                    await asyncio.sleep(0.5)
                headers = {"authorization": f"Bearer {KEY}"}
                body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "x"}]}

                async def one() -> int:
                    return (await client.post("/v1/chat/completions", json=body, headers=headers)).status_code

                codes = await asyncio.gather(*(one() for _ in range(calls)))
        finally:
            if process.returncode is not None:
                raise RuntimeError("LiteLLM's proxy ended by itself")
            process.terminate()
            await process.wait()
    made = codes.count(200)
    return Found(name="LiteLLM's proxy, provider budget", made=made, used=answered * PRICE, highest=None, false_refusals=None,
                 kills=0, seconds=time.monotonic() - began)  # fmt: skip


def page(rows: list[Found], tasks: int) -> str:
    """docs/benchmarks_budget.md."""
    lines = [
        "# A thousand calls at once against a cap that fits fifty", "",
        f"`python -m benchmarks.budget`, {tasks:,} questions at once, each {INPUT} tokens in and {OUTPUT} out of gpt-4.1 "
        f"({PRICE:.4f} USD), against a budget of {CAP:.2f} USD a day. Measured on {platform.machine()} with {os.cpu_count()} "
        f"processors, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}.", "",
        "| | answered | USD used | over the cap | most settled and reserved | false refusals | workers killed | s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    for row in rows:
        highest = f"{row.highest:.4f}" if row.highest is not None else "–"
        false = str(row.false_refusals) if row.false_refusals is not None else "–"
        lines.append(
            f"| {row.name} | {row.made} | {row.used:.4f} | {row.over:.4f} | {highest} | {false} | {row.kills} | {row.seconds:.0f} |"
        )
    lines += [
        "", "USD used are the provider's ledger: every response that it made, heard of or not. A false refusal is a question that",
        "waits for the next day although the smallest call would fit what is left, once all calls are settled.", "",
        "Atlas reserves the worst case of a call before it is made, so fewer than fifty calls are answered: the last one that is",
        "let in must fit with all that it could cost. LiteLLM's provider budget counts a call after it was answered: calls that",
        "are under way do not count. Its budgets of keys and teams need a database through Prisma, and were not measured.", "",
    ]  # fmt: skip
    return "\n".join(lines)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=180, help="how long Atlas may take to come to rest")
    parser.add_argument("--litellm", default="", help="path of LiteLLM's proxy")
    words = parser.parse_args()
    rows = [await atlas(words.tasks, words.seconds)]
    print(rows[0], flush=True)
    if words.litellm:
        rows.append(await litellm(words.litellm, words.tasks))
        print(rows[1], flush=True)
    PAGE.write_text(page(rows, words.tasks), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
