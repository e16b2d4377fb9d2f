"""Budgets: scopes, periods, units, hard and soft, what a task does when one is spent, who is told, and who may raise it."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.support.core import Database, Json, ask, claim, command, reserve, used
from tests.support.people import ANN, BOB, acting


async def limit(db: asyncpg.Connection, scope: str = "global", **limits: Any) -> None:
    await db.execute("select atlas.set_budget($1, $2)", scope, limits)


async def spend(db: asyncpg.Connection, tokens: int, **metadata: Any) -> Json:
    """A task that asks for so many tokens, and uses all of them; the reservation's answer."""
    await ask(db, **metadata)
    (row,) = await claim(db)
    answer = await reserve(db, row["attempt_id"], tokens)
    if answer["outcome"] == "reserved":
        await db.execute("select testing.complete_task($1, 'x', '{}', $2)", row["attempt_id"], {"0": used(tokens)})
    elif answer["outcome"] == "refuse":
        await db.execute("select atlas.fail_task($1, $2, $3, 'budget')", row["attempt_id"], answer["code"], answer["message"])
    return answer


PERIODS = [
    ("daily", 5000, "day_budget", "today"), ("monthly", 5000, "month_budget", "this month"),
    ("usd_daily", 0.04, "day_budget", "today"), ("usd_monthly", 0.04, "month_budget", "this month"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "most", "code", "said"), PERIODS)
@pytest.mark.parametrize("scope", ["global", "project:00000000-0000-0000-0000-000000000001", "sender:key:ann", "model:gpt-4.1"])
async def test_every_scope_holds_in_every_period_and_unit(
    db: asyncpg.Connection, scope: str, name: str, most: float, code: str, said: str
) -> None:
    limits: Json = {name: most}
    await limit(db, scope, **limits)
    assert (await spend(db, 3000, sender_key="ann"))["outcome"] == "reserved"
    answer = await spend(db, 3000, sender_key="ann")
    assert (answer["outcome"], answer["code"], answer["scope"]) == ("defer", code, scope)
    unit = " USD" if name.startswith("usd") else ""
    need, left, spent = ("0.0240", "0.0160", "0.0240") if unit else ("3,000", "2,000", "3,000")
    shown = "0.0400" if unit else "5,000"
    expected = f"{scope}: gpt-4.1 needs {need}{unit} at worst, {left} left of {shown}{unit} {said} ({spent} spent)"
    assert answer["message"] == expected
    row = await db.fetchrow("select wait_reason, wait_scope, run_after from atlas.task where wait_reason is not null")
    assert (row["wait_reason"], row["wait_scope"]) == ("settled_budget", scope)
    following = "date_trunc('month', now() at time zone 'UTC') + interval '1 month'" if "month" in name else "atlas.today() + 1"
    assert row["run_after"] == await db.fetchval(f"select ({following})::timestamp at time zone 'UTC'")
    await limit(db, scope, **{name: most * 10})
    assert len(await claim(db)) == 1, "what waits goes on at once"


@pytest.mark.parametrize(("name", "most"), [("per_run", 2000), ("usd_per_run", 0.02)])
async def test_a_run_has_a_limit_in_tokens_and_dollars(db: asyncpg.Connection, name: str, most: float) -> None:
    limits: Json = {name: most}
    await limit(db, **limits)
    answer = await spend(db, 3000)
    assert (answer["outcome"], answer["code"]) == ("refuse", "run_budget")
    assert await db.fetchval("select state from atlas.task") == "failed"


async def test_a_soft_budget_is_only_told_of(db: asyncpg.Connection) -> None:
    await destination(db)
    await limit(db, daily=1000, enforcement="soft")
    assert [(await spend(db, 900))["outcome"] for _ in range(3)] == ["reserved"] * 3
    assert [kind for kind, _ in await events(db)] == ["budget.warning", "budget.spent"]


async def test_a_budget_may_reject_instead_of_deferring(db: asyncpg.Connection) -> None:
    await limit(db, daily=5000, when_spent="reject")
    await spend(db, 3000)
    answer = await spend(db, 3000)
    assert (answer["outcome"], answer["code"]) == ("refuse", "day_budget")
    row = await db.fetchrow(
        "select state, error_code from atlas.task where id <> (select id from atlas.task order by in_id limit 1)"
    )
    assert tuple(row) == ("failed", "day_budget")


async def test_a_lowered_budget_defers_what_was_asked_before(db: asyncpg.Connection) -> None:
    await limit(db, daily=100_000, when_spent="reject")
    task = await ask(db)
    await asyncio.sleep(0.01)
    await limit(db, daily=2000)
    (row,) = await claim(db)
    assert (await reserve(db, row["attempt_id"], 3000))["outcome"] == "defer", "no day could hold it, and yet it waits"
    assert await db.fetchval("select state from atlas.task where id = $1", task) == "queued"
    later = await spend(db, 3000)
    assert (later["outcome"], later["code"]) == ("refuse", "day_budget"), "what is asked after is refused"


# --- people's share ---------------------------------------------------------------------------------------------------


async def test_one_person_cannot_spend_all_of_a_projects_day(db: asyncpg.Connection) -> None:
    """Once: one user settled 245,200 of 250,000, and all others waited until midnight."""
    await limit(db, daily=10_000)
    assert (await spend(db, 4000, sender_key="ann"))["outcome"] == "reserved"
    answer = await spend(db, 2000, sender_key="ann")
    assert (answer["outcome"], answer["scope"], answer["most"]) == ("defer", "sender:key:ann", 5000)
    assert (await spend(db, 4000, sender_key="bob"))["outcome"] == "reserved"
    assert (await spend(db, 1500))["outcome"] == "reserved", "the service role has no share"


async def test_a_share_is_of_the_projects_day_where_it_has_one_and_gives_way_to_a_budget_of_ones_own(
    db: asyncpg.Connection,
) -> None:
    await limit(db, daily=100_000)
    await limit(db, "project:00000000-0000-0000-0000-000000000001", daily=4000)
    assert (await spend(db, 1500, sender_key="ann"))["outcome"] == "reserved"
    assert (await spend(db, 1000, sender_key="ann"))["most"] == 2000
    await limit(db, "sender:key:ann", daily=2500)
    assert (await spend(db, 1000, sender_key="ann"))["outcome"] == "reserved"


async def test_the_share_is_a_setting(db: asyncpg.Connection) -> None:
    await limit(db, daily=10_000)
    await db.execute("select atlas.set_spend_rules('{\"sender_daily_share\": 0.2}')")
    assert (await spend(db, 1001, sender_key="ann"))["outcome"] == "reserved"
    answer = await spend(db, 1001, sender_key="ann")
    assert answer["message"] == "sender:key:ann: gpt-4.1 needs 1,001 at worst, 999 left of 2,000 today (1,001 spent)"
    assert await claim(db) == []
    await db.execute("select atlas.set_spend_rules('{\"sender_daily_share\": 1}')")
    (row,) = await claim(db)
    assert (await reserve(db, row["attempt_id"], 1001))["outcome"] == "reserved", "who waited for the next day goes on"
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", row["attempt_id"], {"0": used(1001)})
    assert (await spend(db, 7000, sender_key="ann"))["outcome"] == "reserved"
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute("select atlas.set_spend_rules('{\"sender_daily_share\": 0}')")


async def test_a_share_that_is_smaller_than_a_call_lets_one_through_and_then_defers(db: asyncpg.Connection) -> None:
    await limit(db, daily=10_000)
    assert (await spend(db, 6000, sender_key="ann"))["outcome"] == "reserved"
    answer = await spend(db, 3000, sender_key="ann")
    assert (answer["outcome"], answer["scope"]) == ("defer", "sender:key:ann")
    assert (await spend(db, 3000, sender_key="bob"))["outcome"] == "reserved"


# --- who is told ------------------------------------------------------------------------------------------------------


async def destination(db: asyncpg.Connection) -> None:
    await db.execute(
        "insert into atlas.destination (name, kind, target, secret_name, filter) values ('hook', 'webhook', "
        "'https://example.com/hook', 'ATLAS_WEBHOOK_SECRET', '{\"kind\": [\"budget.warning\", \"budget.spent\"]}')"
    )


async def events(db: asyncpg.Connection) -> list[tuple[str, Json]]:
    return [tuple(row) for row in await db.fetch("select event_kind, payload from atlas.outbox order by id")]


async def test_at_80_and_at_100_percent_an_event_says_who_spends_most(db: asyncpg.Connection) -> None:
    await destination(db)
    await limit(db, daily=10_000)
    await spend(db, 4000, sender_key="ann")
    await spend(db, 3900)
    assert await events(db) == []
    await spend(db, 100)
    ((kind, payload),) = await events(db)
    assert kind == "budget.warning"
    assert (payload["scope"], payload["period"], payload["unit"], payload["limit"], payload["settled"]) == (
        "global", "day", "tokens", 10_000, 8000,
    )  # fmt: skip
    assert payload["percent"] == 80
    assert [(row["sender"], row["tokens"]) for row in payload["top_senders"]] == [("key:ann", 4000), ("service", 4000)]
    await spend(db, 100)
    assert len(await events(db)) == 1, "once"
    answer = await spend(db, 4000)
    assert answer["outcome"] == "defer"
    assert [kind for kind, _ in await events(db)] == ["budget.warning", "budget.spent"], (
        "what is left fits no call: it is spent"
    )
    await limit(db, daily=20_000)
    await limit(db, daily=8000)
    await spend(db, 10)
    assert [kind for kind, _ in await events(db)] == ["budget.warning", "budget.spent", "budget.spent"], (
        "a new limit, told of anew"
    )


# --- who may raise it -------------------------------------------------------------------------------------------------


async def test_an_admin_of_a_project_raises_its_budget_and_nobody_elses(database: Database, db: asyncpg.Connection) -> None:
    mine, other = uuid4(), uuid4()
    for project, name in ((mine, "mine"), (other, "other")):
        await db.execute("insert into atlas.project (id, name) values ($1, $2)", project, name)
    for user in (ANN, BOB):
        await db.execute("insert into auth.users (id, email) values ($1, $2)", user, f"{user}@example.com")
    await db.execute(
        "insert into atlas.member (project_id, user_id, role) values ($1, $2, 'admin'), ($1, $3, 'member')", mine, ANN, BOB
    )
    async with acting(database, "authenticated", ANN) as ann:
        row = await ann.fetchrow("select * from atlas.set_budget($1, '{\"daily\": 9}')", f"project:{mine}")
        assert row["daily"] == 9
        for scope in ("global", f"project:{other}", f"sender:{ANN}", "model:gpt-4.1"):
            with pytest.raises(asyncpg.PostgresError, match="is not a project that you are an admin of") as caught:
                await ann.execute("select atlas.set_budget($1, '{\"daily\": 9}')", scope)
            assert caught.value.sqlstate == "AT006"
        with pytest.raises(asyncpg.PostgresError, match="is for workers alone"):
            await ann.execute("select atlas.set_budget($1, '{\"daily\": 9}', 'settings')", f"project:{mine}")
    async with acting(database, "authenticated", BOB) as bob:
        with pytest.raises(asyncpg.PostgresError, match="is not a project that you are an admin of"):
            await bob.execute("select atlas.set_budget($1, '{\"daily\": 9}')", f"project:{mine}")
    said = await db.fetchval("select detail from atlas.audit where event = 'set_budget'")
    assert said == {"scope": f"project:{mine}", "daily": 9}


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "limits", "said"),
    [
        ("global", {"daily": -1}, "daily"), ("global", {"daily": 1.5}, "daily"), ("global", {"daily": "ten"}, "daily"),
        ("global", {"per_run": 3_000_000_000}, "per_run"), ("global", {"usd_daily": 1e9}, "usd_daily"),
        ("global", {"weekly": 5}, "weekly"), ("global", {"enforcement": "firm"}, "enforcement"),
        ("global", {"when_spent": None}, "when_spent"), ("planet", {"daily": 5}, "scope"), ("sender:", {"daily": 5}, "scope"),
        ("project:me", {"daily": 5}, "scope"),
    ],
)  # fmt: skip
async def test_a_budget_that_is_none_is_refused_by_name_whoever_sets_it(
    db: asyncpg.Connection, scope: str, limits: Json, said: str
) -> None:
    with pytest.raises(asyncpg.PostgresError, match=said) as caught:
        await db.execute("select atlas.set_budget($1, $2)", scope, limits)
    assert caught.value.sqlstate == "AT005"
    with pytest.raises(asyncpg.PostgresError, match="names no budget" if said == "weekly" else said) as caught:
        await command(db, {"command": "set_budget", "scope": scope, **limits})
    assert caught.value.sqlstate == "AT001"
    assert await db.fetchval("select count(*) from atlas.budget") == 1


async def test_a_limit_that_fell_excuses_nothing_else(db: asyncpg.Connection) -> None:
    await ask(db)
    await asyncio.sleep(0.01)
    await limit(db, monthly=1_000_000, usd_daily=5)
    (row,) = await claim(db)
    answer = await reserve(db, row["attempt_id"], 1000, model="mystery")
    assert answer["code"] == "model_unpriced"
    done = await db.fetchval("select atlas.fail_task($1, $2, 'no price', 'budget')", row["attempt_id"], answer["code"])
    assert done == "failed"


async def test_the_first_limits_of_a_workers_settings_lower_nothing(db: asyncpg.Connection) -> None:
    await db.execute("select atlas.set_budget('global', '{\"daily\": 5000}', 'settings')")
    assert await db.fetchval("select day_lowered_at from atlas.budget") is None
    await db.execute("select atlas.set_budget('global', '{\"daily\": 4000}', 'settings')")
    row = await db.fetchrow(
        "select day_lowered_at is not null, run_lowered_at is null, month_lowered_at is null from atlas.budget"
    )
    assert tuple(row) == (True, True, True)


@pytest.mark.parametrize("limits", [[], None, 5, "x"])
async def test_limits_that_are_no_object_are_refused(db: asyncpg.Connection, limits: Any) -> None:
    with pytest.raises(asyncpg.PostgresError, match=r"limits|not an object") as caught:
        await db.execute("select atlas.set_budget('global', $1::jsonb)", limits)
    assert caught.value.sqlstate == "AT005"


async def test_a_budget_is_raised_while_it_is_spent(database: Database, db: asyncpg.Connection) -> None:
    """No deadlock between who raises a budget and what settles in it."""
    await limit(db, daily=100_000)
    for n in range(40):
        await ask(db, f"question {n}")
    tasks = await claim(db, 40)

    async def settle(part: list[Any]) -> None:
        async with database.connect() as connection:
            for row in part:
                await reserve(connection, row["attempt_id"], 2300)
                await connection.execute(
                    "select testing.complete_task($1, 'x', '{}', $2)", row["attempt_id"], {"0": used(2300)}
                )

    async def raise_it() -> None:
        async with database.connect() as connection:
            for n in range(40):
                await connection.execute("select atlas.set_budget('global', $1)", {"daily": 100_000 + n})

    await asyncio.gather(settle(tasks[::2]), settle(tasks[1::2]), raise_it(), raise_it())


async def test_a_budget_of_a_project_that_is_not_there_is_refused(db: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.PostgresError, match="no project"):
        await limit(db, f"project:{uuid4()}", daily=5)


async def test_a_budget_of_nothing_and_one_below_a_call_let_nothing_pass(db: asyncpg.Connection) -> None:
    for daily in (0, 500):
        await limit(db, daily=daily)
        await asyncio.sleep(0.01)
        answer = await spend(db, 1000)
        assert (answer["outcome"], answer["code"]) == ("refuse", "day_budget")
        assert answer["message"] == f"global: gpt-4.1 needs 1,000 at worst, {daily} left of {daily} today (0 spent)"
    assert await db.fetchval("select count(*) from atlas.spend") == 0


async def test_a_budget_that_is_set_twice_at_once_is_one_of_them(database: Database, db: asyncpg.Connection) -> None:
    async def set_to(daily: int) -> None:
        async with database.connect() as connection:
            await connection.execute("select atlas.set_budget('sender:key:ann', $1)", {"daily": daily})

    await asyncio.gather(*(set_to(daily) for daily in (1000, 2000) * 5))
    assert await db.fetchval("select daily from atlas.budget where scope = 'sender:key:ann'") in (1000, 2000)
    assert await db.fetchval("select count(*) from atlas.audit where event = 'set_budget'") == 10


# --- before asking ----------------------------------------------------------------------------------------------------


async def test_a_quote_says_the_worst_the_usual_and_what_is_left(database: Database, db: asyncpg.Connection) -> None:
    await limit(db, per_run=12_000, daily=100_000, usd_daily=5)
    await db.execute("select atlas.register_worker($1, 'w', '1', 1, array['gpt-4.1', 'gpt-6-luna'])", uuid4())
    await spend(db, 1000)
    quote = await db.fetchval("select atlas.quote_task()")
    assert [(row["model"], row["worst_usd"]) for row in quote["models"]] == [("gpt-4.1", 0.096), ("gpt-6-luna", 0.006)]
    assert quote["models"][0]["likely_usd"] == 0.008
    assert quote["models"][1]["likely_usd"] is None, "no such call yet"
    left = {(row["period"], row["unit"]): row["left"] for row in quote["left"]}
    assert left == {("day", "tokens"): 99_000, ("day", "usd"): 4.992}
    later = await db.fetchval("select atlas.quote_task(null, '8h')")
    assert later["models"][0]["worst_usd"] == pytest.approx(0.0576)
    with pytest.raises(asyncpg.PostgresError, match="window '1h' is not known"):
        await db.fetchval("select atlas.quote_task(null, '1h')")
    async with acting(database, "authenticated", ANN) as ann:
        mine = json.loads(await ann.fetchval("select atlas.quote_task()::text"))
        scopes = {row["scope"] for row in mine["left"]}
        assert scopes == {"global", f"sender:{ANN}"}, "their share, before their first question"
        assert next(row["left"] for row in mine["left"] if row["scope"] != "global") == 50_000


async def test_a_day_of_250_000_holds_more_than_20_questions_at_once(db: asyncpg.Connection) -> None:
    """Once a first call reserved its whole run: 20 questions. Now its input and the usual output."""
    await limit(db, daily=250_000, per_run=12_000)
    for n in range(60):
        await ask(db, f"question {n}")
    tasks = await claim(db, 60)
    requests = [{"attempt_id": str(row["attempt_id"]), "call": 0, "model": "gpt-4.1", "input_tokens": 900, "output_tokens": 4000}
                for row in tasks]  # fmt: skip
    outcomes = [row["r"]["outcome"] for row in await db.fetch("select r from atlas.reserve_tokens($1) r", requests)]
    assert outcomes.count("reserved") == 51
    assert outcomes.count("wait") == 9
