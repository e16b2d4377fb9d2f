"""Money and responses through a real worker: calls whose answers were lost, cheaper windows, rate limits, prices before asking."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import asyncpg
import pytest

from tests.doubles.openai import OpenAIDouble, usage
from tests.doubles.way import Way
from tests.support.core import (
    ADR,
    Database,
    Json,
    Workers,
    ask,
    clean_environment,
    ended,
    person,
    reply,
    run_atlas,
    stand_in_of,
    until,
)


@pytest.fixture
def way(openai: OpenAIDouble) -> Iterator[Way]:
    with Way(openai.port) as found:
        yield found


@pytest.fixture
def settings(way: Way) -> Json:
    return {
        "openai_api_key": "test",
        "openai_base_url": way.url,
        "openai_fallback_models": "none",
        "atlas_held_retry_seconds": 1,
    }


async def tell(db: asyncpg.Connection, response: Json) -> str:
    """What functions/openai-webhook does with an event: see its own tests."""
    text = "".join(part.get("text", "") for item in response["output"] for part in item["content"])
    found = response["usage"]
    told = {"id": response["id"], "status": response["status"], "metadata": response["metadata"], "text": text, "usage": found and {
        "input_tokens": found["input_tokens"], "output_tokens": found["output_tokens"], "tier": response["service_tier"]}}  # fmt: skip
    return str(await db.fetchval("select atlas.adopt_response($1)", told))


async def over(openai: OpenAIDouble, n: int = 0) -> Json:
    """The n-th response of the provider, once it is over."""
    await until(lambda: asyncio.sleep(0, len(openai.responses()) > n and openai.responses()[n]["status"] == "completed"), 20)
    return openai.responses()[n]


async def held(db: asyncpg.Connection, task: object) -> None:
    await until(lambda: db.fetchval("select wait_reason = 'held' from atlas.task where id = $1", task), 20, "its call is held")


async def test_a_call_whose_answer_was_lost_is_found_by_the_webhook(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, way: Way, settings: Json
) -> None:
    openai.plan(text=ADR)
    await workers.start(**(settings | {"atlas_held_retry_seconds": 60}))
    await until(lambda: db.fetchrow("select 1 from atlas.worker where state = 'idle'"), 20, "it is idle")
    way.set("lost")
    task = await ask(db)
    await held(db, task)
    way.set("open")
    assert await tell(db, await over(openai)) == "adopted"
    assert (await ended(db, task, 10))["state"] == "completed"
    assert (await reply(db, task))["content"] == ADR
    assert len(openai.calls) == 1, "it is not generated twice"
    calls = [tuple(row) for row in await db.fetch("select state, known, tokens from atlas.spend")]
    assert calls == [("settled", "reported", 150)]


async def test_a_webhook_that_is_quicker_than_a_silent_connection_ends_the_wait(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, way: Way, settings: Json
) -> None:
    openai.plan(text=ADR)
    await workers.start(**settings, openai_stream_idle_seconds=30)
    await until(lambda: db.fetchrow("select 1 from atlas.worker where state = 'idle'"), 20, "it is idle")
    way.set("mute")
    task = await ask(db)
    response = await over(openai)
    way.set("open", cut=False)
    assert await tell(db, response) == "adopted"
    assert (await ended(db, task, 10))["state"] == "completed"
    assert (await reply(db, task))["content"] == ADR
    assert len(openai.calls) == 1
    assert [tuple(row) for row in await db.fetch("select known, tokens from atlas.spend")] == [("reported", 150)]


async def test_without_background_a_window_is_asked_for_at_once_and_paid_in_full(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR, usage=usage(1000, 500))
    worker = await workers.start(**settings, openai_background="off")
    assert (await ended(db, await ask(db, completion_window="8h")))["state"] == "completed"
    row = await db.fetchrow("select completion_window, factor, usd from atlas.spend where known = 'reported'")
    assert tuple(row) == ("soonest", Decimal(1), Decimal(1000 * 2 + 500 * 8) / 1_000_000)
    assert "the reply is asked for at once, at its full price" in worker.log.read_text()


async def test_a_repair_within_a_window_is_asked_for_at_once(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR)
    openai.plan(text="# Only a title", times=1)
    await workers.start(**settings)
    task = await ask(db, completion_window="2h")
    await until(lambda: db.fetchval("select wait_reason = 'response' from atlas.task where id = $1", task), 20, "it waits")
    await tell(db, await over(openai))
    assert (await ended(db, task, 15))["state"] == "completed"
    assert (await reply(db, task))["content"] == ADR
    assert [call.get("background_options") for call in openai.calls] == [{"completion_window": "2h"}, None]


async def test_streams_that_are_cut_and_not_stored_are_an_outage_and_no_failure(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR)
    openai.plan(text=ADR, cut_after=4, delay=0.01, times=4)
    await workers.start(**settings, openai_background="off")
    row = await ended(db, await ask(db), 60)
    assert (row["state"], row["failures"]) == ("completed", 0)
    assert [r["known"] for r in await db.fetch("select known from atlas.spend order by id")] == ["unknown"] * 4 + ["reported"]


async def test_the_first_response_is_the_reply_and_the_second_call_is_cancelled_and_settled(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, way: Way, settings: Json
) -> None:
    openai.plan(text="# The second" * 50, delay=0.5)
    openai.plan(text=ADR, times=1)
    await workers.start(**settings)
    await until(lambda: db.fetchrow("select 1 from atlas.worker where state = 'idle'"), 20, "it is idle")
    way.set("lost")
    task = await ask(db)
    await held(db, task)
    way.set("open")
    streaming = "select count(*) > 0 from atlas.reply_part p join atlas.attempt a on a.id = p.attempt_id where a.task_id = $1"
    await until(lambda: db.fetchval(streaming, task), 20, "the second call streams")
    assert await tell(db, await over(openai)) == "adopted"
    assert (await ended(db, task, 10))["state"] == "completed"
    assert (await reply(db, task))["content"] == ADR
    assert openai.cancelled == ["resp_2"]
    calls = [tuple(row) for row in await db.fetch("select known, tokens from atlas.spend order by id")]
    assert calls == [("reported", 150), ("reported", 107)]


async def test_a_cheaper_window_is_asked_for_not_streamed_and_told_by_the_webhook(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json, database: Database
) -> None:
    openai.plan(text=ADR, delay=0.1, usage=usage(1000, 500))
    await workers.start(**settings)
    env = clean_environment() | {"DATABASE_URL": database.url()}
    done = await asyncio.to_thread(run_atlas, "ask", "How do we ship?", "--when", "2h", "--detach", env=env)
    assert done.returncode == 0, done.stderr
    task = await db.fetchval("select id from atlas.task")
    await until(lambda: db.fetchval("select wait_reason = 'response' from atlas.task where id = $1", task), 20, "it waits")
    (sent,) = openai.calls
    assert (sent["background"], sent["background_options"], "stream" in sent) == (True, {"completion_window": "2h"}, False)
    pause = await db.fetchval("select extract(epoch from run_after - now()) from atlas.task where id = $1", task)
    assert 20 < pause <= 30, "polled; no slot is held meanwhile"
    expected = "select (atlas.task_state($1) ->> 'expected_at')::timestamptz - now() between '1 h 58 min' and '2 h'"
    assert await db.fetchval(expected, task), "the reader is told when"
    assert await tell(db, await over(openai)) == "adopted"
    assert (await ended(db, task, 10))["state"] == "completed"
    row = await db.fetchrow("select completion_window, factor, usd from atlas.spend")
    assert tuple(row) == ("2h", Decimal("0.7"), Decimal("0.7") * (1000 * 2 + 500 * 8) / 1_000_000)
    assert await db.fetchval("select count(*) from atlas.spend") == 1


async def test_a_reader_of_a_cheaper_window_is_told_when_the_reply_comes(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json, database: Database
) -> None:
    openai.plan(text=ADR, delay=0.1)
    await workers.start(**settings)
    env = clean_environment() | {"DATABASE_URL": database.url()}
    asking = asyncio.create_task(asyncio.to_thread(run_atlas, "ask", "How?", "--when", "8h", env=env))
    waits = "select count(*) = 1 from atlas.task where wait_reason = 'response'"
    await until(lambda: db.fetchval(waits), 30, "it waits")
    await asyncio.sleep(1)
    await tell(db, await over(openai))
    done = await asking
    assert done.returncode == 0, done.stderr
    assert "the provider is writing the reply, by " in done.stderr
    assert done.stdout == ADR


async def test_the_fleet_stays_under_the_rate_limit_instead_of_bouncing(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR)
    openai.requests_a_minute = 120
    await db.execute("select atlas.set_budget('global', '{\"daily\": null}')")
    for _ in range(2):
        await workers.start(**settings, atlas_concurrency=12)
    await ended(db, await ask(db, "the first tells the limit"))
    await db.execute(
        "insert into public.architect_in (data) select jsonb_build_object('task_id', gen_random_uuid(), 'role', 'architect', "
        "'msg_type', 'chat', 'content', 'question ' || n) from generate_series(1, 140) n"
    )
    began = time.monotonic()
    await until(lambda: db.fetchval("select count(*) = 141 from atlas.task where state = 'completed'"), 60, "all are answered")
    assert openai.refused == 0
    assert time.monotonic() - began > 5, "the last ones had to wait"
    assert await db.fetchval("select max(failures) from atlas.task") == 0


async def test_a_cut_stream_older_than_five_minutes_is_polled(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, way: Way, settings: Json
) -> None:
    openai.plan(text=ADR, delay=0.25)
    openai.streamable = False
    await workers.start(**settings)
    task = await ask(db)
    await until(lambda: db.fetchrow("select 1 from atlas.reply_part where task_id = $1", task), 20, "it streams")
    way.cut()
    assert (await ended(db, task))["state"] == "completed"
    assert (await reply(db, task))["content"] == ADR
    assert len(openai.calls) == 1
    assert await db.fetchval("select count(*) from realtime.messages where event = 'reset'") == 0


async def test_the_day_on_which_a_model_shuts_down_is_read_from_the_provider(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.shutdown_dates["gpt-4.1"] = "2027-02-01"
    await workers.start(**settings)
    await until(lambda: db.fetchval("select shutdown_at = '2027-02-01' from atlas.model where name = 'gpt-4.1'"), 20)


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def env(database: Database, way: Way, tmp_path: Path) -> dict[str, str]:
    return clean_environment() | {
        "DATABASE_URL": database.url(), "OPENAI_API_KEY": "test", "OPENAI_BASE_URL": way.url, "COLUMNS": "80",
        "ATLAS_HOME": str(tmp_path),
    }  # fmt: skip


async def atlas(env: dict[str, str], *words: str, code: int = 0) -> str:
    done = await asyncio.to_thread(run_atlas, *words, env=env)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


async def test_the_price_is_said_before_asking(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json, env: dict[str, str]
) -> None:
    assert "no worker is alive" in await atlas(env, "ask", "--price")
    openai.plan(text=ADR, usage=usage(1000, 500))
    await workers.start(**settings, daily_usd_budget=5)
    await ended(db, await ask(db))
    said = await atlas(env, "ask", "--price")
    assert "gpt-4.1\t0.0960\t0.0060\tclosed" in said
    assert "248,500 tokens left of 250,000 this day (global)" in said
    assert "4.99 USD left of 5.00 this day (global)" in said
    assert "gpt-4.1\t0.0576\t0.0036" in await atlas(env, "ask", "--price", "--when", "8h")
    assert await db.fetchval("select count(*) from atlas.task") == 1, "it asks nothing"
    assert "--when '1h' is not known: use soonest, 2h or 8h" in " ".join(
        (await atlas(env, "ask", "x", "--when", "1h", code=2)).split()
    )


async def test_an_admin_raises_the_projects_budget_from_the_command_line_and_what_waits_goes_on(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json, database: Database, tmp_path: Path
) -> None:
    openai.plan(text=ADR, usage=usage(2000, 3000))
    await workers.start(**settings)
    async with stand_in_of(database) as stand_in:
        ann, bob = await person(stand_in, tmp_path, "ann"), await person(stand_in, tmp_path, "bob")
        await db.execute("insert into atlas.project (name) values ('payments')")
        for name, role in (("ann", "admin"), ("bob", "member")):
            await db.execute(
                "insert into atlas.member (project_id, user_id, role) select p.id, u.id, $2 from atlas.project p, auth.users u "
                "where p.name = 'payments' and u.email = $1", f"{name}@example.com", role,
            )  # fmt: skip
        await ann.atlas("budget", "set", "--scope", "project:payments", "--daily", "6000")
        await bob.atlas("ask", "The first?", "--project", "payments")
        await bob.atlas("ask", "The second?", "--project", "payments", "--detach")
        deferred = "select count(*) = 1 from atlas.task where wait_reason = 'settled_budget'"
        await until(lambda: db.fetchval(deferred), 20, "it is deferred")
        (seen,) = [row for row in await bob.json("budget", "get") if row["scope"].startswith("project:")]
        assert (seen["daily"], seen["settled_tokens"]) == (6000, 5000)
        refused = await bob.atlas("budget", "set", "--scope", "project:payments", "--daily", "60000", ok=None)
        assert refused.returncode != 0
        assert "is not a project that you are an admin of: ask an admin of the project" in " ".join(refused.stderr.split())
        assert (await ann.atlas("budget", "set", "--scope", "global", "--daily", "1", ok=None)).returncode != 0
        done = await ann.atlas("budget", "set", "--scope", "project:payments", "--daily", "60000")
        assert done.stdout.strip().endswith(": daily 60000")
        all_done = "select count(*) = 2 from atlas.task where state = 'completed'"
        await until(lambda: db.fetchval(all_done), 10, "what waited goes on at once")
        quote = await bob.json("ask", "--price", "--project", "payments")
        assert {row["scope"].split(":")[0] for row in quote["left"]} == {"global", "project", "sender"}


async def test_spend_shows_held_and_presumed_apart_and_reconcile_asks(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, way: Way, settings: Json, env: dict[str, str]
) -> None:
    openai.plan(text=ADR)
    await workers.start(**(settings | {"atlas_held_retry_seconds": 60}))
    await ended(db, await ask(db))
    assert "HELD" not in await atlas(env, "spend")
    way.set("close")
    task = await ask(db)
    await held(db, task)
    shown = await atlas(env, "spend")
    assert "HELD USD" in shown
    assert "of it held" in (await atlas(env, "budget", "get")).lower()
    way.set("open")
    said = await atlas(env, "reconcile")
    assert "no response is known: only the provider's webhook can tell" in said
    await db.execute("update atlas.spend set held_until = now() where state = 'held'")
    await db.execute("select atlas.end_holds()")
    shown = await atlas(env, "spend")
    assert "PRESUMED USD" in shown
    assert "HELD USD" not in shown
    await db.execute("select atlas.cancel_task($1)", task)


async def test_reconcile_corrects_what_was_unknown_and_compares_with_the_organisation(
    db: asyncpg.Connection, openai: OpenAIDouble, env: dict[str, str]
) -> None:
    from tests.support.core import claim, reserve

    openai.plan(text=ADR, usage=usage(100, 200))
    await ask(db)
    (row,) = await claim(db)
    answer = await reserve(db, row["attempt_id"], 5000)
    item = {"attempt_id": str(row["attempt_id"]), "call": 0, "generation": 0, "response_id": "resp_1", "resumable": True,
            "offset": 0, "text": ""}  # fmt: skip
    await db.execute("select atlas.record_progress($1)", [item])
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", row["attempt_id"], {"0": None})
    assert await db.fetchval("select known from atlas.spend where id = $1", answer["spend_id"]) == "unknown"
    openai.store({"id": "resp_1", "status": "completed", "usage": usage(100, 200)})
    openai.organisation = {"gpt-4.1": 300, "gpt-4o-mini": 77}
    said = await atlas(env | {"OPENAI_ADMIN_KEY": "admin"}, "reconcile")
    assert "settled" in said
    assert "gpt-4.1\t300\t300" in said
    assert "gpt-4o-mini\t0\t77" in said
    assert await db.fetchval("select sum(tokens) from atlas.spend") == 300
    assert "no call since" in await atlas(env, "reconcile", "--since", "2026-11-01")
    assert "is not a day" in await atlas(env, "reconcile", "--since", "yesterday", code=2)
    assert "is in the future" in await atlas(env, "reconcile", "--since", "2999-01-01", code=2)
    without = {name: value for name, value in env.items() if name != "OPENAI_API_KEY"}
    assert "OPENAI_API_KEY is not set" in await atlas(without, "reconcile", code=2)


async def test_doctor_proves_the_books(db: asyncpg.Connection, env: dict[str, str]) -> None:
    assert "budgets, calls, attempts and audit of 31 days agree" in await atlas(env, "doctor", code=0)


@pytest.mark.cooks_the_books
async def test_doctor_names_what_disagrees(db: asyncpg.Connection, env: dict[str, str]) -> None:
    await db.execute("select atlas.lock_days(array[atlas.today()], array['global'])")
    await db.execute("update atlas.budget_day set settled_tokens = 850")
    said = " ".join((await atlas(env, "doctor", code=7)).split())
    assert "a budget's settled tokens are not those of its calls" in said
    assert "0 expected, 850 found" in said
