"""doctor --live: what Atlas assumes of OpenAI and of Supabase, asked of the real ones, one line each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from atlas.commands import statements
from atlas.commands.common import Found
from atlas.database.operator import Operator
from atlas.errors import AtlasError, UsageError
from atlas.llm.models import Model, read_models, resolve
from atlas.llm.tokens import Vocabularies
from atlas.settings import Settings
from atlas.supabase.keys import headers_of

if TYPE_CHECKING:
    from openai import AsyncOpenAI

QUESTION = "Count from 1 to 60 in words, one per line. Write nothing else."
OUTPUT = 400
"""Tokens that a call may write at most."""
INPUT = 200
"""Tokens that a call sends, at most."""


class Differs(Exception):
    """Something is not as Atlas takes it to be."""


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


async def check_live(known: Settings, reads: Operator, max_usd: float, found: Found) -> None:
    """Asks both. Raises UsageError where there is nobody to ask."""
    if known.openai_api_key is None and known.supabase_url is None:
        raise UsageError("there is no OPENAI_API_KEY and no SUPABASE_URL: nobody to ask", "set one of them")
    if known.openai_api_key is not None:
        await _check_openai(known, reads, Decimal(str(max_usd)), found)
    if known.supabase_url is not None:
        await _check_supabase(known, reads, found)


@asynccontextmanager
async def _line(what: str, found: Found) -> AsyncIterator[Callable[[str], None]]:
    """One finding: what was seen, or how it differs, or what went wrong."""
    from httpx import HTTPError
    from openai import OpenAIError

    seen: list[str] = []
    try:
        async with asyncio.timeout(90):
            yield seen.append
    except Differs as error:
        found("warning", what, str(error))
    except TimeoutError:
        found("problem", what, "no answer within 90 s")
    except (OpenAIError, HTTPError, AtlasError) as error:
        found("problem", what, f"{type(error).__name__}: {error}")
    else:
        found("ok", what, "; ".join(seen))


def _want(condition: object, said: str) -> None:
    if not condition:
        raise Differs(said)


# --- OpenAI ---------------------------------------------------------------------------------------------------------


async def _check_openai(known: Settings, reads: Operator, most: Decimal, found: Found) -> None:
    from openai import AsyncOpenAI, Timeout

    assert known.openai_api_key is not None
    today = datetime.now(UTC).date()
    rows = read_models(await reads.call("list_models") or [])
    model = next((one for one in resolve(known.chain, rows, today).models if one.streams), None)
    if model is None:
        raise UsageError(f"none of {', '.join(known.chain)} can be streamed", "name a model that can in OPENAI_MODEL")
    cost = await reads.first(statements.worst_cost(model.name, INPUT, OUTPUT))
    if cost is None:
        raise UsageError(f"{model.name} has no price, and --max-usd cannot be kept", "give it a row in atlas.model_price")
    purse = Purse(most=most, a_call=Decimal(cost))
    key = known.openai_api_key.get_secret_value()
    async with AsyncOpenAI(
        api_key=key, base_url=known.openai_base_url, max_retries=0, timeout=Timeout(60, connect=10)
    ) as client:
        for name in known.chain:
            async with _line(f"model {name}", found) as seen:
                await _look_up(client, name, rows.get(name), seen)
        async with _line("unknown model", found) as seen:
            await _unknown_model(client, seen)
        async with _line("input count", found) as seen:
            await _count(client, model, seen)
        async with _line("stream", found) as seen:
            purse.take()
            await _stream(client, model, known.openai_service_tier, seen)
        if known.openai_background == "auto":
            async with _line("resume after a cut", found) as seen:
                purse.take()
                await _resume(client, model, seen)
            async with _line("cancel", found) as seen:
                purse.take()
                await _cancel(client, model, seen)
    found("ok", "spent", f"at most {purse.spent:.4f} USD of {most} ({model.name}; calls of {OUTPUT} tokens at most)")


async def _look_up(client: AsyncOpenAI, name: str, row: Model | None, seen: Callable[[str], None]) -> None:
    from openai import NotFoundError

    try:
        answer = await client.models.retrieve(name)
    except NotFoundError:
        gone = row is not None and row.gone(datetime.now(UTC).date())
        _want(
            gone,
            "it is not found, and atlas.model does not know of it: `atlas doctor` names its successor once a worker has asked",
        )
        seen("it is gone, as atlas.model says")
        return
    day = getattr(answer, "shutdown_date", None)
    ours = row.shutdown_at.isoformat() if row is not None and row.shutdown_at else None
    _want(day is None or day[:10] == ours, f"it shuts down on {day}, and atlas.model says {ours}: workers read it daily")
    seen(f"it is there; shutdown_date {day or 'not said'}")


async def _unknown_model(client: AsyncOpenAI, seen: Callable[[str], None]) -> None:
    from openai import APIStatusError

    try:
        await client.responses.create(
            model="atlas-no-such-model", input=[{"role": "user", "content": QUESTION}], max_output_tokens=16
        )
    except APIStatusError as error:
        _want(error.code == "model_not_found", f"HTTP {error.status_code} with code {error.code!r} instead of model_not_found")
        seen(f"HTTP {error.status_code}, model_not_found")
    else:
        raise Differs("it was answered: this server takes any name")


async def _count(client: AsyncOpenAI, model: Model, seen: Callable[[str], None]) -> None:
    found = await client.responses.input_tokens.count(model=model.name, input=[{"role": "user", "content": QUESTION}])
    ours = Vocabularies().counter(model.vocabulary or "")(QUESTION)
    seen(f"{found.input_tokens} tokens; counted here {ours}")
    _want(found.input_tokens <= INPUT, f"{found.input_tokens} tokens for a question of {ours}: reservations would be too small")


def _asked(model: Model, **more: Any) -> dict[str, Any]:
    effort = {"reasoning": {"effort": model.reasoning_effort}} if model.reasoning_effort else {}
    return {"model": model.name, "input": [{"role": "user", "content": QUESTION}], "max_output_tokens": OUTPUT,
            "metadata": {"atlas": "doctor --live"}} | effort | more  # fmt: skip


async def _stream(client: AsyncOpenAI, model: Model, tier: str, seen: Callable[[str], None]) -> None:
    kinds, numbers, end = [], [], None
    raw = await client.responses.with_raw_response.create(**_asked(model, store=False, service_tier=tier), stream=True)
    limits = sorted(name for name in raw.headers if name.lower().startswith("x-ratelimit-remaining"))
    async for event in raw.parse():
        kinds.append(event.type)
        numbers.append(event.sequence_number)
        end = getattr(event, "response", end)
    _want(kinds[:1] == ["response.created"], f"the first event is {kinds[:1]} instead of response.created")
    _want("response.output_text.delta" in kinds, "no response.output_text.delta event arrived")
    _want(kinds[-1] in ("response.completed", "response.incomplete"), f"the last event is {kinds[-1]}")
    _want(numbers == list(range(numbers[0], numbers[0] + len(numbers))), "sequence numbers have gaps")
    _want(end is not None and end.id, "the response has no id")
    usage = end.usage if end is not None else None
    if usage is None:
        raise Differs("the last event has no usage: calls would be booked as unknown, in full")
    details = usage.input_tokens_details.model_dump() if usage.input_tokens_details else {}
    _want("cached_tokens" in details, f"usage.input_tokens_details has no cached_tokens, but {sorted(details)}")
    _want(usage.output_tokens <= OUTPUT, f"{usage.output_tokens} tokens were written of max_output_tokens {OUTPUT}")
    written = "cache_write_tokens" if "cache_write_tokens" in details else "no cache_write_tokens"
    seen(f"{len(kinds)} events in order; usage {usage.input_tokens} + {usage.output_tokens}, cached_tokens, {written}")
    seen(f"tier {getattr(end, 'service_tier', None) or 'not said'}; {', '.join(limits) or 'no x-ratelimit headers'}")


async def _resume(client: AsyncOpenAI, model: Model, seen: Callable[[str], None]) -> None:
    stream = await client.responses.create(**_asked(model, store=True, background=True), stream=True)
    begun, after, response_id = "", None, ""
    async for event in stream:
        response_id = response_id or getattr(getattr(event, "response", None), "id", "")
        if event.type == "response.output_text.delta":
            begun, after = begun + event.delta, event.sequence_number
            break
    await stream.close()
    _want(response_id and after is not None, "the background stream began without an id or a text")
    rest, first = "", None
    again = await client.responses.retrieve(response_id, stream=True, starting_after=int(after or 0))
    async for event in again:
        first = event.sequence_number if first is None else first
        if event.type == "response.output_text.delta":
            rest += event.delta
    _want(first == int(after or 0) + 1, f"the stream went on at {first} after {after}")
    whole = (await client.responses.retrieve(response_id)).output_text
    _want(begun + rest == whole, "the parts before and after the cut are not the whole text")
    seen(f"cut after event {after}, and taken up at {first}: no character twice, none missing")


async def _cancel(client: AsyncOpenAI, model: Model, seen: Callable[[str], None]) -> None:
    response = await client.responses.create(**_asked(model, store=True, background=True))
    stopped = await client.responses.cancel(response.id)
    for _ in range(30):
        if stopped.status not in ("queued", "in_progress"):
            break
        await asyncio.sleep(1)
        stopped = await client.responses.retrieve(response.id)
    _want(
        stopped.status in ("cancelled", "completed", "incomplete"),
        f"it is {stopped.status} half a minute after it was cancelled",
    )
    seen(f"{stopped.status}; usage {'said' if stopped.usage else 'not said'}")


# --- Supabase -------------------------------------------------------------------------------------------------------


async def _check_supabase(known: Settings, reads: Operator, found: Found) -> None:
    import httpx

    async with httpx.AsyncClient(base_url=str(known.supabase_url), timeout=15) as web:
        if known.public_key is not None:
            async with _line("rest, anybody", found) as seen:
                await _rest_as_anybody(web, known.public_key, seen)
        if known.worker_key is not None:
            async with _line("rest, workers' key", found) as seen:
                await _rest_as_service(web, known.worker_key, seen)
    if known.worker_key is not None:
        async with _line("realtime", found) as seen:
            await _realtime(known, reads, seen)
    found(
        "ok",
        "realtime rate",
        "not tried: past it a project's events are dropped for 20 s; ATLAS_REALTIME_RATE says what Atlas keeps to",
    )


async def _rest_as_anybody(web: Any, key: str, seen: Callable[[str], None]) -> None:
    for table, schema in (("architect_in", "public"), ("architect_out", "public"), ("task_history", "atlas")):
        answer = await web.get(f"/rest/v1/{table}", params={"limit": "1"}, headers=headers_of(key) | {"accept-profile": schema})
        rows = answer.json() if answer.is_success else []
        _want(not rows, f"anybody reads {schema}.{table} with the publishable key alone: check row level security")
    sent = await web.post("/rest/v1/architect_in", headers=headers_of(key), content=json.dumps({"data": {}}))
    _want(sent.status_code in (401, 403), f"an insert without a login is answered {sent.status_code} instead of 401 or 403")
    seen("without a login nobody reads a row, or writes one")


async def _rest_as_service(web: Any, key: str, seen: Callable[[str], None]) -> None:
    for table, schema in (("architect_in", "public"), ("task_history", "atlas")):
        answer = await web.get(f"/rest/v1/{table}", params={"limit": "0"}, headers=headers_of(key) | {"accept-profile": schema})
        _want(
            answer.is_success,
            f"{schema}.{table} is answered {answer.status_code} ({answer.text[:120]}): is atlas among the schemas of [api]?",
        )
    seen("public and atlas are served")


async def _realtime(known: Settings, reads: Operator, seen: Callable[[str], None]) -> None:
    from atlas.supabase.tokens import KeyTokens
    from atlas.wake_ups.realtime import RealtimeWakeUps

    states: list[str] = []
    heard: list[str] = []
    assert known.worker_key is not None
    wake_ups = RealtimeWakeUps(str(known.supabase_url), KeyTokens(known.worker_key), entered=states.append)
    listening = asyncio.create_task(wake_ups.run(lambda source, _cancel: heard.append(source)))
    try:
        await _until(
            lambda: "receiving" in states, 40, f"its private channel is not open ({' > '.join(states) or 'no connection'})"
        )
        await reads.call("send", {"doctor": "live"}, "task_queued", "atlas:wake", True, schema="realtime")
        await _until(lambda: "realtime_broadcast" in heard, 10, "a broadcast that SQL sent was not heard within 10 s")
    finally:
        listening.cancel()
        await asyncio.wait({listening})
    seen(f"{' > '.join(dict.fromkeys(states))}; a broadcast that SQL sent to the private topic was heard")


async def _until(check: Callable[[], bool], seconds: float, otherwise: str) -> None:
    for _ in range(int(seconds * 20)):
        if check():
            return
        await asyncio.sleep(0.05)
    raise Differs(otherwise)
