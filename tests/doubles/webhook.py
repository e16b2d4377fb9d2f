"""A receiver of webhooks: keeps what it got, and answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.support import Json


@dataclass(kw_only=True)
class Got:
    """One call."""

    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        found: Json = json.loads(self.body)
        return found


@dataclass(kw_only=True)
class Receiver:
    """answer: status and headers for a call; its body says the status again."""

    got: list[Got] = field(default_factory=list)
    answer: Callable[[Got], tuple[int, dict[str, str]]] = lambda _got: (200, {})
    delay: float = 0.0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def accepted(self) -> list[Json]:
        """Bodies of calls that were answered 2xx."""
        return [got.json for got in self.got if self.answer(got)[0] < 300]

    async def take(self, request: Request) -> Response:
        got = Got(headers=dict(request.headers), body=await request.body())
        self.got.append(got)
        await asyncio.sleep(self.delay)
        status, headers = self.answer(got)
        return PlainTextResponse(f"status {status}", status_code=status, headers=headers)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def receiver(found: Receiver | None = None, *, port: int = 0) -> AsyncIterator[Receiver]:
    """Serves a receiver on loopback."""
    found = found or Receiver()
    app = Starlette(routes=[Route("/hook", found.take, methods=["POST"])])
    server = _Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, lifespan="off", timeout_graceful_shutdown=0)
    )
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)  # uvicorn has no event for it
        if running.done():
            await running
    found.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.should_exit = True
        await running
