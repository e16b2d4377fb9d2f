"""A receiver of webhooks: keeps what it got, and answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.doubles.serving import serving
from tests.support.core import Json


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
    text: str = ""
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
        body = self.text.encode("utf-8", "surrogatepass") or f"status {status}".encode()
        return PlainTextResponse(body, status_code=status, headers=headers)


@asynccontextmanager
async def receiver(found: Receiver | None = None, *, port: int = 0) -> AsyncIterator[Receiver]:
    """Serves a receiver on loopback."""
    found = found or Receiver()
    async with serving(Starlette(routes=[Route("/hook", found.take, methods=["POST"])]), port) as found.port:
        yield found
