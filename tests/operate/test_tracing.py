"""Traces: one from the producer to the mirror, with what it cost; nothing where nobody collects them."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from atlas.tracing import names
from atlas.variables import load
from tests.doubles.collector import Collector, Seen, collector
from tests.doubles.openai import OpenAIDouble, usage
from tests.doubles.webhook import receiver
from tests.support.core import ADR, ROOT, Workers, ask, clean_environment, ended, until
from tests.support.mirror import SECRET
from tests.support.outbox import hook

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PRODUCER = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{PRODUCER}-01"
QUESTION = "How do we hide the treasure of Rackham?"


def traced(openai: OpenAIDouble, found: Collector, **settings: Any) -> dict[str, Any]:
    """A worker's settings: it sends its spans soon."""
    return {
        "openai_base_url": openai.url, "openai_api_key": "sk-test", "otel_exporter_otlp_endpoint": found.url,
        "otel_bsp_schedule_delay": 100, "atlas_webhook_secret": SECRET, "atlas_webhook_allow": "127.0.0.1/32",
    } | settings  # fmt: skip


async def arrived(found: Collector, name: str, count: int = 1) -> list[Seen]:
    async def look() -> bool:
        return len(found.named(name)) >= count

    await until(look, 20, f"{count} spans {name}, of {[span.name for span in found.spans]}")
    return found.named(name)


async def test_one_trace_from_the_producer_to_the_mirror_with_what_was_settled(
    db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=ADR, usage=usage(1_000, 500, cached=200))
    async with collector() as found, receiver() as got:
        await hook(db, got.url)
        await workers.start(**traced(openai, found))
        task = await ask(db, QUESTION, traceparent=PARENT)
        assert (await ended(db, task))["state"] == "completed"
        (attempt,) = await arrived(found, "invoke_agent architect")
        (call,) = await arrived(found, "chat gpt-4.1")
        (search,) = await arrived(found, "retrieval")
        sent = await arrived(found, "send hook", 2)
    assert {span.trace_id for span in found.spans} == {TRACE}
    assert (attempt.parent_id, call.parent_id, search.parent_id) == (PRODUCER, attempt.span_id, attempt.span_id)
    assert [span.kind for span in (attempt, call, *sent)] == [
        "SPAN_KIND_CONSUMER", "SPAN_KIND_CLIENT", "SPAN_KIND_PRODUCER", "SPAN_KIND_PRODUCER",
    ]  # fmt: skip
    assert attempt.resource["service.name"] == "atlas"

    spend = await db.fetchrow("select * from atlas.spend where task_id = $1", task)
    # 800 at 2.00, 200 cached at 0.50, 500 at 8.00 USD a million
    assert float(spend["usd"]) == pytest.approx(0.0057)
    for span in (call, attempt):
        assert span.attributes["gen_ai.usage.cost"] == pytest.approx(float(spend["usd"]))
    assert call.attributes | {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4.1",
        "gen_ai.usage.input_tokens": 1_000, "gen_ai.usage.cache_read.input_tokens": 200, "gen_ai.usage.output_tokens": 500,
        "gen_ai.response.id": spend["response_id"], "gen_ai.response.finish_reasons": ["stop"],
        "atlas.usage.known": "reported",
    } == call.attributes  # fmt: skip
    assert 0 < call.attributes["gen_ai.response.time_to_first_chunk"] <= call.seconds <= attempt.seconds
    assert attempt.attributes["messaging.message.id"] == str(task)
    assert attempt.attributes["atlas.outcome"] == "completed"

    # the receiver goes on with the span that brought it the event; the reply is the attempt's child
    headers = {one.headers["traceparent"] for one in got.got}
    assert headers == {f"00-{TRACE}-{span.span_id}-01" for span in sent}
    reply = next(one.json["data"] for one in got.got if one.json["type"] == "spec.completed")
    assert reply["metadata"]["traceparent"] == f"00-{TRACE}-{attempt.span_id}-01"
    assert attempt.span_id in {span.parent_id for span in sent}


async def test_a_call_that_failed_and_its_fallback_are_spans_of_their_own(
    db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=ADR)
    openai.plan(model="gpt-4.1", error=(500, {"message": "it broke", "type": "server_error", "code": "server_error"}))
    async with collector() as found:
        await workers.start(**traced(openai, found, openai_fallback_models="gpt-6-luna"))
        task = await ask(db, QUESTION)
        assert (await ended(db, task))["state"] == "completed"
        (attempt,) = await arrived(found, "invoke_agent architect")
        failed = await arrived(found, "chat gpt-4.1")
        (answered,) = await arrived(found, "chat gpt-6-luna")
    assert attempt.parent_id == "", "nobody began a trace before it"
    assert {(span.status, span.attributes["error.type"]) for span in failed} == {("STATUS_CODE_ERROR", "server_error")}
    assert (answered.status, attempt.status) == ("STATUS_CODE_UNSET", "STATUS_CODE_UNSET")
    assert {span.attributes["gen_ai.usage.cost"] for span in failed} == {0.0}
    total = await db.fetchval("select sum(usd) from atlas.spend where task_id = $1", task)
    assert attempt.attributes["gen_ai.usage.cost"] == pytest.approx(float(total))


async def test_what_a_producer_does_not_sample_is_not_sent_and_a_bad_parent_begins_a_trace(
    db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=ADR)
    async with collector() as found:
        await workers.start(**traced(openai, found))
        for parent in (PARENT.removesuffix("1") + "0", "not a traceparent"):
            assert (await ended(db, await ask(db, QUESTION, traceparent=parent)))["state"] == "completed"
        (attempt,) = await arrived(found, "invoke_agent architect")
        await asyncio.sleep(0.5)
    assert len(found.named("invoke_agent architect")) == 1
    assert attempt.parent_id == ""
    assert attempt.trace_id != TRACE


async def test_no_text_of_a_task_leaves_with_its_trace(db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble) -> None:
    openai.plan(text=ADR)
    async with collector() as found:
        await workers.start(**traced(openai, found))
        assert (await ended(db, await ask(db, QUESTION)))["state"] == "completed"
        await arrived(found, "invoke_agent architect")
    assert "Rackham" not in repr(found.spans)


async def test_its_headers_are_read_from_a_file(
    db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble, tmp_path: Path
) -> None:
    openai.plan(text=ADR)
    (tmp_path / "headers").write_text("Authorization=Bearer%20abc, x-team = atlas\n")
    async with collector() as found:
        await workers.start(**traced(openai, found, otel_exporter_otlp_headers_file=tmp_path / "headers"))
        assert (await ended(db, await ask(db, QUESTION)))["state"] == "completed"
        await arrived(found, "invoke_agent architect")
    assert (found.headers[0]["authorization"], found.headers[0]["x-team"]) == ("Bearer abc", "atlas")


async def test_a_collector_that_hangs_holds_nobody_up(db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble) -> None:
    openai.plan(text=ADR)
    async with collector() as found:
        found.delay = 3600
        worker = await workers.start(**traced(openai, found))
        for _ in range(3):
            assert (await ended(db, await ask(db, QUESTION)))["state"] == "completed"

        async def asked() -> bool:
            return bool(found.headers)

        await until(asked, 20, "it is sent spans")
        worker.process.terminate()
        began = time.monotonic()
        assert await asyncio.to_thread(worker.process.wait, 60) == 0
        # it waits for five seconds; the SDK by itself for thirty
        assert time.monotonic() - began < 20


async def test_without_a_collector_the_sdk_is_not_even_loaded_and_the_producers_context_goes_on(
    db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=ADR)
    async with receiver() as got:
        await hook(db, got.url)
        await workers.start(openai_base_url=openai.url, openai_api_key="sk-test", atlas_webhook_secret=SECRET,
                            atlas_webhook_allow="127.0.0.1/32")  # fmt: skip
        assert (await ended(db, await ask(db, QUESTION, traceparent=PARENT)))["state"] == "completed"

        async def both() -> bool:
            return len(got.got) == 2

        await until(both, 20, "both events arrive")
    assert {one.headers["traceparent"] for one in got.got} == {PARENT}
    assert {one.json["data"]["metadata"]["traceparent"] for one in got.got} == {PARENT}
    code = "import sys, atlas.service, atlas.commands.mirror; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


def test_the_names_are_those_of_the_conventions() -> None:
    ours = set(re.findall(r'"(gen_ai\.[a-z_.]+)"', inspect.getsource(names)))
    theirs = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    assert len(ours) > 12
    assert ours - theirs == {names.COST}


def test_headers_are_pairs() -> None:
    assert load({"OTEL_EXPORTER_OTLP_HEADERS": "a=1=2,, B = %C3%A9 "}).otel_headers == {"a": "1=2", "b": "é"}
    assert load({}).otel_headers == {}
