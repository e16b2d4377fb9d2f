"""Faults of what Atlas speaks to: the provider, the knowledge service, Pub/Sub, Realtime."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from atlas.local.supabase.access import Keys
from atlas.local.supabase.app import open_stand_in
from benchmarks.chaos.arena import STREAM, Arena, Fault, Started, arena
from benchmarks.chaos.bouncer import pgbouncer
from tests.doubles.pubsub import pubsub
from tests.doubles.serving import serving
from tests.doubles.way import Way
from tests.support.core import ADR
from tests.support.faults import Faults


def provider(mode: str) -> Callable[[Arena], Fault]:
    @asynccontextmanager
    async def fault(run: Arena) -> AsyncIterator[None]:
        run.way.set(mode)  # type: ignore[arg-type]
        await asyncio.sleep(run.seconds)
        run.way.set("open")
        yield

    return fault


@asynccontextmanager
async def provider_slow(run: Arena) -> AsyncIterator[None]:
    run.openai.plan(text=ADR, before=2.0, delay=0.2)
    await asyncio.sleep(run.seconds)
    run.openai.plan(**STREAM)
    yield


@asynccontextmanager
async def rag_hung(seconds: float) -> AsyncIterator[Started]:
    """The knowledge service answers with nothing found, then takes requests and says nothing, then answers again."""

    async def answer(_request: Request) -> Response:
        return JSONResponse({"chunks": [], "warnings": []})

    async with (
        serving(Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])) as port,
        arena(seconds) as run,
    ):
        with Way(port) as way:
            run.start(2, rag_url=f"http://127.0.0.1:{way.port}")

            @asynccontextmanager
            async def fault() -> AsyncIterator[None]:
                way.set("silent")
                await asyncio.sleep(run.seconds)
                way.set("open")
                yield

            yield run, fault


@asynccontextmanager
async def pubsub_down(seconds: float) -> AsyncIterator[Started]:
    async with pubsub() as there, arena(seconds) as run:
        with Way(int(there.host.rpartition(":")[2])) as way:

            async def undelivered(db: asyncpg.Connection) -> int:
                end = time.monotonic() + 60
                while (
                    await db.fetchval("select exists (select from atlas.outbox where state = 'pending')")
                    and time.monotonic() < end
                ):
                    await asyncio.sleep(0.5)
                arrived = {message.attributes["event_id"] for message in there.published}
                rows = await db.fetch("select event_id from public.architect_out")
                return sum(str(row["event_id"]) not in arrived for row in rows)

            run.undelivered = undelivered
            run.start(2, atlas_mirror="true", pubsub_project_id="atlas", pubsub_emulator_host=f"127.0.0.1:{way.port}")

            @asynccontextmanager
            async def fault() -> AsyncIterator[None]:
                way.set("refuse")
                await asyncio.sleep(run.seconds)
                way.set("open")
                yield

            yield run, fault


def realtime(**faults: bool) -> Callable[[float], AbstractAsyncContextManager[Started]]:
    @asynccontextmanager
    async def made(seconds: float) -> AsyncIterator[Started]:
        trouble = Faults.quick()
        async with (
            arena(seconds) as run,
            open_stand_in(run.cluster.url(), Keys.create(), conduct=trouble) as there,
            pgbouncer(run),
        ):
            # a fleet that is busy looks for itself, and LISTEN would tell it as well
            run.depth = 3
            run.start(2, supabase_url=there.url, supabase_service_role_key=there.keys.service_role)

            @asynccontextmanager
            async def fault() -> AsyncIterator[None]:
                for name, value in faults.items():
                    setattr(trouble, name, value)
                await asyncio.sleep(run.seconds)
                for name in faults:
                    setattr(trouble, name, False)
                yield

            yield run, fault

    return made
