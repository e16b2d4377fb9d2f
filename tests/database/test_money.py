"""The money: settled + reserved <= limit at any interleaving and through any crash; nobody is refused falsely; nothing stays
reserved."""

from __future__ import annotations

import asyncio
import itertools
import random
from datetime import date, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas.database.pool import set_codecs
from atlas.local.postgres import Cluster
from tests.support.core import Database, Json, ask, claim, command, reserve, used

_numbers = itertools.count(1)
LIMIT = 10_000


async def set_limit(db: asyncpg.Connection, scope: str = "global", **limits: Any) -> None:
    await db.execute("select atlas.set_budget($1, $2)", scope, limits)


async def day(db: asyncpg.Connection, scope: str = "global") -> Json:
    return dict(await db.fetchrow("select * from atlas.budget_day where scope = $1 and day = atlas.today()", scope))


# --- every way a call can end ---------------------------------------------------------------------------------------


async def test_a_reservation_is_held_and_settled_at_what_was_used(db: asyncpg.Connection) -> None:
    await set_limit(db, daily=LIMIT)
    await ask(db)
    (task,) = await claim(db)
    answer = await reserve(db, task["attempt_id"], 4000, input_tokens=1000)
    assert answer["outcome"] == "reserved"
    assert answer["tokens"] == 5000
    assert float(answer["usd"]) == pytest.approx(1000 * 2 / 1e6 + 4000 * 8 / 1e6)
    assert (await day(db))["reserved_tokens"] == 5000
    usage = {"input_tokens": 900, "cached_tokens": 400, "output_tokens": 100, "reasoning_tokens": 30, "known": "reported"}
    await db.execute("select testing.complete_task($1, 'x', '{}', $2, 'gpt-4.1')", task["attempt_id"], {"0": usage})
    found = await day(db)
    assert (found["reserved_tokens"], found["settled_tokens"]) == (0, 1000)
    assert float(found["settled_usd"]) == pytest.approx((500 * 2 + 400 * 0.5 + 100 * 8) / 1e6)
    row = await db.fetchrow("select * from atlas.spend")
    assert (row["cached_tokens"], row["reasoning_tokens"], row["known"], row["over_reservation"]) == (
        400,
        30,
        "reported",
        False,
    )


async def test_usage_above_a_reservation_is_recorded_in_full_and_flagged(db: asyncpg.Connection) -> None:
    await set_limit(db, daily=LIMIT)
    await ask(db)
    (task,) = await claim(db)
    await reserve(db, task["attempt_id"], 1000)
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", task["attempt_id"], {"0": used(12_000)})
    found = await day(db)
    assert (found["settled_tokens"], found["overrun_tokens"]) == (12_000, 11_000)
    assert await db.fetchval("select over_reservation from atlas.spend")


@pytest.mark.parametrize("beside", [[], [500]])
async def test_a_call_that_costs_nothing_waits_for_no_budget(db: asyncpg.Connection, beside: list[int]) -> None:
    """Also where all of the day is spent, alone and beside one that has to wait."""
    await set_limit(db, daily=LIMIT, usd_daily=1)
    for n in range(2 + len(beside)):
        await ask(db, f"question {n}")
    first, *others = await claim(db, 3)
    await reserve(db, first["attempt_id"], 1000)
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", first["attempt_id"], {"0": used(12_000)})
    requests = [
        {"attempt_id": str(row["attempt_id"]), "call": 0, "model": model, "input_tokens": 0, "output_tokens": tokens}
        for row, model, tokens in zip(others, ["offline", "gpt-4.1"], [0, *beside], strict=False)
    ]
    rows = await db.fetch("select r from atlas.reserve_tokens($1) r", requests)
    assert [row["r"]["outcome"] for row in rows] == ["reserved", *["defer" for _ in beside]]


async def test_unknown_usage_counts_in_full_until_it_is_corrected_by_a_row_of_its_own(db: asyncpg.Connection) -> None:
    await set_limit(db, daily=LIMIT)
    await ask(db)
    (task,) = await claim(db)
    answer = await reserve(db, task["attempt_id"], 1000)
    await db.execute("select atlas.fail_task($1, 'cut', 'cut', 'own', null, $2)", task["attempt_id"], {"0": None})
    assert (await day(db))["settled_tokens"] == 1000
    for usage in (used(200), used(300)):  # what was reported stands
        await db.execute("select atlas.record_usage($1)", [{"spend_id": answer["spend_id"], "usage": usage}])
    found = await day(db)
    assert (found["reserved_tokens"], found["settled_tokens"]) == (0, 200)
    rows = await db.fetch("select corrects, known, tokens, usd from atlas.spend order by id")
    assert [(row["corrects"], row["known"], row["tokens"]) for row in rows] == [
        (None, "unknown", 1000), (answer["spend_id"], "reported", -800),
    ]  # fmt: skip
    assert float(sum(row["usd"] for row in rows)) == pytest.approx(200 * 8 / 1e6)
    row = await db.fetchrow("select calls, tokens, unknown_calls from atlas.spend_by_day")
    assert tuple(row) == (1, 200, 0)


async def test_reserving_again_for_the_same_call_is_the_same_reservation(db: asyncpg.Connection) -> None:
    await set_limit(db, daily=LIMIT)
    await ask(db)
    (task,) = await claim(db)
    first = await reserve(db, task["attempt_id"], 1000)
    again = await reserve(db, task["attempt_id"], 1000)
    assert first["spend_id"] == again["spend_id"]
    assert (await day(db))["reserved_tokens"] == 1000


async def test_a_lost_worker_without_a_response_leaves_its_call_on_hold(db: asyncpg.Connection) -> None:
    await set_limit(db, daily=LIMIT)
    task_id = await ask(db)
    (task,) = await claim(db, lease="-1 second")
    await reserve(db, task["attempt_id"], 1000)
    assert await db.fetchval("select atlas.release_expired()") == 1
    row = await db.fetchrow("select state, known, reserved_tokens, held_until - now() > '14 minutes' as long from atlas.spend")
    assert dict(row) == {"state": "held", "known": None, "reserved_tokens": 1000, "long": True}
    assert (await day(db))["reserved_tokens"] == 1000, "it goes on counting"
    row = await db.fetchrow("select state, wait_reason, failures, losses from atlas.task where id = $1", task_id)
    assert dict(row) == {"state": "queued", "wait_reason": "held", "failures": 0, "losses": 1}


async def test_a_lost_worker_with_a_response_passes_its_reservation_on(db: asyncpg.Connection) -> None:
    await set_limit(db, daily=LIMIT)
    await ask(db)
    (task,) = await claim(db, lease="-1 second")
    await reserve(db, task["attempt_id"], 1000)
    item = {"attempt_id": str(task["attempt_id"]), "call": 0, "generation": 0, "response_id": "resp_1", "resumable": True,
            "sequence_number": 7, "offset": 0, "text": "Hello", "model": "gpt-4.1"}  # fmt: skip
    await db.execute("select atlas.record_progress($1)", [item])
    await db.execute("select atlas.record_progress($1)", [item | {"offset": 5, "text": " wörld", "sequence_number": 9}])
    await db.execute("select atlas.release_expired()")
    assert (await day(db))["reserved_tokens"] == 1000
    (again,) = await claim(db)
    inherited = again["inherited"]
    assert inherited.pop("age_seconds") >= 0
    assert inherited == {
        "spend_id": 1, "model": "gpt-4.1", "response_id": "resp_1", "reserved_tokens": 1000, "sequence_number": 9,
        "text": "Hello wörld", "response_offset": 0, "completion_window": "soonest",
    }  # fmt: skip
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", again["attempt_id"], {"0": used(400)})
    found = await day(db)
    assert (found["reserved_tokens"], found["settled_tokens"]) == (0, 400)
    assert await db.fetchval("select count(*) from atlas.spend") == 1


async def test_a_lost_attempt_can_change_nothing(db: asyncpg.Connection) -> None:
    await ask(db)
    (task,) = await claim(db, lease="-1 second")
    await db.execute("select atlas.release_expired()")
    attempt = task["attempt_id"]
    for call in (
        "select testing.complete_task($1, 'late')",
        "select atlas.fail_task($1, 'x', 'late')",
        f"select atlas.cancel_task('{task['task_id']}', $1)",
    ):
        with pytest.raises(asyncpg.PostgresError, match="its lease is lost") as caught:
            await db.execute(call, attempt)
        assert caught.value.sqlstate == "AT002"
    assert (await reserve(db, attempt))["outcome"] == "lost"
    item = {"attempt_id": str(attempt), "call": 0, "generation": 0, "offset": 0, "text": "late"}
    assert await db.fetch("select * from atlas.record_progress($1)", [item]) == []
    assert await db.fetchval("select count(*) from atlas.reply_part") == 0


# --- waiting, deferring, refusing ---------------------------------------------------------------------------------


async def test_where_only_reservations_stand_in_the_way_a_task_waits_and_a_settlement_wakes_it(db: asyncpg.Connection) -> None:
    await set_limit(db, daily=LIMIT)
    await ask(db, "one")
    await ask(db, "two")
    one, two = await claim(db, 2)
    await reserve(db, one["attempt_id"], 8000)
    assert (await reserve(db, two["attempt_id"], 4000))["outcome"] == "wait"
    row = await db.fetchrow("select state, wait_reason, failures from atlas.task where id = $1", two["task_id"])
    assert dict(row) == {"state": "queued", "wait_reason": "reserved_budget", "failures": 0}
    assert await claim(db) == []
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", one["attempt_id"], {"0": used(2000)})
    (again,) = await claim(db)
    assert again["task_id"] == two["task_id"]
    assert (await reserve(db, again["attempt_id"], 4000))["outcome"] == "reserved"


async def test_where_settled_spend_stands_in_the_way_a_task_is_deferred_to_the_next_day(db: asyncpg.Connection) -> None:
    await set_limit(db, daily=LIMIT)
    await ask(db, "one")
    (one,) = await claim(db)
    await reserve(db, one["attempt_id"], 8000)
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", one["attempt_id"], {"0": used(8000)})
    task = await ask(db, "two")
    (two,) = await claim(db)
    answer = await reserve(db, two["attempt_id"], 4000)
    assert answer["outcome"] == "defer"
    assert answer["message"] == "global: gpt-4.1 needs 4,000 at worst, 2,000 left of 10,000 today (8,000 spent)"
    row = await db.fetchrow(
        "select wait_reason, (run_after at time zone 'UTC')::date - atlas.today() as days from atlas.task where id = $1", task
    )
    assert dict(row) == {"wait_reason": "settled_budget", "days": 1}
    # a higher budget lets it in at once
    await set_limit(db, daily=2 * LIMIT)
    assert len(await claim(db)) == 1


async def test_what_no_day_could_hold_is_refused(db: asyncpg.Connection) -> None:
    await set_limit(db, daily=LIMIT)
    await ask(db)
    (task,) = await claim(db)
    assert (await reserve(db, task["attempt_id"], LIMIT + 1))["code"] == "day_budget"


async def test_a_run_has_a_budget_of_its_own(db: asyncpg.Connection) -> None:
    await set_limit(db, daily=LIMIT, per_run=3000)
    await ask(db)
    (task,) = await claim(db)
    assert task["per_run"] == 3000
    assert (await reserve(db, task["attempt_id"], 2000))["outcome"] == "reserved"
    answer = await reserve(db, task["attempt_id"], 2000, call=1)
    assert answer["code"] == "run_budget"
    assert answer["message"] == "global: gpt-4.1 needs 2,000 at worst, 1,000 left of 3,000 in this run (2,000 spent)"


async def test_a_run_is_bounded_in_whatever_order_its_calls_are_numbered(db: asyncpg.Connection) -> None:
    await set_limit(db, daily=LIMIT, per_run=3000)
    await ask(db)
    (task,) = await claim(db)
    assert (await reserve(db, task["attempt_id"], 2500, call=2))["outcome"] == "reserved"
    assert (await reserve(db, task["attempt_id"], 700, call=0))["code"] == "run_budget"


async def test_dollars_bound_what_tokens_do_not(db: asyncpg.Connection) -> None:
    await set_limit(db, daily=1_000_000, usd_daily=1)
    await ask(db)
    (task,) = await claim(db)
    assert (await reserve(db, task["attempt_id"], 10_000, model="o1-pro"))["outcome"] == "refuse"
    assert (await reserve(db, task["attempt_id"], 10_000, model="gpt-4.1"))["outcome"] == "reserved"


async def test_a_model_without_a_price_is_refused_under_a_dollar_budget_only(db: asyncpg.Connection) -> None:
    await set_limit(db, usd_daily=1)
    await ask(db)
    (task,) = await claim(db)
    assert (await reserve(db, task["attempt_id"], 10, model="mystery"))["code"] == "model_unpriced"
    await set_limit(db, usd_daily=None)
    assert (await reserve(db, task["attempt_id"], 10, model="mystery"))["outcome"] == "reserved"


async def test_long_input_costs_more(db: asyncpg.Connection) -> None:
    price = "atlas.price_on('gpt-6.1-sol', atlas.today())"
    short = await db.fetchval(f"select atlas.cost({price}, 272000, 0, 1000)")
    long = await db.fetchval(f"select atlas.cost({price}, 272001, 1000, 1000)")
    assert float(short) == pytest.approx(272_000 * 2 / 1e6 + 1000 * 10 / 1e6)
    assert float(long) == pytest.approx((271_001 * 2 * 2 + 1000 * 0.1 * 2 + 1000 * 10 * 1.5) / 1e6)


async def test_budgets_of_a_project_and_a_sender_hold_beside_the_fleets(db: asyncpg.Connection) -> None:
    await set_limit(db, daily=LIMIT)
    await set_limit(db, "sender:key:ann", daily=1000)
    await ask(db, sender_key="ann")
    await ask(db, sender_key="bob")
    tasks = {row["sender_key"]: row for row in await claim(db, 2)}
    assert (await reserve(db, tasks["key:ann"]["attempt_id"], 2000))["scope"] == "sender:key:ann"
    assert (await reserve(db, tasks["key:bob"]["attempt_id"], 2000))["outcome"] == "reserved"


async def test_a_budget_that_is_set_during_the_day_counts_what_the_day_holds(db: asyncpg.Connection) -> None:
    for n in range(2):
        await ask(db, sender_key="ann")
        (task,) = await claim(db)
        await reserve(db, task["attempt_id"], 700)
        if n == 0:
            await db.execute("select testing.complete_task($1, 'x', '{}', $2)", task["attempt_id"], {"0": used(500)})
    await set_limit(db, "sender:key:ann", daily=1500)
    found = await day(db, "sender:key:ann")
    assert (found["settled_tokens"], found["reserved_tokens"]) == (500, 700)
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", task["attempt_id"], {"0": used(600)})
    found = await day(db, "sender:key:ann")
    assert (found["settled_tokens"], found["reserved_tokens"]) == (1100, 0)


async def test_settings_give_way_to_set_budget(db: asyncpg.Connection) -> None:
    await db.execute("select atlas.set_budget('global', '{\"daily\": 5}', 'settings')")
    await db.execute("select atlas.set_budget('global', '{\"daily\": 7}')")
    await db.execute("select atlas.set_budget('global', '{\"daily\": 5}', 'settings')")
    await db.execute("select atlas.set_budget('global', '{\"daily\": 5, \"per_run\": 3}', 'settings')")
    row = await db.fetchrow("select daily, per_run, set_by from atlas.budget")
    assert dict(row) == {"daily": 7, "per_run": 3, "set_by": "control"}
    await db.execute("select atlas.set_budget('global', '{\"daily\": null}')")
    await db.execute("select atlas.set_budget('global', '{\"daily\": 5}', 'settings')")
    assert await db.fetchval("select daily from atlas.budget") is None, "that there is no limit was set as well"


@pytest.mark.cooks_the_books
async def test_a_reservation_is_settled_on_the_day_it_was_made(db: asyncpg.Connection) -> None:
    await set_limit(db, daily=LIMIT)
    await ask(db)
    (task,) = await claim(db)
    await reserve(db, task["attempt_id"], 1000)
    yesterday = date.today() - timedelta(days=1)  # noqa: DTZ011  any other day
    await db.execute("update atlas.spend set day = $1", yesterday)
    await db.execute("update atlas.budget_day set day = $1", yesterday)
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", task["attempt_id"], {"0": used(400)})
    row = await db.fetchrow("select reserved_tokens, settled_tokens from atlas.budget_day where day = $1", yesterday)
    assert dict(row) == {"reserved_tokens": 0, "settled_tokens": 400}


# --- any interleaving -----------------------------------------------------------------------------------------------


class Actor:
    """A worker that does what chance says. Every answer is checked on the spot."""

    def __init__(self, connection: asyncpg.Connection, chance: random.Random) -> None:
        self.db = connection
        self.chance = chance

    async def step(self) -> None:
        tasks = await claim(self.db, self.chance.randint(1, 3), lease=self.chance.choice(["1 minute", "1 minute", "-1 second"]))
        for task in tasks:
            if task["inherited"]:
                await self.end(task["task_id"], task["attempt_id"], {"0": task["inherited"]["reserved_tokens"]})
                continue
            held: dict[str, int] = {}
            for call in range(self.chance.randint(1, 2)):
                need = self.chance.choice([0, 1, 500, 3000, 6000, LIMIT + 1])
                answer = await reserve(self.db, task["attempt_id"], need, call)
                if answer["outcome"] == "reserved":
                    held[str(call)] = need
                    if self.chance.random() < 0.3:
                        usage = self.chance.choice([None, used(self.chance.randint(0, need))])
                        await self.db.execute(
                            "select atlas.record_usage($1)", [{"spend_id": answer["spend_id"], "usage": usage}]
                        )
                    elif self.chance.random() < 0.5:
                        item = {"attempt_id": str(task["attempt_id"]), "call": call, "generation": call, "offset": 0,
                                "response_id": f"r{answer['spend_id']}", "resumable": True, "text": ""}  # fmt: skip
                        await self.db.execute("select atlas.record_progress($1)", [item])
                        break
                elif answer["outcome"] == "refuse":
                    assert need > LIMIT, answer
                elif answer["outcome"] == "defer":
                    assert answer["settled"] + need > LIMIT, answer
                    break
                elif answer["outcome"] == "wait":
                    assert (
                        answer["code"] == "held"
                        or answer["settled"] + need <= LIMIT < answer["reserved"] + need + answer["settled"]
                    )
                    break
                else:
                    assert answer["outcome"] == "lost"
                    break
            await self.end(task["task_id"], task["attempt_id"], held)
        if self.chance.random() < 0.5:
            await self.db.execute("select atlas.release_expired()")
        if self.chance.random() < 0.5:
            await self.db.execute("select atlas.end_holds()")
        if self.chance.random() < 0.3:
            await self.hear()

    async def hear(self) -> None:
        """The provider tells of some call, whatever has become of it."""
        row = await self.db.fetchrow(
            "select s.id, s.task_id, s.attempt_id, s.reserved_tokens from atlas.spend s where corrects is null order by random() limit 1"
        )
        if row:
            told = {"id": f"r{row['id']}", "status": self.chance.choice(["completed", "failed"]),
                    "metadata": {"task": str(row["task_id"]), "attempt": str(row["attempt_id"]), "call": str(row["id"])},
                    "usage": self.chance.choice([None, used(self.chance.randint(0, row["reserved_tokens"]))]), "text": "late"}  # fmt: skip
            await self.db.execute("select atlas.adopt_response($1)", told)

    async def end(self, task: Any, attempt: Any, held: dict[str, int]) -> None:
        usages = {call: used(self.chance.randint(0, need)) for call, need in held.items() if self.chance.random() < 0.7}
        try:
            match self.chance.choice(
                ["complete", "complete", "own", "final", "outage", "held", "response", "released", "cancel", "ask", "crash"]
            ):
                case "complete":
                    await self.db.execute("select testing.complete_task($1, 'x', '{}', $2)", attempt, usages)
                case "cancel":
                    await self.db.execute("select atlas.cancel_task($1, $2, $3)", task, attempt, usages)
                case "ask":
                    await self.db.execute("select atlas.cancel_task($1)", task)
                case "crash":
                    await self.db.execute(
                        "update atlas.attempt set lease_expires_at = now() - interval '1 s' where id = $1", attempt
                    )
                case kind:
                    await self.db.execute(
                        "select atlas.fail_task($1, 'x', 'chance', $2, interval '0', $3)", attempt, kind, usages
                    )
        except asyncpg.PostgresError as error:
            assert error.sqlstate == "AT002", error


async def play(database: Database, seed: int, tasks: int, actors: int) -> None:
    chance = random.Random(seed)
    async with database.connect() as db:
        await set_limit(db, daily=LIMIT)
        rules = {"hold_seconds": 0, "held_retry_seconds": 0, "sender_daily_share": None,
                 "hold_unknown": chance.choice(["release", "settle"])}  # fmt: skip
        await db.execute("select atlas.set_spend_rules($1)", rules)
        for n in range(tasks):
            await ask(db, f"question {n}", sender_key=chance.choice(["ann", "bob", "cy"]))
        done = asyncio.Event()

        async def watch() -> None:
            """Looks at the books all the time, from a connection of its own."""
            async with database.connect() as eyes:
                while not done.is_set():
                    # the one exception to the cap: calls that were presumed not made, and turned out to have been
                    for row in await eyes.fetch(
                        "select d.*, (select coalesce(sum(c.tokens), 0) from atlas.spend c join atlas.spend o on o.id = c.corrects "
                        "where o.known = 'presumed_none') as exceptions from atlas.budget_day d where scope = 'global'"
                    ):
                        assert row["settled_tokens"] + row["reserved_tokens"] <= LIMIT + row["exceptions"], dict(row)
                    await asyncio.sleep(0)

        async def act(number: int) -> None:
            connection = await asyncpg.connect(database.url())
            await set_codecs(connection)
            actor = Actor(connection, random.Random(seed * 100 + number))
            for _ in range(tasks):
                await actor.step()
            await connection.close()

        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(watch())
            players = [group.create_task(act(number)) for number in range(actors)]
            await asyncio.wait(players)
            done.set()
            await watcher
        # everything comes to rest: what was lost is released, what was inherited is settled
        for _ in range(20):
            await db.execute("update atlas.attempt set lease_expires_at = now() - interval '1 s' where state = 'running'")
            await db.execute("select atlas.release_expired()")
            await db.execute("select atlas.end_holds()")
            await db.execute("update atlas.task set run_after = now() where state = 'queued'")
            for task in await claim(db, 50):
                held = {"0": used(0)} if task["inherited"] else {}
                await db.execute("select atlas.fail_task($1, 'end', 'end', 'final', null, $2)", task["attempt_id"], held)
        for orphan in await db.fetch("select * from atlas.take_orphans(1000)"):
            item = {"spend_id": orphan["spend_id"], "attempt_id": str(orphan["attempt_id"]), "usage": used(1)}
            await db.execute("select atlas.record_usage($1)", [item])
        (row,) = await db.fetch("select * from atlas.budget_day where scope = 'global'")
        assert [dict(row) for row in await db.fetch("select * from atlas.check_ledger()")] == []
        assert await db.fetch("select * from atlas.spend where state <> 'settled'") == []
        assert row["reserved_tokens"] == 0
        assert row["reserved_usd"] == 0
        assert row["settled_tokens"] == await db.fetchval("select coalesce(sum(tokens), 0) from atlas.spend")
        assert row["settled_usd"] == await db.fetchval("select coalesce(sum(usd), 0) from atlas.spend")
        assert await db.fetchval("select count(*) from atlas.task where finished_at is null") == 0
        replies = await db.fetch(
            "select task_id from public.architect_out where data #>> '{metadata,status}' = 'completed' "
            "group by task_id having count(*) > 1"
        )
        assert replies == []
        assert await db.fetch("select * from atlas.verify_audit()") == []


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**20), tasks=st.integers(1, 12), actors=st.integers(2, 5))
def test_the_books_hold_at_any_interleaving(cluster: Cluster, seed: int, tasks: int, actors: int) -> None:
    async def run() -> None:
        name = f"money_{next(_numbers)}"
        admin = await asyncpg.connect(cluster.url("supabase_admin"))
        try:
            await admin.execute(f"create database {name} template atlas_template owner postgres")
            await play(Database(cluster=cluster, name=name), seed, tasks, actors)
        finally:
            await admin.execute(f"drop database if exists {name} with (force)")
            await admin.close()

    asyncio.run(run())


async def test_a_thousand_reservations_in_batches_stop_at_the_limit(database: Database, db: asyncpg.Connection) -> None:
    await set_limit(db, daily=LIMIT)
    await db.execute(
        "insert into public.architect_in (data) select jsonb_build_object('task_id', gen_random_uuid(), 'role', 'architect', "
        "'msg_type', 'chat', 'content', 'q') from generate_series(1, 200)"
    )
    tasks = await claim(db, 200)

    async def batch(part: list[Any]) -> list[Json]:
        async with database.connect() as connection:
            requests = [
                {"attempt_id": str(task["attempt_id"]), "call": 0, "model": "gpt-4.1", "input_tokens": 0, "output_tokens": 90}
                for task in part
            ]
            return [row["r"] for row in await connection.fetch("select r from atlas.reserve_tokens($1) r", requests)]

    answers = list(itertools.chain(*await asyncio.gather(*(batch(tasks[n::4]) for n in range(4)))))
    outcomes = [answer["outcome"] for answer in answers]
    assert outcomes.count("reserved") == LIMIT // 90
    assert outcomes.count("wait") == 200 - LIMIT // 90
    assert (await day(db))["reserved_tokens"] == LIMIT // 90 * 90


async def test_a_cancelled_queued_task_costs_nothing(db: asyncpg.Connection) -> None:
    task = await ask(db)
    assert await db.fetchval("select atlas.cancel_task($1)", task) == "cancelled"
    await command(db, {"command": "heartbeat"})
    assert await db.fetchval("select count(*) from atlas.spend") == 0
    assert await claim(db) == []
