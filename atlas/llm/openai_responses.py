"""OpenAI's Responses API through the official client, streamed; models that cannot stream are called without.

Events and fields as in the client's own types (openai.types.responses). The client's retries are off: ours know what a
failure costs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx2
import openai
from openai import AsyncOpenAI
from openai.types.responses import Response

from atlas.llm.errors import (
    BadRequest,
    ContextOverflow,
    ModelError,
    ModelMissing,
    NoText,
    RateLimited,
    StreamCut,
    Unavailable,
    UpstreamFailed,
)
from atlas.llm.port import Delta, Finished, ModelCall, ModelEvent, Started
from atlas.task import Usage

log = logging.getLogger("atlas.openai")

_LONGEST_POLL = 3600.0
"""Seconds that a response which cannot stream is waited for."""

_TERMINAL = frozenset({"completed", "failed", "incomplete", "cancelled"})


class OpenAIGenerator:
    """Generates with an AsyncOpenAI client.

    background: ask for background responses, which live on when we die; falls back to plain ones where the server
    rejects the parameter. off: `store: false`, for organisations with zero data retention.
    """

    def __init__(self, client: AsyncOpenAI, *, background: Literal["auto", "off"], poll: float = 1.0) -> None:
        self._client = client.with_options(max_retries=0)
        self._background = background == "auto"
        self._poll = poll

    async def generate(self, call: ModelCall) -> AsyncIterator[ModelEvent]:
        request = self._request(call)
        background = "background" in request
        try:
            if call.model.streams:
                async with _translated(call.model.name):
                    stream = await self._client.responses.create(**request, stream=True)
                async for event in _events(stream, call.model.name, background):
                    yield event
                return
            async with _translated(call.model.name):
                response = await self._client.responses.create(**request)
        except BadRequest as error:
            if not (background and "background" in str(error)):
                raise
            if self._background:
                log.warning("the server takes no background responses: a dead worker's call cannot be resumed")
            self._background = False
            async for event in self.generate(call):
                yield event
            return
        yield Started(response_id=response.id, resumable=background)
        async for event in self._until_done(response):
            yield event

    async def resume(self, response_id: str, after: int | None) -> AsyncIterator[ModelEvent]:
        """Without a sequence number the response is polled: its text comes in one piece."""
        yield Started(response_id=response_id, resumable=True)
        if after is not None:
            async with _translated(response_id):
                stream = await self._client.responses.retrieve(response_id, stream=True, starting_after=after)
            async for event in _events(stream, response_id, True):
                if not isinstance(event, Started):
                    yield event
            return
        async with _translated(response_id):
            response = await self._client.responses.retrieve(response_id)
        async for event in self._until_done(response):
            yield event

    async def cancel(self, response_id: str) -> Usage | None:
        async with _translated(response_id):
            response = await self._client.responses.cancel(response_id)
            while response.status not in _TERMINAL:
                await asyncio.sleep(self._poll)
                response = await self._client.responses.retrieve(response_id)
        return _usage(response)

    def _request(self, call: ModelCall) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": call.model.name,
            "instructions": call.instructions,
            "input": [{"role": role, "content": text} for role, text in call.turns],
            "max_output_tokens": call.max_output_tokens,
            "store": self._background,
        }
        if self._background:
            request["background"] = True
        if call.model.reasoning_effort:
            request["reasoning"] = {"effort": call.model.reasoning_effort}
        if call.model.temperature:
            request["temperature"] = 0.2
        return request

    async def _until_done(self, response: Response) -> AsyncIterator[ModelEvent]:
        end = time.monotonic() + _LONGEST_POLL
        while response.status not in _TERMINAL:
            if time.monotonic() > end:
                raise UpstreamFailed(f"{response.id} is {response.status} for an hour", code="timeout", usage=None)
            await asyncio.sleep(self._poll)
            async with _translated(response.id):
                response = await self._client.responses.retrieve(response.id)
        text, refused = _text(response)
        if text:
            yield Delta(text=text)
        yield _end(response, refused)


async def warm_up() -> None:
    """Reads a canned stream once. The client builds its types at the first event, which holds up the event loop for most of
    a second: better before the worker takes tasks than while others stream."""
    response = {"id": "r", "object": "response", "created_at": 0, "model": "m", "output": [], "parallel_tool_calls": True,
                "tool_choice": "auto", "tools": [], "status": "completed"}  # fmt: skip
    events = (
        {"type": "response.created", "sequence_number": 0, "response": response},
        {"type": "response.output_text.delta", "sequence_number": 1, "item_id": "i", "output_index": 0, "content_index": 0,
         "delta": "x", "logprobs": []},
        {"type": "response.completed", "sequence_number": 2, "response": response},
    )  # fmt: skip
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    transport = httpx2.MockTransport(
        lambda _request: httpx2.Response(200, text=body, headers={"content-type": "text/event-stream"})
    )
    async with AsyncOpenAI(api_key="none", http_client=httpx2.AsyncClient(transport=transport)) as client:
        async for _ in await client.responses.create(model="m", input="x", stream=True):
            pass


async def _events(stream: Any, name: str, resumable: bool) -> AsyncIterator[ModelEvent]:
    began = refused = False
    # leaving early, by a cancellation say, closes the connection
    async with _translated(name, lambda: began), stream:
        async for event in stream:
            number = getattr(event, "sequence_number", None)
            match event.type:
                case "response.created" | "response.queued" | "response.in_progress":
                    if not began:
                        began = True
                        yield Started(response_id=event.response.id, resumable=resumable)
                case "response.output_text.delta":
                    yield Delta(text=event.delta, sequence_number=number)
                case "response.refusal.delta":
                    refused = True
                    yield Delta(text=event.delta, sequence_number=number)
                case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                    yield _end(event.response, refused)
                    return
                case "error":
                    raise _failure(event.code, event.message, None)
                case _:
                    pass
        raise StreamCut(f"{name}: the stream ended without its last event", code="stream_cut", usage=None)


def _end(response: Response, refused: bool) -> Finished:
    """The end of a response, by its status rather than by the event's name: servers differ in the latter."""
    usage = _usage(response)
    failure: ModelError | None = None
    if response.status == "failed":
        error = response.error
        failure = _failure(error.code if error else None, error.message if error else "the response failed", usage)
    elif response.status == "cancelled":
        failure = UpstreamFailed(f"{response.id} was cancelled upstream", code="cancelled_upstream", usage=usage)
    if failure is not None:
        failure.terminal = True
        raise failure
    reason = response.incomplete_details.reason if response.incomplete_details else None
    if response.status == "incomplete" and reason not in (None, "max_output_tokens", "content_filter"):
        raise NoText(f"{response.id} is incomplete ({reason})", code="incomplete", usage=usage)
    return Finished(
        usage=usage,
        truncated=response.status == "incomplete" and reason != "content_filter",
        refused=refused or reason == "content_filter",
    )


def _usage(response: Response) -> Usage | None:
    """What the provider reports; None where it reports nothing (or zeros, which no answer costs)."""
    usage = response.usage
    if usage is None or not (usage.input_tokens or usage.output_tokens):
        return None
    cached = getattr(usage.input_tokens_details, "cached_tokens", 0) or 0
    reasoning = getattr(usage.output_tokens_details, "reasoning_tokens", 0) or 0
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=min(cached, usage.input_tokens),
        reasoning_tokens=min(reasoning, usage.output_tokens),
    )


def _text(response: Response) -> tuple[str, bool]:
    """The text of a response, and whether it is a refusal."""
    refusals = [
        part.refusal for item in response.output if item.type == "message" for part in item.content if part.type == "refusal"
    ]
    return (response.output_text or "".join(refusals)), bool(refusals)


@asynccontextmanager
async def _translated(name: str, began: Any = lambda: False) -> AsyncIterator[None]:
    """Turns the client's exceptions into ModelErrors. began: whether a response has begun, so that it may cost."""
    try:
        yield
    except openai.APIStatusError as error:
        raise _status(error, name) from error
    except openai.APITimeoutError as error:
        raise (StreamCut if began() else UpstreamFailed)(f"{name}: no answer in time", code="timeout", usage=None) from error
    except openai.APIConnectionError as error:
        if began():
            raise StreamCut(f"{name}: the connection broke", code="stream_cut", usage=None) from error
        # refused before anything was sent costs nothing; a broken one may have begun a response
        refused = isinstance(error.__cause__, OSError) or "connect" in type(error.__cause__).__name__.lower()
        raise UpstreamFailed(
            f"{name}: cannot connect ({error.__cause__ or error})", code="connection",
            **({} if refused else {"usage": None}),
        ) from error  # fmt: skip
    except openai.APIError as error:
        raise _failure(error.code, error.message, None) from error
    except (json.JSONDecodeError, openai.OpenAIError, UnicodeDecodeError) as error:
        raise UpstreamFailed(f"{name}: the answer is not JSON ({error})", code="malformed", usage=None) from error


def _status(error: openai.APIStatusError, name: str) -> ModelError:
    text = f"{name}: {error.message}"
    code = error.code or f"http_{error.status_code}"
    after = _retry_after(error)
    match error.status_code:
        case 429 if error.code == "insufficient_quota":
            return Unavailable(text, code=code)
        case 429:
            return RateLimited(text, code=code, retry_after=after)
        case 401 | 403:
            return Unavailable(text, code=code)
        case 404 if error.code == "model_not_found":
            return ModelMissing(text, code=code)
        case 408 | 409:
            return UpstreamFailed(text, code=code, retry_after=after)
        case status if status >= 500:
            return UpstreamFailed(text, code=code, retry_after=after)
        case _:
            return _failure(error.code, text, None, default=BadRequest, usage_known=True)


def _failure(
    code: str | None, message: str, usage: Usage | None, *, default: type[ModelError] = UpstreamFailed,
    usage_known: bool = False,
) -> ModelError:  # fmt: skip
    """The error of a code in a response or an event. Its cost is unknown unless a usage came with it."""
    kinds: dict[str, type[ModelError]] = {
        "context_length_exceeded": ContextOverflow,
        "string_above_max_length": ContextOverflow,
        "rate_limit_exceeded": RateLimited,
        "insufficient_quota": Unavailable,
        "model_not_found": ModelMissing,
        "invalid_prompt": BadRequest,
    }
    kind = kinds.get(code or "", default)
    if usage_known:
        return kind(message, code=code or "bad_request")
    return kind(message, code=code or "upstream", usage=usage)


def _retry_after(error: openai.APIStatusError) -> float | None:
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = error.response.headers.get(name)
        try:
            return max(0.0, float(value)) * scale if value is not None else None
        except ValueError:
            continue
    return None
