"""OpenAI's Responses API through the official client, streamed; models that cannot stream are called without.

Events and fields as in the client's own types (openai.types.responses); of a stream only what is needed is read. The client's
retries are off: ours know what a failure costs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from datetime import date
from typing import Any, Literal

import httpx2
from openai import AsyncOpenAI

from atlas.backoff import jittered
from atlas.llm.errors import BadRequest, NoWindow, Pending, WayLost
from atlas.llm.openai_errors import limits_of, of_connection, of_malformed, translated
from atlas.llm.openai_events import read_event
from atlas.llm.openai_response import ReadResponse, read_end, read_response
from atlas.llm.port import Delta, ModelCall, ModelEvent, RateLimits, Snapshot, Started
from atlas.llm.sse import batches
from atlas.task import Usage

log = logging.getLogger("atlas.openai")

_LONGEST_CALL = 600.0
"""Seconds that the answer of a call is waited for which neither streams nor lives on without us."""

_READS = 1000
"""Reads a second of all streams together: a read costs more than an event, and the more streams there are, the more events come
with one. The first text of a stream is read at once."""

_LONGEST_PAUSE = 0.1
"""Seconds between two reads of a stream."""

_STREAMABLE = 290.0
"""Seconds for which the provider streams a background response again; then it is polled."""


def _speaks_of_formats(error: BadRequest) -> bool:
    said = str(error).casefold()
    return any(word in said for word in ("text.format", "json_schema", "response_format", "structured output"))


class OpenAIGenerator:
    """Generates with an AsyncOpenAI client, over atlas.llm.transport.watched_client.

    background: ask for background responses, which live on when we die; falls back to plain ones where the server
    rejects the parameter. off: `store: false`, for organisations with zero data retention. tier: the service tier that is
    asked for. idle: seconds without an event after which a stream is closed, and its response asked for. poll: seconds
    between two looks at a response that cannot stream; patience: for how long, before the task waits for it without a slot.
    """

    def __init__(
        self, client: AsyncOpenAI, *, background: Literal["auto", "off"], tier: str = "default", idle: float = 45.0,
        poll: float = 1.0, patience: float = 60.0,
    ) -> None:  # fmt: skip
        self._client = client.with_options(max_retries=0)
        self._quick = client.with_options(max_retries=0, timeout=min(15.0, idle))
        self._background = background == "auto"
        self._tier = tier
        self._idle = idle
        self._poll = poll
        self._patience = patience
        self._formless: set[str] = set()
        """Models that take no JSON schema."""
        self._open = 0
        """Streams that are being read."""

    async def generate(self, call: ModelCall) -> AsyncIterator[ModelEvent]:
        if call.completion_window != "soonest" and not self._background:
            raise NoWindow(
                "a completion window needs background responses, which this server does not support", code="no_window"
            )
        request = self._request(call)
        background = "background" in request
        streams = call.model.streams and "background_options" not in request
        name = call.model.name
        try:
            async with translated(name, "call"):
                if streams:
                    raw = await self._client.responses.with_raw_response.create(**request, stream=True)
                elif background:
                    raw = await self._client.responses.with_raw_response.create(**request)
                else:
                    raw = await self._client.responses.with_raw_response.create(**request, timeout=_LONGEST_CALL)
                answer: Any = raw.http_response if streams else read_response(raw.http_response.content, name, "call")
        except BadRequest as error:
            if "text" in request and _speaks_of_formats(error):
                if name not in self._formless:
                    log.warning("%s takes no JSON schema: its replies are checked by it all the same", name)
                self._formless.add(name)
                async for event in self.generate(call):
                    yield event
                return
            if not (background and "background" in str(error)):
                raise
            if self._background:
                log.warning("the server takes no background responses: a dead worker's call cannot be resumed")
            self._background = False
            async for event in self.generate(call):
                yield event
            return
        if rows := limits_of(raw.headers):
            yield RateLimits(rows=rows)
        if streams:
            async for event in self._events(answer, name, background):
                yield event
            return
        yield Started(response_id=answer.id, resumable=background)
        async for event in self._until_done(answer, age=0.0, window=call.completion_window):
            yield event

    async def resume(
        self, response_id: str, after: int | None, *, age: float = 0.0, window: str = "soonest"
    ) -> AsyncIterator[ModelEvent]:
        yield Started(response_id=response_id, resumable=True)
        # asked for first: a silent connection is found out within seconds, and what is over needs no stream
        response = await self._retrieve(response_id)
        if after is not None and age < _STREAMABLE and not response.is_over:
            try:
                async with translated(response_id, "response"):
                    raw = await self._client.responses.with_raw_response.retrieve(
                        response_id, stream=True, starting_after=after
                    )
            except BadRequest as error:
                log.info("%s cannot be streamed any more, and is polled: %s", response_id, error)
            else:
                async for event in self._events(raw.http_response, response_id, True):
                    if not isinstance(event, Started):
                        yield event
                return
        async for event in self._until_done(response, age=age, window=window):
            yield event

    async def cancel(self, response_id: str) -> Usage | None:
        try:
            async with translated(response_id, "response"):
                raw = await self._quick.responses.with_raw_response.cancel(response_id)
                response = read_response(raw.http_response.content, response_id, "response")
        except BadRequest:
            # it is over already
            response = await self._retrieve(response_id)
        while not response.is_over:
            await asyncio.sleep(self._poll)
            response = await self._retrieve(response_id)
        return response.cost

    async def usage(self, response_id: str) -> Usage | None:
        """What a response that is over used; None where the provider does not say. Raises Pending while it is written."""
        response = await self._retrieve(response_id)
        if not response.is_over:
            raise Pending(f"{response_id} is {response.status}", code="response_pending")
        return response.cost

    async def count(self, call: ModelCall) -> int | None:
        async with translated(call.model.name, "question"):
            found = await self._quick.responses.input_tokens.count(
                model=call.model.name, instructions=call.instructions,
                input=[{"role": role, "content": text} for role, text in call.turns],
            )  # fmt: skip
        if not isinstance(tokens := getattr(found, "input_tokens", None), int):
            raise of_malformed(ValueError("no input_tokens"), call.model.name, "question")
        return tokens

    async def probe(self, model: str) -> date | None:
        try:
            async with translated(model, "question"):
                found = await self._quick.models.retrieve(model)
        except BadRequest:
            # a server that speaks the Responses API alone: it answers
            return None
        if not isinstance(getattr(found, "id", None), str):
            raise of_malformed(ValueError(f"{type(found).__name__} instead of a model"), model, "question")
        day = getattr(found, "shutdown_date", None)
        try:
            return date.fromisoformat(day[:10]) if day else None
        except ValueError:
            return None

    async def _retrieve(self, response_id: str) -> ReadResponse:
        try:
            async with translated(response_id, "response"):
                raw = await self._quick.responses.with_raw_response.retrieve(response_id)
                return read_response(raw.http_response.content, response_id, "response")
        except BadRequest as error:
            raise WayLost(str(error), code=error.code) from error

    def _request(self, call: ModelCall) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": call.model.name,
            "instructions": call.instructions,
            "input": [{"role": role, "content": text} for role, text in call.turns],
            "max_output_tokens": call.max_output_tokens,
            "service_tier": self._tier,
            "store": self._background,
        }
        if call.schema and call.model.name not in self._formless:
            request["text"] = {"format": {"type": "json_schema", "name": "reply", "strict": True, "schema": call.schema}}
        if call.metadata:
            request["metadata"] = call.metadata
        if call.cache_key:
            request["prompt_cache_key"] = call.cache_key
        if self._background:
            request["background"] = True
            if call.completion_window != "soonest":
                request["background_options"] = {"completion_window": call.completion_window}
        if call.model.reasoning_effort:
            request["reasoning"] = {"effort": call.model.reasoning_effort}
        if call.model.temperature:
            request["temperature"] = 0.2
        return request

    async def _until_done(self, response: ReadResponse, *, age: float, window: str) -> AsyncIterator[ModelEvent]:
        began = time.monotonic()
        while True:
            text, refused = response.text
            if text:
                yield Snapshot(text=text)
            if response.is_over:
                yield response.finished(refused)
                return
            age_now = age + time.monotonic() - began
            if window != "soonest" or time.monotonic() - began > self._patience:
                shortest, longest = (2.0, 60.0) if window == "soonest" else (30.0, 300.0)
                raise Pending(
                    f"{response.id} is {response.status}", code="response_pending",
                    retry_after=min(longest, max(shortest, age_now / 10)),
                )  # fmt: skip
            await asyncio.sleep(self._poll)
            response = await self._retrieve(response.id)

    async def _events(self, answer: httpx2.Response, name: str, resumable: bool) -> AsyncIterator[ModelEvent]:
        """The events of a stream that are needed, read from its bytes; what ends it becomes the client's own type."""
        stage: Literal["call", "stream"] = "call"
        refused = begun = False
        self._open += 1
        try:
            arriving = batches(answer.aiter_bytes())
            while True:
                async with translated(name, stage):
                    try:
                        async with asyncio.timeout(self._idle):
                            batch = await anext(arriving)
                    except StopAsyncIteration:
                        batch = [b"[DONE]"]
                    except TimeoutError:
                        raise of_connection(TimeoutError(f"no event for {self._idle:g} s"), name, stage) from None
                for data in batch:
                    if data.startswith(b"[DONE]"):
                        raise of_connection(EOFError("the stream ended without its last event"), name, stage)
                    event = read_event(data, name, stage)
                    match event["type"]:
                        case "response.output_text.delta":
                            begun = True
                            yield Delta(text=event["delta"], sequence_number=event.get("sequence_number"))
                        case "response.created" | "response.queued" | "response.in_progress":
                            if stage == "call":
                                stage = "stream"
                                yield Started(response_id=event["response"]["id"], resumable=resumable)
                        case "response.refusal.delta":
                            refused = True
                            yield Delta(text=event["delta"], sequence_number=event.get("sequence_number"))
                        case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                            yield read_end(event["response"], name, "stream").finished(refused)
                            return
                        case _:
                            pass
                if begun and (pause := min(_LONGEST_PAUSE, self._open / _READS)) > 0.002:
                    await asyncio.sleep(jittered(pause))
        finally:
            self._open -= 1
            # leaving early, by a cancellation say, closes the connection
            await answer.aclose()
