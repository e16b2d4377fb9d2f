"""Calls that nobody answered: held, heard of, or presumed not made; responses that are known, and those that came late."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.core import Json, ask, claim, reserve, used

HELD = {"0": {"known": "held"}}


async def rules(db: asyncpg.Connection, **values: Any) -> None:
    await db.execute("select atlas.set_spend_rules($1)", values)


async def hold(db: asyncpg.Connection, tokens: int = 1000, model: str = "gpt-4.1", **metadata: Any) -> tuple[UUID, UUID, int]:
    """A task whose call was sent, and not answered: task, attempt, spend id."""
    task = await ask(db, **metadata)
    (row,) = await claim(db)
    answer = await reserve(db, row["attempt_id"], tokens, model=model)
    done = await db.fetchval("select atlas.fail_task($1, 'no_answer', 'gone', 'held', null, $2)", row["attempt_id"], HELD)
    assert done == "queued"
    return task, row["attempt_id"], answer["spend_id"]


async def task_of(db: asyncpg.Connection, task: UUID) -> Json:
    return dict(await db.fetchrow("select * from atlas.task where id = $1", task))


async def spends(db: asyncpg.Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await db.fetch("select state, known, tokens from atlas.spend order by id")]


def told(task: UUID, attempt: UUID, spend: int, **more: Any) -> Json:
    return {"id": "resp_1", "status": "completed", "text": "# A reply", "usage": used(300),
            "metadata": {"task": str(task), "attempt": str(attempt), "call": str(spend)}} | more  # fmt: skip


async def hear(db: asyncpg.Connection, message: Json) -> str:
    return str(await db.fetchval("select atlas.adopt_response($1)", message))


# --- held -----------------------------------------------------------------------------------------------------------


async def test_a_held_call_goes_on_counting_and_is_nobodys_failure(db: asyncpg.Connection) -> None:
    task, _, _ = await hold(db)
    assert await spends(db) == [("held", None, None)]
    assert await db.fetchval("select reserved_tokens from atlas.budget_day where scope = 'global'") == 1000
    found = await task_of(db, task)
    assert (found["wait_reason"], found["failures"], found["losses"]) == ("held", 0, 0)
    wait = "select run_after - now() between interval '58 seconds' and interval '61 seconds' from atlas.task where id = $1"
    assert await db.fetchval(wait, task), "ATLAS_HELD_RETRY_SECONDS"
    assert await claim(db) == []


async def test_a_second_call_is_made_beside_the_hold_and_a_third_waits_for_its_end(db: asyncpg.Connection) -> None:
    await db.execute("select atlas.set_budget('global', '{\"per_run\": 1500, \"daily\": 5000}')")
    await rules(db, held_retry_seconds=0)
    task, _, _ = await hold(db)
    (again,) = await claim(db)
    # outside the run's cap, inside the day's
    assert (await reserve(db, again["attempt_id"], 1000))["outcome"] == "reserved"
    assert await db.fetchval("select reserved_tokens from atlas.budget_day where scope = 'global'") == 2000
    await db.execute("select atlas.fail_task($1, 'no_answer', 'gone', 'held', null, $2)", again["attempt_id"], HELD)
    found = await task_of(db, task)
    ends = await db.fetchval("select min(held_until) from atlas.spend")
    assert found["run_after"] == ends, "at most one second call: the third waits until the first hold ends"
    await db.execute("update atlas.task set run_after = now() where id = $1", task)
    (third,) = await claim(db)
    answer = await reserve(db, third["attempt_id"], 1000)
    assert (answer["outcome"], answer["code"]) == ("wait", "held")
    assert answer["message"].startswith("two calls were sent and not answered: the next one is made when their hold ends, at ")


@pytest.mark.parametrize(("setting", "known", "tokens"), [("release", "presumed_none", 0), ("settle", "unknown", 1000)])
async def test_when_the_hold_ends_it_is_presumed_not_made_or_booked_in_full(
    db: asyncpg.Connection, setting: str, known: str, tokens: int
) -> None:
    await rules(db, hold_unknown=setting)
    await hold(db)
    assert await db.fetchval("select atlas.end_holds()") == 0, "not before its time"
    await db.execute("update atlas.spend set held_until = now()")
    assert await db.fetchval("select atlas.end_holds()") == 1
    assert await spends(db) == [("settled", known, tokens)]
    row = await db.fetchrow("select reserved_tokens, settled_tokens from atlas.budget_day where scope = 'global'")
    assert tuple(row) == (0, tokens)
    row = await db.fetchrow("select held_calls, presumed_calls, presumed_usd > 0 as usd, unknown_calls from atlas.spend_by_day")
    assert tuple(row) == ((0, 1, True, 0) if setting == "release" else (0, 0, None, 1))


async def test_a_hold_lasts_for_the_window_and_its_seconds(db: asyncpg.Connection) -> None:
    await ask(db, completion_window="2h")
    (row,) = await claim(db)
    await reserve(db, row["attempt_id"], 1000, completion_window="2h")
    await db.execute("select atlas.fail_task($1, 'no_answer', 'gone', 'held', null, $2)", row["attempt_id"], HELD)
    assert await db.fetchval("select held_until - now() between '2 h 14 min' and '2 h 15 min 1 s' from atlas.spend")


# --- heard of -------------------------------------------------------------------------------------------------------


async def test_the_webhook_turns_a_held_call_into_a_response_of_the_task(db: asyncpg.Connection) -> None:
    task, attempt, spend = await hold(db)
    assert await hear(db, told(task, attempt, spend)) == "adopted"
    (row,) = await claim(db)
    assert (row["task_id"], row["inherited"]["response_id"], row["inherited"]["spend_id"]) == (task, "resp_1", spend)
    await db.execute("select testing.complete_task($1, '# A reply', '{}', $2)", row["attempt_id"], {"0": used(300)})
    assert await spends(db) == [("settled", "reported", 300)]
    assert await hear(db, told(task, attempt, spend)) == "known", "again: nothing changes"
    assert await spends(db) == [("settled", "reported", 300)]


async def test_the_first_response_is_the_reply_and_the_other_call_is_stopped(db: asyncpg.Connection) -> None:
    await rules(db, held_retry_seconds=0)
    task, attempt, spend = await hold(db)
    worker = uuid4()
    (again,) = await claim(db, worker=worker)
    await reserve(db, again["attempt_id"], 1000)
    assert await hear(db, told(task, attempt, spend)) == "adopted"
    leases = await db.fetch("select * from atlas.extend_leases($1, $2, '1 minute')", worker, [again["attempt_id"]])
    assert [(row["held"], row["adopted"]) for row in leases] == [(True, True)]
    usage = {"0": used(70)}  # what the cancelled call used
    await db.execute("select atlas.fail_task($1, 'adopted', 'the other', 'released', null, $2)", again["attempt_id"], usage)
    (last,) = await claim(db)
    assert last["inherited"]["response_id"] == "resp_1"
    await db.execute("select testing.complete_task($1, '# A reply', '{}', $2)", last["attempt_id"], {"0": used(300)})
    assert await spends(db) == [("settled", "reported", 300), ("settled", "reported", 70)]


async def test_a_held_call_that_failed_upstream_costs_nothing_and_its_task_goes_on(db: asyncpg.Connection) -> None:
    task, attempt, spend = await hold(db)
    assert await hear(db, told(task, attempt, spend, status="failed", usage=None, text="")) == "settled"
    assert await spends(db) == [("settled", "none", 0)]
    (row,) = await claim(db)
    assert row["inherited"] is None


async def test_a_text_whose_task_is_over_is_settled_and_kept(db: asyncpg.Connection) -> None:
    task, attempt, spend = await hold(db)
    assert await db.fetchval("select atlas.cancel_task($1)", task) == "cancelled"
    assert await hear(db, told(task, attempt, spend)) == "settled"
    assert await spends(db) == [("settled", "reported", 300)]
    assert await db.fetchval("select late_text from atlas.attempt where id = $1", attempt) == "# A reply"
    await db.execute("select atlas.erase($1)", task)
    assert await db.fetchval("select late_text from atlas.attempt where id = $1", attempt) is None


async def test_what_was_presumed_not_made_is_corrected_and_lets_in_who_was_deferred(db: asyncpg.Connection) -> None:
    await rules(db, hold_unknown="settle")
    await db.execute("select atlas.set_budget('global', '{\"daily\": 1500}')")
    task, attempt, spend = await hold(db)
    await db.execute("select atlas.cancel_task($1)", task)
    await db.execute("update atlas.spend set held_until = now()")
    await db.execute("select atlas.end_holds()")
    waits = await ask(db, "the next")
    (row,) = await claim(db)
    assert (await reserve(db, row["attempt_id"], 1000))["outcome"] == "defer"
    assert await hear(db, told(task, attempt, spend)) == "corrected"
    assert await spends(db) == [("settled", "unknown", 1000), ("settled", "reported", -700)]
    (row,) = await claim(db)
    assert row["task_id"] == waits
    assert (await reserve(db, row["attempt_id"], 1000))["outcome"] == "reserved"


async def test_a_response_that_is_told_before_its_attempt_knows_it_is_gone_on_with(db: asyncpg.Connection) -> None:
    """A silent connection: the webhook is quicker than the worker's patience."""
    task, worker = await ask(db), uuid4()
    (row,) = await claim(db, worker=worker)
    answer = await reserve(db, row["attempt_id"], 1000)
    assert await hear(db, told(task, row["attempt_id"], answer["spend_id"])) == "adopted"
    leases = await db.fetch("select * from atlas.extend_leases($1, $2, '1 minute')", worker, [row["attempt_id"]])
    assert leases[0]["adopted"], "its worker stops waiting"
    # also where the worker gave up first: the call is not held, since its response is known
    await db.execute("select atlas.fail_task($1, 'no_answer', 'gone', 'held', null, $2)", row["attempt_id"], HELD)
    assert await spends(db) == [("reserved", None, None)]
    await db.execute("update atlas.task set run_after = now(), wait_reason = null where id = $1", task)
    (again,) = await claim(db)
    assert again["inherited"]["response_id"] == "resp_1"
    await db.execute("select testing.complete_task($1, '# A reply', '{}', $2)", again["attempt_id"], {"0": used(300)})
    assert await spends(db) == [("settled", "reported", 300)]


async def test_an_adopted_response_is_no_orphan(db: asyncpg.Connection) -> None:
    await rules(db, held_retry_seconds=0)
    task, attempt, spend = await hold(db)
    (again,) = await claim(db)
    await reserve(db, again["attempt_id"], 1000)
    assert await hear(db, told(task, attempt, spend)) == "adopted"
    assert await db.fetch("select * from atlas.take_orphans()") == []
    await db.execute(
        "select atlas.fail_task($1, 'adopted', 'the other', 'released', null, $2)", again["attempt_id"], {"0": used(70)}
    )
    (last,) = await claim(db)
    assert last["inherited"]["response_id"] == "resp_1"
    await db.execute("select testing.complete_task($1, '# A reply', '{}', $2)", last["attempt_id"], {"0": used(300)})


async def test_a_held_call_that_its_attempt_went_on_without_is_settled_when_it_is_heard_of(db: asyncpg.Connection) -> None:
    """A repair that was not answered: the record was delivered as it was."""
    task = await ask(db)
    (row,) = await claim(db)
    await reserve(db, row["attempt_id"], 1000)
    second = await reserve(db, row["attempt_id"], 1000, call=1)
    item = {"spend_id": second["spend_id"], "attempt_id": str(row["attempt_id"]), "usage": {"known": "held"}}
    await db.execute("select atlas.record_usage($1)", [item])
    assert await hear(db, told(task, row["attempt_id"], second["spend_id"])) == "settled"
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", row["attempt_id"], {"0": used(100)})
    assert await spends(db) == [("settled", "reported", 100), ("settled", "reported", 300)]


async def test_a_response_that_is_heard_of_wakes_a_task_whatever_it_waits_for(db: asyncpg.Connection) -> None:
    await db.execute("select atlas.set_budget('global', '{\"daily\": 1500}')")
    await rules(db, held_retry_seconds=0)
    task, attempt, spend = await hold(db)
    other = await ask(db, sender_key="other")
    (row,) = [one for one in await claim(db, 2) if one["task_id"] == other]
    await reserve(db, row["attempt_id"], 400)
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", row["attempt_id"], {"0": used(1100)})
    attempt_now = await db.fetchval("select attempt_id from atlas.task where id = $1", task)
    assert (await reserve(db, attempt_now, 1000))["outcome"] == "defer"
    assert (await task_of(db, task))["wait_reason"] == "settled_budget"
    assert await hear(db, told(task, attempt, spend)) == "adopted"
    (again,) = await claim(db)
    assert again["inherited"]["response_id"] == "resp_1"
    await db.execute("select testing.complete_task($1, '# A reply', '{}', $2)", again["attempt_id"], {"0": used(300)})


async def test_a_response_that_is_heard_of_after_its_hold_is_gone_on_with_too(db: asyncpg.Connection) -> None:
    task, attempt, spend = await hold(db)
    await db.execute("update atlas.spend set held_until = now()")
    await db.execute("select atlas.end_holds()")
    assert await spends(db) == [("settled", "presumed_none", 0)]
    assert await hear(db, told(task, attempt, spend)) == "corrected"
    (again,) = await claim(db)
    assert again["inherited"]["response_id"] == "resp_1", "it is not generated again"
    await db.execute("select testing.complete_task($1, '# A reply', '{}', $2)", again["attempt_id"], {"0": used(300)})
    assert await spends(db) == [("settled", "presumed_none", 0), ("settled", "reported", 300)]


async def test_a_hold_that_is_over_stands_in_nobodys_way(db: asyncpg.Connection) -> None:
    await rules(db, held_retry_seconds=0)
    task, _, _ = await hold(db)
    (again,) = await claim(db)
    await reserve(db, again["attempt_id"], 1000)
    await db.execute("select atlas.fail_task($1, 'no_answer', 'gone', 'held', null, $2)", again["attempt_id"], HELD)
    await db.execute("update atlas.spend set held_until = now() - interval '1 s' where id = (select min(id) from atlas.spend)")
    await db.execute("update atlas.task set run_after = now() where id = $1", task)
    (third,) = await claim(db)
    assert (await reserve(db, third["attempt_id"], 1000))["outcome"] == "reserved", "nobody has ended it yet"


@pytest.mark.parametrize(
    "wrong",
    [
        {"metadata": {}}, {"metadata": None}, {"metadata": {"task": "x", "attempt": "y", "call": "z"}},
        {"metadata": {"task": str(uuid4()), "attempt": str(uuid4()), "call": "1"}},
        {"metadata": {"task": str(uuid4()), "attempt": str(uuid4()), "call": "9" * 40}},
    ],
)  # fmt: skip
async def test_a_response_of_nobody_changes_nothing(db: asyncpg.Connection, wrong: Json) -> None:
    task, attempt, spend = await hold(db)
    assert await hear(db, told(task, attempt, spend) | wrong) == "unknown"
    assert await spends(db) == [("held", None, None)]


async def test_a_call_has_one_response(db: asyncpg.Connection) -> None:
    """Another response that names the call, a forged one say, is not its."""
    task, attempt, spend = await hold(db)
    assert await hear(db, told(task, attempt, spend)) == "adopted"
    assert await hear(db, told(task, attempt, spend, id="resp_2", text="# Forged")) == "unknown"


async def test_a_response_that_is_still_written_is_left_alone(db: asyncpg.Connection) -> None:
    task, attempt, spend = await hold(db)
    assert await hear(db, told(task, attempt, spend, status="in_progress")) == "known"
    for broken in ({}, {"id": "resp_1"}, {"id": "", "status": "completed"}):
        with pytest.raises(asyncpg.PostgresError, match="has no id or no status") as caught:
            await hear(db, broken)
        assert caught.value.sqlstate == "AT005"


# --- a response that is known ---------------------------------------------------------------------------------------


async def known(db: asyncpg.Connection) -> tuple[UUID, Any]:
    """A task whose response has begun."""
    task = await ask(db)
    (row,) = await claim(db)
    await reserve(db, row["attempt_id"], 1000)
    item = {"attempt_id": str(row["attempt_id"]), "call": 0, "generation": 0, "response_id": "resp_1", "resumable": True,
            "offset": 0, "text": "Hello"}  # fmt: skip
    await db.execute("select atlas.record_progress($1)", [item])
    return task, row


async def test_a_known_response_stays_with_its_task_and_is_asked_for_with_growing_pauses(db: asyncpg.Connection) -> None:
    task, row = await known(db)
    pauses = []
    for minutes in (0, 1, 5, 60):
        await db.execute("update atlas.task set outage_since = now() - $2 * interval '1 minute' where id = $1", task, minutes)
        await db.execute("select atlas.fail_task($1, 'connection', 'no way', 'outage')", row["attempt_id"])
        found = await task_of(db, task)
        assert (found["state"], found["wait_reason"], found["failures"]) == ("queued", "upstream", 0)
        pauses.append(await db.fetchval("select extract(epoch from run_after - now()) from atlas.task where id = $1", task))
        await db.execute("update atlas.task set run_after = now() where id = $1", task)
        (row,) = await claim(db)
        assert row["inherited"]["response_id"] == "resp_1"
        assert row["inherited"]["text"] == "Hello"
    assert 2 <= pauses[0] <= 5
    assert pauses[2] > 2 * pauses[0]
    assert pauses[3] <= 60, "asked for at least once a minute"
    assert await spends(db) == [("reserved", None, None)], "nobody guesses what it costs"
    await db.execute("select testing.complete_task($1, 'Hello', '{}', $2)", row["attempt_id"], {"0": used(10)})


async def test_readers_keep_what_an_earlier_attempt_wrote(db: asyncpg.Connection) -> None:
    task, row = await known(db)
    await db.execute("select atlas.fail_task($1, 'connection', 'no way', 'outage')", row["attempt_id"])
    await db.execute("update atlas.task set run_after = now() where id = $1", task)
    (row,) = await claim(db)
    item = {"attempt_id": str(row["attempt_id"]), "call": 0, "generation": 0, "response_id": "resp_1", "resumable": True}
    await db.execute("select atlas.watch_task($1, gen_random_uuid())", task)
    await db.execute("select atlas.record_progress($1)", [item | {"offset": 0, "text": "Hello", "inherited": True}])
    await db.execute("select atlas.record_progress($1)", [item | {"offset": 5, "text": " world"}])
    sent = await db.fetch(
        "select event, payload ->> 'text' as text from realtime.messages where topic like 'task:%' order by inserted_at"
    )
    assert [tuple(one) for one in sent] == [("delta", " world")], "no reset, and not again what was shown"
    await db.execute("select atlas.cancel_task($1, $2, $3)", task, row["attempt_id"], {"0": used(5)})


async def test_a_response_whose_task_is_over_is_settled_by_whoever_asks(db: asyncpg.Connection) -> None:
    task, row = await known(db)
    await db.execute("select atlas.fail_task($1, 'bad', 'bad', 'final')", row["attempt_id"])
    assert (await task_of(db, task))["state"] == "failed"
    assert await spends(db) == [("reserved", None, None)]
    (orphan,) = await db.fetch("select * from atlas.take_orphans()")
    assert orphan["response_id"] == "resp_1"
    assert await db.fetch("select * from atlas.take_orphans()") == [], "by one worker, once a minute"
    item = {"spend_id": orphan["spend_id"], "attempt_id": str(orphan["attempt_id"]), "usage": used(70)}
    assert await db.fetchval("select atlas.record_usage($1)", [item]) == 1
    assert await spends(db) == [("settled", "reported", 70)]
