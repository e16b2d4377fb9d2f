"""A small server that speaks the Responses API over a real socket, with what aimock lacks: background responses that go on
without a reader, retrieve with starting_after, cancel, refusals, incomplete responses, usage details.

What it answers is planned by the test: the first plan whose `match` is in the last user text and that has turns left.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Json = dict[str, Any]


@dataclass(kw_only=True)
class Plan:
    """How calls are answered."""

    match: str = ""
    model: str | None = None
    text: str = ""
    usage: Json | None = field(default_factory=lambda: usage(100, 50))
    chunk: int = 60
    delay: float = 0.0
    before: float = 0.0
    """Seconds before the response begins, which the double makes all the same."""
    status: str = "completed"
    reason: str | None = None
    refusal: bool = False
    error: tuple[int, Json] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    tier: str | None = None
    times: int = 1_000_000

    def again(self, **changes: Any) -> Plan:
        """The same, forever, but for some changes."""
        return replace(self, **({"times": 1_000_000} | changes))


def usage(input_tokens: int, output_tokens: int, cached: int = 0, reasoning: int = 0, written: int = 0) -> Json:
    """Usage as the API reports it."""
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": input_tokens + output_tokens,
    }


@dataclass(kw_only=True)
class _Stored:
    response: Json
    events: list[Json] = field(default_factory=list)
    done: bool = False
    cancelled: bool = False


class OpenAIDouble:
    """Runs in a thread of its own. calls: the bodies of all calls, oldest first."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.calls: list[Json] = []
        self.resumed: list[tuple[str, int | None]] = []
        self.cancelled: list[str] = []
        self.takes_background = True
        self.key: str | None = None
        """The one key that is taken; None: any."""
        self.counted: list[Json] = []
        self.probed: list[str] = []
        self.shutdown_dates: dict[str, str] = {}
        self.requests_a_minute: int | None = None
        """A rate limit that is enforced, and told in the headers."""
        self.refused = 0
        self.streamable = True
        """False: responses are too old to be streamed again."""
        self.organisation: dict[str, int] = {}
        self._left = 0.0
        self._filled_at = 0.0
        self.missing_models: set[str] = set()
        self.port = 0
        self._stored: dict[str, _Stored] = {}
        self._numbers = itertools.count(1)
        self._jobs: set[asyncio.Task[None]] = set()
        routes = [
            Route("/v1/responses", self._keyed(self._create), methods=["POST"]),
            Route("/v1/responses/input_tokens", self._keyed(self._count), methods=["POST"]),
            Route("/v1/organization/usage/completions", self._usage, methods=["GET"]),
            Route("/v1/models/{id}", self._keyed(self._model), methods=["GET"]),
            Route("/v1/responses/{id}", self._keyed(self._retrieve), methods=["GET"]),
            Route("/v1/responses/{id}/cancel", self._keyed(self._cancel), methods=["POST"]),
        ]
        config = uvicorn.Config(Starlette(routes=routes), port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def _keyed(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def checked(request: Request) -> Response:
            if self.key is not None and request.headers["authorization"] != f"Bearer {self.key}":
                return _error(401, {"code": "invalid_api_key", "message": "Incorrect API key provided."})
            return await answer(request)

        return checked

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> OpenAIDouble:
        self._thread.start()
        started = threading.Event()
        for _ in range(500):
            if self._server.started:
                break
            started.wait(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(5)

    def plan(self, **values: Any) -> None:
        """Adds a plan before the others."""
        self.plans.insert(0, Plan(**values))

    def responses(self) -> list[Json]:
        """All that are stored: the ledger of what was used, where they are over."""
        return [stored.response for stored in self._stored.values()]

    def store(self, response: Json) -> None:
        """A response that was made elsewhere."""
        base = {"object": "response", "created_at": 0, "model": "gpt-4.1", "output": [], "error": None, "incomplete_details": None,
                "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": None, "service_tier": None}  # fmt: skip
        self._stored[response["id"]] = _Stored(response=base | response, done=True)

    async def _usage(self, request: Request) -> Response:
        if request.headers["authorization"] != "Bearer admin":
            return _error(403, {"message": "this takes an admin key"})
        results = [
            {"object": "organization.usage.completions.result", "model": name, "input_tokens": tokens, "output_tokens": 0,
             "num_model_requests": 1} for name, tokens in self.organisation.items()
        ]  # fmt: skip
        bucket = {"object": "bucket", "start_time": 0, "end_time": 1, "results": results}
        return JSONResponse({"object": "page", "data": [bucket], "has_more": False, "next_page": None})

    def reset(self) -> None:
        """As if nobody had called yet."""
        self._stored.clear()
        self.calls.clear()

    def forget(self) -> None:
        """No response is stored any more."""
        self._stored.clear()

    async def _create(self, request: Request) -> Response:
        body: Json = await request.json()
        self.calls.append(body)
        text = body["input"][-1]["content"]
        plan = next(p for p in self.plans if p.match in text and p.times > 0 and (p.model is None or p.model == body["model"]))
        plan.times -= 1
        plan = replace(plan, text=_cited(plan.text, "\n".join(turn["content"] for turn in body["input"])))
        if body.get("background") and not self.takes_background:
            return _error(400, {"message": "Unknown parameter: 'background'.", "type": "invalid_request_error"})
        if plan.error:
            return _error(*plan.error, headers=plan.headers)
        headers = self._limit()
        if headers is None:
            self.refused += 1
            return _error(429, {"code": "rate_limit_exceeded", "message": "slow down"}, {"retry-after": "1"})
        await asyncio.sleep(plan.before)
        response = {
            "id": f"resp_{next(self._numbers)}", "object": "response", "created_at": 0, "model": body["model"],
            "status": "in_progress", "output": [], "error": None, "incomplete_details": None, "usage": None,
            "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": body.get("metadata"),
            "service_tier": plan.tier or body.get("service_tier"),
        }  # fmt: skip
        stored = _Stored(response=response)
        if body.get("store"):
            self._stored[response["id"]] = stored
        if not body.get("stream"):
            if body.get("background"):
                self._keep(self._write(stored, plan))
                return JSONResponse(dict(response, status="queued"))
            await self._write(stored, plan)
            return JSONResponse(stored.response)
        if body.get("background"):
            self._keep(self._write(stored, plan))
            return StreamingResponse(self._tail(stored, -1, plan.cut_after), headers=headers, media_type="text/event-stream")
        return StreamingResponse(self._live(stored, plan), headers=headers, media_type="text/event-stream")

    def _limit(self) -> dict[str, str] | None:
        """The headers of a call within the limit; None for one beyond it."""
        most = self.requests_a_minute
        if most is None:
            return {}
        now = time.monotonic()
        self._left = min(most, self._left + (now - self._filled_at) * most / 60) if self._filled_at else most
        self._filled_at = now
        if self._left < 1:
            return None
        self._left -= 1
        return {"x-ratelimit-limit-requests": str(most), "x-ratelimit-remaining-requests": str(int(self._left))}

    async def _count(self, request: Request) -> Response:
        """About a token for four bytes: what a test needs is that it is not the byte bound."""
        body: Json = await request.json()
        self.counted.append(body)
        text = body.get("instructions", "") + "".join(turn["content"] for turn in body["input"])
        return JSONResponse({"object": "response.input_tokens", "input_tokens": len(text.encode()) // 4})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["id"]
        self.probed.append(name)
        if name in self.missing_models:
            return _error(404, {"code": "model_not_found", "message": f"The model {name} does not exist."})
        return JSONResponse({"id": name, "object": "model", "created": 0, "owned_by": "double",
                             "shutdown_date": self.shutdown_dates.get(name)})  # fmt: skip

    def _keep(self, work: Any) -> None:
        job = asyncio.create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _live(self, stored: _Stored, plan: Plan) -> AsyncIterator[str]:
        """A response that dies with its connection."""
        job = asyncio.create_task(self._write(stored, plan))
        try:
            async for line in self._tail(stored, -1, plan.cut_after):
                yield line
        finally:
            job.cancel()

    async def _write(self, stored: _Stored, plan: Plan) -> None:
        def emit(kind: str, **values: Any) -> None:
            stored.events.append({"type": kind, "sequence_number": len(stored.events), **values})

        emit("response.created", response=dict(stored.response))
        kind = "response.refusal.delta" if plan.refusal else "response.output_text.delta"
        for start in range(0, len(plan.text), plan.chunk):
            await asyncio.sleep(plan.delay)
            if stored.cancelled:
                return
            emit(kind, delta=plan.text[start : start + plan.chunk], item_id="m", output_index=0, content_index=0, logprobs=[])
        part = {"type": "refusal", "refusal": plan.text} if plan.refusal else {
            "type": "output_text", "text": plan.text, "annotations": [],
        }  # fmt: skip
        stored.response |= {
            "status": plan.status, "usage": plan.usage,
            "output": [{"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": [part]}],
        }  # fmt: skip
        if plan.status == "incomplete":
            stored.response["incomplete_details"] = {"reason": plan.reason or "max_output_tokens"}
        if plan.status == "failed":
            stored.response["error"] = {"code": plan.reason or "server_error", "message": "it failed"}
        emit(f"response.{plan.status}", response=dict(stored.response))
        stored.done = True

    async def _tail(self, stored: _Stored, after: int, cut_after: int | None = None) -> AsyncIterator[str]:
        sent = 0
        while True:
            for event in stored.events[after + 1 :]:
                if cut_after is not None and sent >= cut_after:
                    # an ungraceful end: the client sees the connection break
                    raise ConnectionResetError("cut by the plan")
                yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
                after, sent = event["sequence_number"], sent + 1
            if (stored.done or stored.cancelled) and after + 1 >= len(stored.events):
                return
            await asyncio.sleep(0.005)

    async def _retrieve(self, request: Request) -> Response:
        stored = self._stored.get(request.path_params["id"])
        if stored is None:
            return _error(404, {"message": "Response not found.", "type": "invalid_request_error"})
        if request.query_params.get("stream") == "true" and not self.streamable:
            return _error(400, {"message": "This response can no longer be streamed.", "type": "invalid_request_error"})
        if request.query_params.get("stream") == "true":
            after = request.query_params.get("starting_after")
            self.resumed.append((request.path_params["id"], int(after) if after else None))
            return StreamingResponse(self._tail(stored, int(after or -1)), media_type="text/event-stream")
        return JSONResponse(stored.response)

    async def _cancel(self, request: Request) -> Response:
        stored = self._stored.get(request.path_params["id"])
        if stored is None:
            return _error(404, {"message": "Response not found.", "type": "invalid_request_error"})
        if not stored.done:
            stored.cancelled = True
            stored.response |= {"status": "cancelled", "usage": usage(100, 7)}
        self.cancelled.append(request.path_params["id"])
        return JSONResponse(stored.response)


def _error(status: int, error: Json, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"code": None, "param": None, "type": "error", **error}}, status, headers=headers)


def _cited(text: str, asked: str) -> str:
    """A planned text cites the first source as [S1]: a model that reads its prompt calls it what it is called there."""
    for number, label in enumerate(re.findall(r'<source id="(S\d+)"', asked), 1):
        text = text.replace(f"[S{number}]", f"[{label}]")
    return text
