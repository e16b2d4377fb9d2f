"""doctor --live: whether OpenAI is as Atlas takes it to be. Its calls keep within a sum."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from atlas.commands import statements
from atlas.commands.common import Found
from atlas.commands.live import Broken, Differs, finding, need, want
from atlas.database.operator import Operator
from atlas.errors import UsageError
from atlas.llm.models import Model, read_models, resolve
from atlas.llm.tokens import Vocabularies
from atlas.settings import Settings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

QUESTION = "Count from 1 to 60 in words, one per line. Write nothing else."
INPUT = 200
"""Tokens that a call sends, at most."""
OUTPUT = 400
"""Tokens that a call may write at most."""
REASONING = 4_000
"""The same of a model that thinks first."""


@dataclass(frozen=True, kw_only=True)
class LiveCall:
    """What each call asks for: a model, a service tier, and the most that it may write, in tokens."""

    model: Model
    tier: str
    output: int

    def request(self, **more: Any) -> dict[str, Any]:
        effort = {"reasoning": {"effort": self.model.reasoning_effort}} if self.model.reasoning_effort else {}
        return {
            "model": self.model.name, "input": [{"role": "user", "content": QUESTION}], "max_output_tokens": self.output,
            "service_tier": self.tier, "metadata": {"atlas": "doctor --live"},
        } | effort | more  # fmt: skip


@dataclass(kw_only=True)
class Purse:
    """What may be spent, and what the calls so far may have cost at worst. Mutable."""

    most: Decimal
    a_call: Decimal
    spent: Decimal = Decimal(0)

    def take(self) -> None:
        """Raises Differs where another call would go beyond it."""
        if self.spent + self.a_call > self.most:
            raise Differs(
                f"not tried: it may cost {self.a_call:.4f} USD, and {self.most - self.spent:.4f} of --max-usd are left"
            )
        self.spent += self.a_call


async def check_openai(known: Settings, reads: Operator, most: Decimal, found: Found) -> None:
    """Asks it. most: US dollars that the calls may cost at worst. Raises UsageError where no model can be asked."""
    from openai import AsyncOpenAI, Timeout

    assert known.openai_api_key is not None
    today = datetime.now(UTC).date()
    rows = read_models(await reads.call("list_models") or [])
    model = next((one for one in resolve(known.chain, rows, today).models if one.streams), None)
    if model is None:
        raise UsageError(f"none of {', '.join(known.chain)} can be streamed", "name a model that can in OPENAI_MODEL")
    call = LiveCall(model=model, tier=known.openai_service_tier, output=REASONING if model.reasoning_effort else OUTPUT)
    cost = await reads.first(statements.worst_cost(model.name, INPUT, call.output, call.tier))
    if cost is None:
        raise UsageError(f"{model.name} has no price, and --max-usd cannot be kept", "give it a row in atlas.model_price")
    purse = Purse(most=most, a_call=Decimal(cost))
    key = known.openai_api_key.get_secret_value()
    async with AsyncOpenAI(
        api_key=key, base_url=known.openai_base_url, max_retries=0, timeout=Timeout(60, connect=10)
    ) as client:
        for name in known.chain:
            async with finding(f"model {name}", found) as seen:
                await _look_up(client, name, rows.get(name), seen)
        async with finding("input count", found) as seen:
            await _count(client, model, seen)
        async with finding("stream", found) as seen:
            purse.take()
            await _stream(client, call, seen)
        if known.openai_background == "auto":
            async with finding("resume after a cut", found) as seen:
                purse.take()
                await _resume(client, call, seen)
            async with finding("cancel", found) as seen:
                purse.take()
                await _cancel(client, call, seen)
        async with finding("unknown model", found) as seen:
            # a server that takes any name answers, and may ask for money
            purse.take()
            await _unknown_model(client, call, seen)
    found("ok", "spent", f"at most {purse.spent:.4f} USD of {most} ({model.name}; calls of {call.output} tokens at most)")


async def _look_up(client: AsyncOpenAI, name: str, row: Model | None, seen: Callable[[str], None]) -> None:
    from openai import NotFoundError

    try:
        answer = await client.models.retrieve(name)
        need(isinstance(getattr(answer, "id", None), str), f"{type(answer).__name__} instead of a model")
    except NotFoundError:
        gone = row is not None and row.gone(datetime.now(UTC).date())
        want(
            gone,
            "it is not found, and atlas.model does not know of it: `atlas doctor` names its successor once a worker has asked",
        )
        seen("it is gone, as atlas.model says")
        return
    day = getattr(answer, "shutdown_date", None)
    ours = row.shutdown_at.isoformat() if row is not None and row.shutdown_at else None
    want(day is None or day[:10] == ours, f"it shuts down on {day}, and atlas.model says {ours}: workers read it daily")
    seen(f"it is there; shutdown_date {day or 'not said'}")


async def _unknown_model(client: AsyncOpenAI, call: LiveCall, seen: Callable[[str], None]) -> None:
    from openai import APIStatusError

    try:
        await client.responses.create(**call.request(model="atlas-no-such-model", max_output_tokens=16))
    except APIStatusError as error:
        want(error.code == "model_not_found", f"HTTP {error.status_code} with code {error.code!r} instead of model_not_found")
        seen(f"HTTP {error.status_code}, model_not_found")
    else:
        raise Differs("it was answered: this server takes any name")


async def _count(client: AsyncOpenAI, model: Model, seen: Callable[[str], None]) -> None:
    found = await client.responses.input_tokens.count(model=model.name, input=[{"role": "user", "content": QUESTION}])
    ours = Vocabularies().counter(model.vocabulary)(QUESTION)
    seen(f"{found.input_tokens} tokens; counted here {ours}")
    want(found.input_tokens <= INPUT, f"{found.input_tokens} tokens for a question of {ours}: reservations would be too small")


async def _stream(client: AsyncOpenAI, call: LiveCall, seen: Callable[[str], None]) -> None:
    kinds, numbers, end = [], [], None
    raw = await client.responses.with_raw_response.create(**call.request(store=False), stream=True)
    limits = sorted(name for name in raw.headers if name.lower().startswith("x-ratelimit-remaining"))
    async for event in raw.parse():
        kinds.append(event.type)
        numbers.append(event.sequence_number)
        end = getattr(event, "response", end)
    need(kinds[:1] == ["response.created"], f"the first event is {kinds[:1]} instead of response.created")
    need("response.output_text.delta" in kinds, "no response.output_text.delta event arrived")
    need(kinds[-1] in ("response.completed", "response.incomplete"), f"the last event is {kinds[-1]}")
    need(numbers == list(range(numbers[0], numbers[0] + len(numbers))), "sequence numbers have gaps")
    need(end is not None and end.id, "the response has no id")
    usage = end.usage if end is not None else None
    if usage is None:
        raise Broken("the last event has no usage: calls would be booked as unknown, in full")
    details = usage.input_tokens_details.model_dump() if usage.input_tokens_details else {}
    want("cached_tokens" in details, f"usage.input_tokens_details has no cached_tokens, but {sorted(details)}")
    need(usage.output_tokens <= call.output, f"{usage.output_tokens} tokens were written of max_output_tokens {call.output}")
    written = "cache_write_tokens" if "cache_write_tokens" in details else "no cache_write_tokens"
    seen(f"{len(kinds)} events in order; usage {usage.input_tokens} + {usage.output_tokens}, cached_tokens, {written}")
    seen(f"tier {getattr(end, 'service_tier', None) or 'not said'}; {', '.join(limits) or 'no x-ratelimit headers'}")


async def _resume(client: AsyncOpenAI, call: LiveCall, seen: Callable[[str], None]) -> None:
    stream = await client.responses.create(**call.request(store=True, background=True), stream=True)
    begun, after, response_id = "", None, ""
    async for event in stream:
        response_id = response_id or getattr(getattr(event, "response", None), "id", "")
        if event.type == "response.output_text.delta":
            begun, after = begun + event.delta, event.sequence_number
            break
    await stream.close()
    need(response_id and after is not None, "the background stream began without an id or a text")
    rest, first = "", None
    again = await client.responses.retrieve(response_id, stream=True, starting_after=int(after or 0))
    async for event in again:
        first = event.sequence_number if first is None else first
        if event.type == "response.output_text.delta":
            rest += event.delta
    need(first == int(after or 0) + 1, f"the stream went on at {first} after {after}")
    whole = (await client.responses.retrieve(response_id)).output_text
    need(begun + rest == whole, "the parts before and after the cut are not the whole text")
    seen(f"cut after event {after}, and taken up at {first}: no character twice, none missing")


async def _cancel(client: AsyncOpenAI, call: LiveCall, seen: Callable[[str], None]) -> None:
    response = await client.responses.create(**call.request(store=True, background=True))
    stopped = await client.responses.cancel(response.id)
    for _ in range(30):
        if stopped.status not in ("queued", "in_progress"):
            break
        await asyncio.sleep(1)
        stopped = await client.responses.retrieve(response.id)
    need(
        stopped.status in ("cancelled", "completed", "incomplete"),
        f"it is {stopped.status} half a minute after it was cancelled",
    )
    seen(f"{stopped.status}; usage {'said' if stopped.usage else 'not said'}")
