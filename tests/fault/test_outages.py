"""Trouble on the way to the provider, as it was measured once, with the figures that must hold now. Times are shorter; the
counts are not."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator

import asyncpg
import pytest

from tests.doubles.openai import OpenAIDouble
from tests.doubles.way import Way
from tests.support.core import ADR, Json, Workers, ask, command, ended, reply, until

RECORD = ADR.replace("Merges are rare [assumed].", "Merges are rare [assumed]. " * 20)


@pytest.fixture
def way(openai: OpenAIDouble) -> Iterator[Way]:
    with Way(openai.port) as found:
        yield found


@pytest.fixture
def settings(way: Way) -> Json:
    return {
        "openai_api_key": "test", "openai_base_url": way.url, "openai_fallback_models": "none", "atlas_hold_seconds": 6,
        "atlas_held_retry_seconds": 2, "openai_stream_idle_seconds": 2, "atlas_concurrency": 24,
    }  # fmt: skip


async def many(db: asyncpg.Connection, count: int) -> None:
    await db.execute(
        "insert into public.architect_in (data) select jsonb_build_object('task_id', gen_random_uuid(), 'role', 'architect', "
        "'msg_type', 'chat', 'content', 'question ' || n) from generate_series(1, $1::int) n",
        count,
    )


async def states(db: asyncpg.Connection) -> dict[str, int]:
    rows = await db.fetch("select coalesce(wait_reason, state) as state, count(*) as n from atlas.task group by 1")
    return {row["state"]: row["n"] for row in rows}


async def all_end(db: asyncpg.Connection, seconds: float = 60) -> None:
    try:
        await until(lambda: db.fetchval("select count(*) = 0 from atlas.task where finished_at is null"), seconds, "all end")
    except AssertionError:
        raise AssertionError(f"not all ended: {await states(db)}") from None


async def nothing_is_open(db: asyncpg.Connection) -> None:
    """After reconciliation: what is held has ended."""
    left = "select count(*) = 0 from atlas.spend where state <> 'settled'"
    await until(lambda: db.fetchval(left), 40, "all calls are settled")


async def booked(db: asyncpg.Connection) -> int:
    return int(await db.fetchval("select coalesce(sum(tokens), 0) from atlas.spend"))


async def held_at_most(db: asyncpg.Connection, most: int) -> int:
    """How many calls were held in all: the audit tells."""
    found = await db.fetchval(
        "select count(*) from atlas.audit a cross join jsonb_array_elements(a.detail -> 'calls') c "
        "where a.event = 'record_usage' and c ->> 'known' = 'held'"
    )
    assert found <= most, f"{found} calls were held"
    return int(found)


# --- no answer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode", ["close", "refuse", *(pytest.param(mode, marks=pytest.mark.long) for mode in ("silent", "502", "503"))]
)
async def test_an_outage_dead_letters_nothing_and_books_what_was_used(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, way: Way, settings: Json, mode: str
) -> None:
    """Once: 126 of 150 dead-lettered, 35.45 USD booked for 0.18; with the default budget the day's tokens gone in 8 s."""
    openai.plan(text=RECORD, delay=0.002)
    await workers.start(**settings)
    await ended(db, await ask(db, "before"))
    way.set(mode)  # type: ignore[arg-type]
    await many(db, 150)
    await asyncio.sleep(8)
    waiting = await states(db)
    assert "dead_lettered" not in waiting
    assert "failed" not in waiting
    if mode in ("close", "silent", "502"):
        # one a slot, and those that slots began before the third failure opened the breaker
        assert await held_at_most(db, 24 + 2) >= 1, "a few calls, not one a task"
    assert await db.fetchval("select settled_tokens + reserved_tokens <= 250000 from atlas.budget_day where scope = 'global'")
    way.set("open", cut=False)
    back = time.monotonic()
    # the rate is back to 100 %: all but what is held, which waits for its second call
    await until(
        lambda: db.fetchval("select count(*) = 0 from atlas.task where wait_reason = 'upstream'"), 10, "the fleet is back"
    )
    assert time.monotonic() - back < 10
    await all_end(db)
    assert await states(db) == {"completed": 151}
    await nothing_is_open(db)
    assert await booked(db) == 150 * len(openai.calls), "booked is what the provider's ledger says"
    assert len(openai.calls) == 151, "nothing was generated twice"
    row = await db.fetchrow("select max(failures) as failures, max(losses) as losses from atlas.task")
    assert dict(row) == {"failures": 0, "losses": 0}
    await db.execute("select atlas.end_holds()")
    presumed = await db.fetchval("select coalesce(sum(presumed_calls), 0) from atlas.spend_by_day")
    assert presumed == await held_at_most(db, 24 + 2)


async def test_the_rate_is_back_as_soon_as_a_model_answers_however_long_replies_take(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, way: Way, settings: Json
) -> None:
    """The first event of the call that is tried closes the breaker, not its end."""
    openai.plan(text=RECORD, delay=0.4)
    await workers.start(**settings)
    way.set("refuse")
    await many(db, 20)
    await until(lambda: db.fetchval("select state = 'open' from atlas.model_state"), 20, "the breaker opens")
    way.set("open", cut=False)
    back = time.monotonic()
    await until(
        lambda: db.fetchval("select count(*) = 20 from atlas.attempt where first_delta_at is not null"), 10, "all stream"
    )
    assert time.monotonic() - back < 10
    assert await db.fetchval("select count(*) from atlas.task where finished_at is not null") == 0, "the first is not over yet"
    await all_end(db)
    assert len(openai.calls) == 20


async def test_a_silent_connection_gives_its_slot_back(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, way: Way, settings: Json
) -> None:
    """Once: 24 of them stopped the fleet for 574 s after the provider was back."""
    openai.plan(text=RECORD, delay=0.3)
    await workers.start(**settings)
    await many(db, 24)
    await until(
        lambda: db.fetchval("select count(*) >= 20 from atlas.attempt where first_delta_at is not null"), 20, "they stream"
    )
    # the streams go silent: nothing is reset, and nothing comes
    way.set("silent", cut=False)
    way.freeze()
    await until(lambda: db.fetchval("select count(*) = 0 from atlas.task where state = 'running'"), 12, "no slot is held")
    way.thaw()
    way.set("open")
    await all_end(db)
    assert await states(db) == {"completed": 24}
    assert len(openai.calls) == 24, "each response was taken up"
    assert await booked(db) == 24 * 150


@pytest.mark.parametrize("meanwhile", ["503", pytest.param("refuse", marks=pytest.mark.long)])
async def test_running_streams_that_are_cut_are_taken_up_when_the_way_is_back(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, way: Way, settings: Json, meanwhile: str
) -> None:
    """Once: 20 of 20 dead, though all 20 responses completed upstream; with 503 in between each was generated twice."""
    openai.plan(text=RECORD, delay=0.2)
    await workers.start(**settings)
    await many(db, 20)
    await until(
        lambda: db.fetchval("select count(*) = 20 from atlas.attempt where first_delta_at is not null"), 20, "they stream"
    )
    way.set(meanwhile)  # type: ignore[arg-type]
    await asyncio.sleep(15)
    assert set(await states(db)) <= {"upstream", "running", "queued"}
    way.set("open")
    await all_end(db)
    assert await states(db) == {"completed": 20}
    assert len(openai.calls) == 20
    assert await booked(db) == 20 * 150
    rows = await db.fetch(
        "select o.data ->> 'content' as text from atlas.task t join public.architect_out o on o.id = t.out_id"
    )
    assert {row["text"] for row in rows} == {RECORD}
    resets = await db.fetchval("select count(*) from realtime.messages where event = 'reset'")
    assert resets == 0, "readers keep what they have seen"


async def test_a_response_that_is_gone_is_generated_anew_once(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, way: Way, settings: Json
) -> None:
    openai.plan(text=RECORD, delay=0.1)
    await workers.start(**settings)
    task = await ask(db)
    await db.execute("select atlas.watch_task($1, gen_random_uuid())", task)
    await until(
        lambda: db.fetchval("select count(*) = 1 from atlas.attempt where first_delta_at is not null"), 20, "it streams"
    )
    openai.forget()
    way.cut()
    assert (await ended(db, task))["state"] == "completed"
    assert len(openai.calls) == 2
    assert (await reply(db, task))["content"] == RECORD
    known = [row["known"] for row in await db.fetch("select known from atlas.spend order by id")]
    assert known == ["unknown", "reported"]
    said = await db.fetchval(
        "select count(*) from atlas.audit where event = 'release_task' and detail ->> 'code' = 'response_gone'"
    )
    assert said == 1
    assert await db.fetchval("select count(*) from realtime.messages where event = 'reset'") == 1


# --- lost workers ---------------------------------------------------------------------------------------------------


async def test_a_worker_killed_between_reservation_and_first_event_books_no_run(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    """Once: a whole run booked each time, about twice the real spend."""
    openai.plan(text=RECORD, before=20.0, times=1)
    openai.plans.append(openai.plans[0].again(before=0.0))
    first = await workers.start(**settings, atlas_lease_seconds=3)
    task = await ask(db)
    await until(lambda: db.fetchval("select count(*) = 1 from atlas.spend"), 20, "it has reserved")
    await until(lambda: asyncio.sleep(0, len(openai.calls) == 1), 20, "the call is on its way")
    first.process.send_signal(signal.SIGKILL)
    await workers.start(**settings, atlas_lease_seconds=3)
    assert (await ended(db, task))["state"] == "completed"
    await nothing_is_open(db)
    calls = await db.fetch("select known, tokens from atlas.spend order by id")
    assert [(row["known"], row["tokens"]) for row in calls] == [("presumed_none", 0), ("reported", 150)]


async def test_a_fifth_lost_worker_does_not_throw_a_response_away(db: asyncpg.Connection) -> None:
    """Once: a finished, paid reply thrown away, 12,000 tokens booked for 1,200 used."""
    task = await ask(db)
    for n in range(7):
        (row,) = await db.fetch("select * from atlas.claim_tasks(gen_random_uuid(), 1, 0, interval '-1 second')")
        if n == 0:
            request = {
                "attempt_id": str(row["attempt_id"]),
                "call": 0,
                "model": "gpt-4.1",
                "input_tokens": 0,
                "output_tokens": 9000,
            }
            await db.execute("select atlas.reserve_tokens($1)", [request])
            item = {"attempt_id": str(row["attempt_id"]), "call": 0, "generation": 0, "response_id": "resp_1", "resumable": True,
                    "offset": 0, "text": ""}  # fmt: skip
            await db.execute("select * from atlas.record_progress($1)", [item])
        else:
            assert row["inherited"]["response_id"] == "resp_1"
        await db.execute("select atlas.release_expired()")
    assert await db.fetchval("select losses from atlas.task where id = $1", task) == 7
    (row,) = await db.fetch("select * from atlas.claim_tasks(gen_random_uuid(), 1, 0, interval '1 minute')")
    usage = {"0": {"input_tokens": 200, "output_tokens": 1000, "known": "reported"}}
    await db.execute("select testing.complete_task($1, 'the reply', '{}', $2)", row["attempt_id"], usage)
    assert (await reply(db, task))["content"] == "the reply"
    assert await booked(db) == 1200


BEHIND = """
import datetime, sys
real = datetime.datetime
class Behind(real):
    @classmethod
    def now(cls, tz=None):
        return real.now(tz) - datetime.timedelta(hours=1)
datetime.datetime = Behind
from atlas.main import main
sys.exit(main())
"""


async def test_a_breaker_is_judged_by_the_clock_of_postgres(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, way: Way, settings: Json
) -> None:
    """Once: a worker's clock an hour behind kept its breaker open for as long as the skew."""
    openai.plan(text=RECORD)
    way.set("refuse")
    await workers.start(("-c", BEHIND), **settings)
    await many(db, 5)
    await until(lambda: db.fetchval("select state = 'open' from atlas.model_state"), 20, "the breaker opens")
    way.set("open")
    await all_end(db, 10)
    assert await states(db) == {"completed": 5}
    assert await db.fetchval("select state from atlas.model_state") == "closed"


# --- the chain, health, budgets -------------------------------------------------------------------------------------


async def test_the_chain_answers_to_its_end(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    """Once: the third model never got a call: the prompt was sized for the first, and an unknown vocabulary counted bytes."""
    openai.plan(model="gpt-6-luna", text=RECORD)
    for name in ("gpt-4.1", "o3"):
        openai.plan(model=name, error=(500, {"code": "server_error", "message": "it broke"}))
    await workers.start(**(settings | {"openai_fallback_models": "o3,gpt-6-luna"}))
    task = await ask(db, "Wie liefern wir aus? " * 420)
    row = await ended(db, task)
    assert (row["state"], row["model"]) == ("completed", "gpt-6-luna")
    assert [body["model"] for body in openai.counted] == ["gpt-6-luna"], "counted by the provider, not by bytes"


async def test_health_is_whether_a_model_answers(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, way: Way, settings: Json
) -> None:
    """Once: /healthz said 200 for the 5.5 minutes that the provider's port was closed."""
    way.set("refuse")
    worker = await workers.start(**settings)
    code, body = await asyncio.to_thread(worker.get, "/healthz")
    found = json.loads(body)
    assert (code, found["status"], found["model"]) == (503, "unhealthy", "gpt-4.1")
    assert "cannot connect" in found["said"]
    assert found["since"]
    assert (await asyncio.to_thread(worker.get, "/readyz"))[0] == 200
    probes = len(openai.probed)
    way.set("open")
    await until(lambda: _healthy(worker), 32, "it is healthy again")
    for _ in range(5):
        assert (await asyncio.to_thread(worker.get, "/healthz"))[0] == 200
    assert len(openai.probed) <= probes + 2, "at most one probe in 30 s, and the daily one"


async def _healthy(worker: object) -> bool:
    return bool((await asyncio.to_thread(worker.get, "/healthz"))[0] == 200)  # type: ignore[attr-defined]


async def test_a_lowered_budget_defers_and_never_fails_what_waits(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    """Once: `set_budget daily=2000` made three deferred tasks fail with run_budget, naming another model."""
    openai.plan(text=RECORD)
    await workers.start(**settings, daily_token_budget=7000)
    await ended(db, await ask(db, "the first one"))
    await db.execute("select atlas.pause()")
    tasks = [await ask(db, f"waits {n}") for n in range(3)]
    await command(db, {"command": "set_budget", "daily": 2000})
    await until(lambda: db.fetchval("select count(*) = 1 from atlas.task where kind = 'control' and state = 'completed'"), 20)
    await db.execute("select atlas.resume()")
    deferred = "select count(*) = 3 from atlas.task where wait_reason = 'settled_budget'"
    await until(lambda: db.fetchval(deferred), 20, "they are deferred")
    message = await db.fetchval("select error_message from atlas.task where id = $1", tasks[0])
    assert message.startswith("global: gpt-4.1 needs ")
    assert message.endswith("left of 2,000 today (150 spent)")
    await command(db, {"command": "set_budget", "daily": 100_000})
    await all_end(db)
    assert set(await states(db)) == {"completed"}
