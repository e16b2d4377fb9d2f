"""From architect_in to architect_out through a real worker, against a server that speaks the Responses API."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from tests.doubles.openai import OpenAIDouble, usage
from tests.support.core import ADR, Json, Workers, ask, ended, reply, until


@pytest.fixture
def settings(openai: OpenAIDouble) -> Json:
    return {"openai_api_key": "test", "openai_base_url": openai.url, "openai_fallback_models": "gpt-4o-mini,o1-pro"}


async def calls(db: asyncpg.Connection) -> list[Json]:
    return [dict(row) for row in await db.fetch("select * from atlas.spend order by id")]


async def nothing_reserved(db: asyncpg.Connection) -> None:
    assert await db.fetchval("select sum(reserved_tokens) from atlas.budget_day") == 0
    assert await db.fetchval("select count(*) from atlas.spend where state = 'reserved'") == 0


async def test_a_question_becomes_a_spec(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR, usage=usage(1000, 400, cached=300, reasoning=20))
    worker = await workers.start(**settings)
    task = await ask(db, "How do we ship?")
    assert (await ended(db, task))["state"] == "completed"
    message = await reply(db, task)
    assert (message["role"], message["msg_type"], message["content"]) == ("architect", "spec", ADR)
    data = message["metadata"]
    assert (data["status"], data["model"], data["tokens"], data["schema_ver"]) == ("completed", "gpt-4.1", 1400, 2)
    assert "warnings" not in data
    assert data["usage"] == {
        "input_tokens": 1000, "cached_tokens": 300, "cache_write_tokens": 0, "output_tokens": 400, "reasoning_tokens": 20,
        "tier": "default", "known": "reported",
    }  # fmt: skip
    (call,) = await calls(db)
    assert float(call["usd"]) == pytest.approx((700 * 2 + 300 * 0.5 + 400 * 8) / 1e6)
    (sent,) = openai.calls
    assert (sent["background"], sent["store"], sent["stream"], sent["service_tier"]) == (True, True, True, "default")
    assert sent["max_output_tokens"] == 4_000, "what replies usually need; one that needs more is continued"
    assert sent["max_output_tokens"] < call["reserved_tokens"] < 6_000, "the input, and exactly that output"
    row = await db.fetchrow("select id, project_id, (select id from atlas.attempt) as attempt from atlas.task")
    assert sent["metadata"] == {"task": str(row["id"]), "attempt": str(row["attempt"]), "call": str(call["id"])}
    assert sent["prompt_cache_key"] == str(row["project_id"])
    await nothing_reserved(db)
    await until(lambda: asyncio.to_thread(lambda: worker.metric('atlas_run_seconds_count{outcome="completed"}') == 1), 10)
    assert worker.metric('atlas_tokens_total{kind="output",model="gpt-4.1"}') == 380
    assert worker.metric('atlas_tokens_total{kind="reasoning",model="gpt-4.1"}') == 20


async def test_background_off_stores_nothing(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR)
    await workers.start(**settings, openai_background="off")
    await ended(db, await ask(db))
    assert openai.calls[0]["store"] is False
    assert "background" not in openai.calls[0]


async def test_a_server_without_background_is_asked_plainly(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.takes_background = False
    openai.plan(text=ADR)
    await workers.start(**settings)
    assert (await ended(db, await ask(db)))["state"] == "completed"
    assert [call.get("background") for call in openai.calls] == [True, None]


async def test_a_rate_limit_is_waited_for(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR)
    error = (429, {"code": "rate_limit_exceeded", "message": "slow down"})
    openai.plan(error=error, headers={"retry-after": "1"}, times=1)
    await workers.start(**settings)
    row = await ended(db, await ask(db))
    assert (row["state"], row["model"], row["failures"]) == ("completed", "gpt-4.1", 0)
    assert len(openai.calls) == 2
    assert (row["finished_at"] - row["queued_at"]).total_seconds() >= 1


@pytest.mark.parametrize(
    ("status", "code", "tries"),
    [(500, "server_error", 3), (401, "invalid_api_key", 1), (429, "insufficient_quota", 1), (400, "bad", 1)],
)
async def test_what_does_not_pass_goes_to_the_next_model(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json, status: int, code: str, tries: int
) -> None:
    openai.plan(text=ADR)
    openai.plan(model="gpt-4.1", error=(status, {"code": code, "message": "no"}))
    worker = await workers.start(**settings)
    row = await ended(db, await ask(db))
    assert (row["state"], row["model"]) == ("completed", "gpt-4o-mini")
    assert [call["model"] for call in openai.calls] == ["gpt-4.1"] * tries + ["gpt-4o-mini"]
    assert worker.metric('atlas_fallbacks_total{model="gpt-4o-mini"}') == 1
    spent = await calls(db)
    assert [int(call["tokens"]) for call in spent] == [0] * tries + [150]
    assert spent[-1]["reserved_usd"] < spent[0]["reserved_usd"]
    await nothing_reserved(db)


async def test_a_missing_model_is_passed_over_for_its_successor(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR)
    openai.plan(model="gpt-4.1", error=(404, {"code": "model_not_found", "message": "gone"}))
    worker = await workers.start(**(settings | {"openai_fallback_models": "gpt-4o-mini"}))
    for _ in range(2):
        row = await ended(db, await ask(db))
        assert (row["state"], row["model"]) == ("completed", "gpt-6-luna")
    assert [call["model"] for call in openai.calls] == ["gpt-4.1", "gpt-6-luna", "gpt-6-luna"]
    assert worker.log.read_text().count("gpt-4.1 is not found upstream: gpt-6-luna is called instead") == 1
    assert worker.metric('atlas_model_passed_over{model="gpt-4.1"}') == 1


async def test_a_model_that_cannot_stream_is_called_without(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    await db.execute("update atlas.model set shutdown_at = null where name = 'o1-pro'")
    openai.plan(text=ADR, delay=0.01)
    await workers.start(**(settings | {"openai_model": "o1-pro", "openai_fallback_models": "none"}))
    row = await ended(db, await ask(db))
    assert (row["state"], row["model"]) == ("completed", "o1-pro")
    assert "stream" not in openai.calls[0]


async def test_a_context_overflow_goes_to_a_model_with_more_room(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR)
    openai.plan(model="gpt-4.1", error=(400, {"code": "context_length_exceeded", "message": "too long"}))
    await workers.start(**(settings | {"openai_fallback_models": "gpt-4o-mini,gpt-6-luna"}))
    row = await ended(db, await ask(db))
    assert (row["state"], row["model"]) == ("completed", "gpt-6-luna")


async def test_a_refusal_is_an_answer(workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json) -> None:
    openai.plan(text="I cannot help with that.", refusal=True)
    await workers.start(**settings)
    task = await ask(db)
    assert (await ended(db, task))["state"] == "completed"
    message = await reply(db, task)
    assert message["content"] == "I cannot help with that."
    assert message["metadata"]["kind"] == "refusal"
    assert len(openai.calls) == 1


async def test_a_reply_that_is_cut_is_continued_in_the_same_run(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR[100:])
    openai.plan(text=ADR[:100], status="incomplete", usage=usage(900, 4000), times=1)
    await workers.start(**settings)
    task = await ask(db)
    assert (await ended(db, task))["attempts"] == 1
    message = await reply(db, task)
    assert message["content"] == ADR
    assert "truncated" not in message["metadata"]
    assert message["metadata"]["tokens"] == 4900 + 150
    first, second = openai.calls
    assert first["max_output_tokens"] == 4000
    assert second["max_output_tokens"] > 4000, "all that the run has left"
    assert [turn["role"] for turn in second["input"]] == ["user", "assistant", "user"]
    assert second["input"][1]["content"] == ADR[:100]
    parts = await db.fetch('select "offset", generation, text from atlas.reply_part where task_id = $1 order by "offset"', task)
    assert {part["generation"] for part in parts} == {0}, "readers see one text that goes on"
    assert [int(call["tokens"]) for call in await calls(db)] == [4900, 150]
    await nothing_reserved(db)


async def test_a_cut_reply_goes_on_without_the_sources_where_they_leave_no_room(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    """The default run of 12,000, of which the first call used 9,100: the thread of 1,900 tokens leaves no room."""
    openai.plan(text=ADR)
    await db.execute("select atlas.set_spend_rules('{\"sender_daily_share\": 1}')")
    await workers.start(**settings)
    parent = await ask(db, "word " * 1500)
    await ended(db, parent)
    openai.plan(text=ADR[100:])
    openai.plan(text=ADR[:100], status="incomplete", usage=usage(5100, 4000), times=1)
    openai.calls.clear()
    task = await ask(db, "How?", parent_id=str(parent))
    await ended(db, task)
    message = await reply(db, task)
    assert (message["content"], "truncated" in message["metadata"]) == (ADR, False)
    first, second = openai.calls
    assert len(first["input"]) == 3
    assert [turn["content"] for turn in second["input"][:2]] == ["How?", ADR[:100]]
    assert second["max_output_tokens"] >= 1000


async def test_a_reply_that_no_budget_lets_go_on_says_truncated(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text="# Half\n\n## Status\n", status="incomplete", usage=usage(900, 4000))
    await workers.start(**settings, token_budget_per_run=5200)
    task = await ask(db)
    await ended(db, task)
    assert (await reply(db, task))["metadata"]["truncated"] is True
    assert len(openai.calls) == 1


async def test_a_model_that_only_thinks_gets_the_rest_of_the_run_then_the_next_model_is_asked(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR)
    openai.plan(model="gpt-4.1", text="", status="incomplete", usage=usage(90, 4000, reasoning=4000))
    await workers.start(**settings)
    row = await ended(db, await ask(db))
    assert row["model"] == "gpt-4o-mini"
    assert [int(call["tokens"]) for call in await calls(db)] == [4090, 4090, 150]


async def test_a_flawed_record_is_mended_by_one_more_call(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR)
    openai.plan(text=ADR.replace("## Decision", "## Thoughts") + "\nSee [S9].\n", times=1)
    await workers.start(**settings)
    task = await ask(db)
    await ended(db, task)
    message = await reply(db, task)
    assert message["content"] == ADR
    assert "warnings" not in message["metadata"]
    asked = openai.calls[1]["input"][-1]["content"]
    assert "'## Decision' is missing" in asked
    assert "S9" in asked
    assert [int(call["tokens"]) for call in await calls(db)] == [150, 150]


async def test_a_record_that_cannot_be_mended_is_delivered_with_warnings(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text="# Only a title")
    await workers.start(**settings)
    task = await ask(db)
    assert (await ended(db, task))["state"] == "completed"
    message = await reply(db, task)
    assert message["content"] == "# Only a title"
    assert "the section '## Decision' is missing" in message["metadata"]["warnings"]
    assert len(openai.calls) == 2


async def test_no_repair_where_the_budget_has_no_room(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text="# Only a title", usage=usage(3000, 8900))
    await workers.start(**settings)
    task = await ask(db)
    await ended(db, task)
    assert (await reply(db, task))["metadata"]["warnings"]
    assert len(openai.calls) == 1


async def test_a_cut_stream_is_taken_up_where_it_broke(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR, cut_after=4, delay=0.2)
    await workers.start(**settings)
    task = await ask(db)
    assert (await ended(db, task))["state"] == "completed"
    assert (await reply(db, task))["content"] == ADR
    assert len(openai.calls) == 1
    assert openai.resumed == [("resp_1", 3)]
    (call,) = await calls(db)
    assert (call["known"], call["tokens"]) == ("reported", 150)


async def test_a_cut_stream_that_cannot_be_taken_up_counts_in_full_and_is_tried_again(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR)
    openai.plan(text=ADR, cut_after=4, delay=0.01, times=1)
    await workers.start(**settings, openai_background="off")
    task = await ask(db)
    assert (await ended(db, task))["state"] == "completed"
    assert (await reply(db, task))["content"] == ADR
    first, second = await calls(db)
    assert (first["known"], second["known"]) == ("unknown", "reported")
    assert first["tokens"] == first["reserved_tokens"]
    await nothing_reserved(db)


async def test_an_outage_keeps_the_task_queued_and_uses_no_attempt(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(error=(500, {"message": "down"}))
    await workers.start(**(settings | {"openai_fallback_models": "none"}))
    task = await ask(db)
    row = await until(
        lambda: db.fetchrow("select * from atlas.task where id = $1 and wait_reason = 'upstream'", task),
        30,
        "waits for upstream",
    )
    assert (row["state"], row["failures"]) == ("queued", 0)
    assert row["outage_since"] is not None
    openai.plans.clear()
    openai.plan(text=ADR)
    await db.execute("select atlas.retry_task($1)", task)
    assert (await ended(db, task))["state"] == "completed"
    await nothing_reserved(db)


async def test_a_bad_request_is_not_tried_again(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(error=(400, {"code": "invalid_prompt", "message": "not this"}))
    await workers.start(**(settings | {"openai_fallback_models": "none"}))
    task = await ask(db)
    row = await ended(db, task, 40)
    assert (row["state"], row["failures"], row["error_code"]) == ("failed", 1, "invalid_prompt")
    assert len(openai.calls) == 1


async def test_a_question_that_does_not_fit_half_a_run_is_refused_before_any_call(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    await workers.start(**settings)
    row = await ended(db, await ask(db, "word " * 7000))
    assert (row["state"], row["error_code"]) == ("failed", "input_too_large")
    assert "raise TOKEN_BUDGET_PER_RUN" in row["error_message"]
    # a limit in the database overrides the setting, so the message names that limit
    await db.execute("select atlas.set_budget('global', '{\"per_run\": 9000}')")
    row = await ended(db, await ask(db, "word " * 7000))
    assert "run of 9000: raise it with `atlas budget set --scope global --per-run N`" in row["error_message"]
    assert openai.calls == []


async def test_a_thread_brings_the_earlier_exchange_into_the_prompt(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR)
    await workers.start(**settings)
    first = await ask(db, "How do we ship?")
    await ended(db, first)
    second = await ask(db, "And how do we roll back?", parent_id=str(first))
    await ended(db, second)
    await ended(db, await ask(db, "Is it done?", parent_id=str(second)))
    roles = [(turn["role"], turn["content"][:20]) for turn in openai.calls[2]["input"]]
    assert roles == [
        ("user", "How do we ship?"), ("assistant", ADR[:20]), ("user", "And how do we roll b"), ("assistant", ADR[:20]),
        ("user", "Is it done?"),
    ]  # fmt: skip


async def test_cancelling_stops_the_call_and_settles_what_it_used(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR, delay=0.5)
    await workers.start(**settings)
    task = await ask(db)
    await until(lambda: db.fetchrow("select * from atlas.reply_part where task_id = $1", task), 20, "it streams")
    assert await db.fetchval("select atlas.cancel_task($1)", task) == "running"
    row = await ended(db, task, 10)
    assert row["state"] == "cancelled"
    assert openai.cancelled == ["resp_1"]
    (call,) = await calls(db)
    assert (call["known"], call["tokens"]) == ("reported", 107)
    assert (await reply(db, task))["metadata"]["status"] == "cancelled"
    await nothing_reserved(db)


async def test_deltas_are_stored_by_code_points(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    text = ADR.replace("Merges", "𝔐erges 🚀\x00 naïve")
    openai.plan(text=text, chunk=3, delay=0.02)
    await workers.start(**settings)
    task = await ask(db)
    await ended(db, task)
    expected = text.replace("\x00", "\ufffd")
    assert (await reply(db, task))["content"] == expected
    parts = await db.fetch('select "offset", text from atlas.reply_part where task_id = $1 order by 1', task)
    assert len(parts) > 2
    for part in parts:
        assert expected[part["offset"] : part["offset"] + len(part["text"])] == part["text"]
    ends: list[Any] = [0, *(part["offset"] + len(part["text"]) for part in parts)]
    assert [part["offset"] for part in parts] == ends[:-1]


async def test_models_that_are_gone_are_passed_over_from_the_start(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR)
    worker = await workers.start(**(settings | {"openai_model": "o1-pro", "openai_fallback_models": "o3"}))
    await db.execute("update atlas.model set shutdown_at = '2026-01-01' where name = 'o3'")
    row = await ended(db, await ask(db))
    assert row["model"] == "gpt-6.1-sol"
    assert "o1-pro was shut down on 2026-10-23: gpt-6.1-sol is called instead" in worker.log.read_text()
