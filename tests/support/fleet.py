"""Many workers' claimers in one process, each with its own connections and wake-ups: what a fleet does when one row arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from atlas.service import Service, build
from atlas.variables import load
from tests.support.core import Database, until


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Running services."""

    services: list[Service]

    def claims(self) -> tuple[float, float, float]:
        """Claims that won, claims that lost, and claims that a look spared, of all workers."""
        return tuple(  # type: ignore[return-value]
            sum(
                service.metrics.registry.get_sample_value("atlas_claims_total", {"result": result}) or 0
                for service in self.services
            )
            for result in ("tasks", "empty", "spared")
        )

    async def until_idle(self) -> None:
        async def look() -> bool:
            return all(service.worker.is_idle for service in self.services)

        await until(look, 30, "all are idle")


@asynccontextmanager
async def fleet(database: Database, size: int, **settings: str) -> AsyncIterator[Fleet]:
    """So many workers on a database, each announced, woken and leased on its own."""
    env = {"ATLAS_CONCURRENCY": "4"} | settings
    stopping = asyncio.Event()
    async with AsyncExitStack() as stack:
        services = [await stack.enter_async_context(build(load(env), database.url("atlas_worker"))) for _ in range(size)]
        jobs = [asyncio.create_task(service.run(stopping)) for service in services]
        try:
            yield Fleet(services=services)
        finally:
            stopping.set()
            await asyncio.gather(*jobs)
