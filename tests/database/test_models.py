"""What the fleet knows of each model: its breaker, judged by Postgres's clock, its rate limits, how long its replies are."""

from __future__ import annotations

from datetime import date
from typing import Any

import asyncpg
import pytest

from tests.support.core import Json, ask, claim, reserve

MODEL = "gpt-4.1"


async def record(db: asyncpg.Connection, outcome: str, error: str | None = None, *, trial: bool = False) -> str:
    return str(await db.fetchval("select atlas.record_model($1, $2, $3, $4)", MODEL, outcome, error, trial))


async def earlier(db: asyncpg.Connection, seconds: float) -> None:
    """As if what happened had happened so long before."""
    await db.execute(
        "update atlas.model_state set since = since - $1 * interval '1 s', succeeded_at = succeeded_at - $1 * interval '1 s', "
        "probe_at = probe_at - $1 * interval '1 s', trial_at = trial_at - $1 * interval '1 s', "
        "failed_at = array(select f - $1 * interval '1 s' from unnest(failed_at) f)", seconds,
    )  # fmt: skip


# --- the breaker ------------------------------------------------------------------------------------------------------


async def test_three_failures_within_ten_seconds_open_it(db: asyncpg.Connection) -> None:
    await record(db, "ok")
    assert [await record(db, "failed", "no") for _ in range(3)] == ["closed", "closed", "open"]
    row = await db.fetchrow("select state, last_error from atlas.model_state")
    assert tuple(row) == ("open", "no")


async def test_three_failures_over_a_longer_time_do_not(db: asyncpg.Connection) -> None:
    for _ in range(4):
        await record(db, "ok")
        assert await record(db, "failed") == "closed"
        await earlier(db, 6)


async def test_all_calls_of_five_seconds_open_it(db: asyncpg.Connection) -> None:
    await record(db, "ok")
    await earlier(db, 30)
    assert await record(db, "failed") == "closed", "one alone says little"
    await earlier(db, 3)
    assert await record(db, "failed") == "open"


async def test_a_success_in_between_keeps_it_closed(db: asyncpg.Connection) -> None:
    for _ in range(5):
        await record(db, "failed")
        await record(db, "failed")
        assert await record(db, "ok") == "closed"


async def test_while_it_is_open_it_is_probed_and_after_a_probe_one_call_is_tried(db: asyncpg.Connection) -> None:
    for _ in range(3):
        await record(db, "failed")
    assert not await db.fetchval("select atlas.take_trial($1)", MODEL)
    assert await db.fetch("select atlas.take_probes()") == [], "the first probe is due after a second"
    await earlier(db, 1)
    assert [row[0] for row in await db.fetch("select atlas.take_probes()")] == [MODEL]
    assert await db.fetch("select atlas.take_probes()") == [], "by one worker"
    await db.execute("select atlas.record_probe($1, false, 'still away')", MODEL)
    assert await db.fetchval("select state from atlas.model_state") == "open"
    assert await record(db, "ok") == "open", "a call that began before ended well: that says little"
    await db.execute("select atlas.record_probe($1, true)", MODEL)
    assert await db.fetchval("select state from atlas.model_state") == "half_open"
    assert await record(db, "ok") == "half_open", "nobody has tried a call yet"
    assert [await db.fetchval("select atlas.take_trial($1)", MODEL) for _ in range(3)] == [True, False, False]
    await earlier(db, 21)
    assert await db.fetchval("select atlas.take_trial($1)", MODEL), "who tried has died: another tries"
    assert await record(db, "ok") == "half_open", "another call, from before"
    assert await record(db, "ok", trial=True) == "closed"
    assert await db.fetchval("select atlas.take_trial($1)", MODEL)


async def test_a_tried_call_that_fails_opens_it_again_for_longer(db: asyncpg.Connection) -> None:
    for _ in range(3):
        await record(db, "failed")
    waits = []
    for _ in range(4):
        await db.execute("select atlas.record_probe($1, true)", MODEL)
        waits.append(await db.fetchval("select extract(epoch from trial_at - clock_timestamp()) from atlas.model_state"))
        await db.execute("update atlas.model_state set trial_at = now()")
        assert await db.fetchval("select atlas.take_trial($1)", MODEL)
        assert await record(db, "failed") == "open"
    assert waits[0] <= 0
    assert 1 < waits[1] < waits[2] <= waits[3] <= 5


async def test_while_no_model_answers_what_is_ready_is_set_aside_and_its_people_told_once(db: asyncpg.Connection) -> None:
    tasks = [await ask(db, f"question {n}") for n in range(3)]
    assert await db.fetchval("select atlas.defer_upstream('nobody answers')") == 3
    assert await claim(db) == []
    row = await db.fetchrow("select * from atlas.task where id = $1", tasks[0])
    assert (row["wait_reason"], row["attempts"], row["error_message"]) == ("upstream", 0, "nobody answers")
    await db.execute("update atlas.task set outage_since = now() - interval '6 minutes'")
    for _ in range(3):
        await db.execute("select atlas.defer_upstream('nobody answers')")
    assert await db.fetchval("select count(*) from public.architect_out where data ->> 'content' like '%escalate%'") == 3


async def test_a_woken_task_that_makes_no_call_is_followed_by_another(db: asyncpg.Connection) -> None:
    for n in range(5):
        await ask(db, f"question {n}")
    await db.execute("select atlas.defer_upstream('nobody answers')")
    for _ in range(3):
        await record(db, "failed")
    due = "select count(*) from atlas.task where run_after <= now() + interval '100 ms'"
    for n in range(1, 4):
        await earlier(db, 3)
        assert [row[0] for row in await db.fetch("select atlas.take_probes()")] == [MODEL], "half open, and nobody has tried"
        await db.execute("select atlas.record_probe($1, true)", MODEL)
        assert await db.fetchval(due) == n
        # it had no call to make
        await db.execute("update atlas.task set wait_reason = 'settled_budget' where run_after <= now() + interval '100 ms'")


async def test_what_waited_comes_back_spread_when_a_model_answers_again(db: asyncpg.Connection) -> None:
    for n in range(200):
        await ask(db, f"question {n}")
    await db.execute("select atlas.defer_upstream('nobody answers')")
    for _ in range(3):
        await record(db, "failed")
    await db.execute("select atlas.record_probe($1, true)", MODEL)
    assert await db.fetchval("select atlas.take_trial($1)", MODEL)
    due = "select count(*) from atlas.task where run_after <= now() + interval '100 ms'"
    assert await db.fetchval(due) == 1, "one tries a call"
    await record(db, "ok", trial=True)
    row = await db.fetchrow(
        "select count(*) as n, max(run_after) - now() as last from atlas.task where run_after <= now() + interval '3 s'"
    )
    assert row["n"] == 200
    assert row["last"].total_seconds() > 1, "and not all at once"


async def test_a_response_under_way_is_not_set_aside(db: asyncpg.Connection) -> None:
    await ask(db)
    (row,) = await claim(db)
    await reserve(db, row["attempt_id"])
    item = {"attempt_id": str(row["attempt_id"]), "call": 0, "generation": 0, "response_id": "resp_1", "resumable": True,
            "offset": 0, "text": ""}  # fmt: skip
    await db.execute("select atlas.record_progress($1)", [item])
    await db.execute("select atlas.fail_task($1, 'stop', 'stop', 'released')", row["attempt_id"])
    assert await db.fetchval("select atlas.defer_upstream('nobody answers')") == 0
    (row,) = await claim(db)
    assert row["inherited"]["response_id"] == "resp_1"


async def test_a_shutdown_date_is_written_down_and_audited(db: asyncpg.Connection) -> None:
    for _ in range(2):
        await db.execute("select atlas.record_probe($1, true, null, $2)", MODEL, date(2027, 3, 1))
    assert await db.fetchval("select shutdown_at from atlas.model where name = $1", MODEL) == date(2027, 3, 1)
    assert await db.fetchval("select count(*) from atlas.audit where event = 'record_probe'") == 1


# --- rate limits ------------------------------------------------------------------------------------------------------


async def lease(db: asyncpg.Connection, tokens: int) -> Json:
    return dict(await db.fetchval("select atlas.lease_rate($1, 1, $2)", MODEL, tokens))


async def limits(db: asyncpg.Connection, retry_after: float | None = None, **rows: tuple[int, int]) -> None:
    found: list[Any] = [{"unit": unit, "per_minute": most, "remaining": left} for unit, (most, left) in rows.items()]
    await db.execute(
        "select atlas.record_rate($1, $2, $3 * interval '1 second')", MODEL, found, retry_after
    )  # fmt: skip


async def test_a_model_without_limits_that_are_known_leases_without_end(db: asyncpg.Connection) -> None:
    assert await lease(db, 10**9) == {}


async def test_workers_lease_about_a_second_and_never_more_than_there_is(db: asyncpg.Connection) -> None:
    await limits(db, requests=(600, 600), tokens=(60_000, 60_000))
    leased = [await lease(db, 500) for _ in range(60)]
    given = [row for row in leased if "wait" not in row]
    assert given[0] == {"requests": 10, "tokens": 1000}
    assert sum(row["tokens"] for row in given) <= 61_000
    assert "wait" in leased[-1] or sum(row["requests"] for row in given) <= 610
    await db.execute("update atlas.rate_bucket set level = 0, as_of = clock_timestamp()")
    assert 0.4 < (await lease(db, 500))["wait"] <= 0.5, "500 of 60,000 a minute"


async def test_what_is_larger_than_the_bucket_waits_until_it_is_full(db: asyncpg.Connection) -> None:
    await limits(db, tokens=(1000, 1000))
    assert await lease(db, 5000) == {"tokens": 1000}
    assert 50 < (await lease(db, 5000))["wait"] <= 60


async def test_the_smaller_of_header_and_bucket_is_true(db: asyncpg.Connection) -> None:
    await limits(db, tokens=(60_000, 60_000))
    await lease(db, 30_000)
    await limits(db, tokens=(60_000, 59_000))
    assert await db.fetchval("select level from atlas.rate_bucket") < 31_000, "what others leased is not in the header yet"
    await limits(db, tokens=(60_000, 100))
    assert await db.fetchval("select level from atlas.rate_bucket") <= 200, "others use the same key"


async def test_a_429_is_waited_for_by_the_whole_fleet(db: asyncpg.Connection) -> None:
    await limits(db, retry_after=7, tokens=(60_000, 60_000))
    assert 6 < (await lease(db, 1))["wait"] <= 7


async def test_the_usual_reply_is_measured_and_is_4_000_at_least(db: asyncpg.Connection) -> None:
    await record(db, "ok")
    for n in range(20):
        await ask(db)
        (row,) = await claim(db)
        await reserve(db, row["attempt_id"], 9000)
        usage = {"0": {"input_tokens": 10, "output_tokens": 300 if n else 8500, "known": "reported"}}
        await db.execute("select testing.complete_task($1, 'x', '{}', $2)", row["attempt_id"], usage)
        if n == 0:
            assert await db.fetchval("select atlas.measure_models()") == 1
            assert await db.fetchval("select usual_output from atlas.model_state") == 8500
            assert await db.fetchval("select atlas.measure_models()") == 0, "every ten minutes"
    await db.execute("update atlas.model_state set measured_at = null")
    await db.execute("select atlas.measure_models()")
    assert await db.fetchval("select usual_output from atlas.model_state") == 8500, "the 99th percentile"


async def test_replies_that_were_cut_count_as_longer(db: asyncpg.Connection) -> None:
    """What is cut at what was reserved must not keep the measure there."""
    await record(db, "ok")
    for _ in range(10):
        await ask(db)
        (row,) = await claim(db)
        await reserve(db, row["attempt_id"], 4000)
        usage = {"0": {"input_tokens": 10, "output_tokens": 4000, "known": "reported"}}
        await db.execute("select testing.complete_task($1, 'x', '{}', $2)", row["attempt_id"], usage)
    await db.execute("select atlas.measure_models()")
    assert await db.fetchval("select usual_output from atlas.model_state") == 8000


@pytest.mark.parametrize("outcome", ["great", ""])
async def test_an_outcome_that_is_not_known_is_refused(db: asyncpg.Connection, outcome: str) -> None:
    with pytest.raises(asyncpg.PostgresError, match="is not known"):
        await record(db, outcome)
