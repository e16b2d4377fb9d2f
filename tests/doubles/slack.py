"""A small Slack Web API: the methods that the router calls, with real state and Slack's own limits of blocks."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.doubles.serving import serving
from tests.support.core import Json


@dataclass(kw_only=True)
class SlackDouble:
    """Messages by their ts. lose: a call is carried out, and its answer lost."""

    messages: dict[str, Json] = field(default_factory=dict)
    fail: Callable[[str], Response | None] = lambda _method: None
    lose: Callable[[str], bool] = lambda _method: False
    port: int = 0
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def texts(self, thread: str | None = None) -> list[str]:
        """The sections of the messages of a thread; without one, of the channel itself."""
        return [
            "\n".join(block["text"]["text"] for block in message["blocks"])
            for message in self.messages.values()
            if message.get("thread_ts") == thread
        ]

    async def handle(self, request: Request) -> Response:
        method = request.path_params["method"]
        refused = self.fail(method)
        if refused is not None:
            return refused
        if request.headers.get("authorization") != "Bearer xoxb-test":
            return JSONResponse({"ok": False, "error": "invalid_auth"})
        answer = self._answer(method, await request.json())
        return Response(status_code=503) if self.lose(method) else JSONResponse(answer)

    def _answer(self, method: str, body: Json) -> Json:
        match method:
            case "auth.test":
                return {"ok": True, "bot_id": "B1"}
            case "chat.postMessage" | "chat.update":
                blocks = body["blocks"]
                if len(blocks) > 50 or any(not 0 < len(block["text"]["text"]) <= 3000 for block in blocks):
                    return {"ok": False, "error": "invalid_blocks"}
                if method == "chat.update":
                    if body["ts"] not in self.messages:
                        return {"ok": False, "error": "message_not_found"}
                    self.messages[body["ts"]] |= {"blocks": blocks, "text": body["text"]}
                    return {"ok": True, "ts": body["ts"]}
                ts = f"{time.time():.4f}{next(self._numbers):02d}"
                self.messages[ts] = body | {"ts": ts, "bot_id": "B1"}
                return {"ok": True, "ts": ts, "channel": body["channel"]}
            case "conversations.history" | "conversations.replies":
                oldest = float(body.get("oldest", 0))
                found = [m for m in self.messages.values() if m.get("thread_ts") == body.get("ts") and float(m["ts"]) >= oldest]
                return {"ok": True, "messages": found, "response_metadata": {"next_cursor": ""}}
        return {"ok": False, "error": "unknown_method"}


@asynccontextmanager
async def slack(port: int = 0) -> AsyncIterator[SlackDouble]:
    """Serves one on loopback."""
    found = SlackDouble()
    async with serving(Starlette(routes=[Route("/api/{method}", found.handle, methods=["POST"])]), port) as found.port:
        yield found
