"""The outbox in SQL: every event to every destination that wants it, in order per task, and nothing lost on the way."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.core import Database, ask, claim
from tests.support.outbox import destination, finish

CLAIM = "select * from atlas.claim_outbox($1, $2, $3, '1 minute')"


async def take(db: asyncpg.Connection, to: UUID, limit: int = 100, lease: UUID | None = None) -> list[Any]:
    return list(await db.fetch(CLAIM, lease or uuid4(), to, limit))


def statuses(rows: list[Any]) -> list[str]:
    return [row["payload"]["metadata"]["status"] for row in rows]


async def test_every_reply_leaves_in_order_with_one_event_id_for_all_destinations(db: asyncpg.Connection) -> None:
    one, two = await destination(db), await destination(db, "hook", kind="webhook")
    await finish(db, 3)
    here, there = await take(db, one), await take(db, two)
    assert [row["event_id"] for row in here] == [row["event_id"] for row in there]
    by_task: dict[object, list[str]] = {}
    for row in here:
        by_task.setdefault(row["task_id"], []).append(row["payload"]["metadata"]["status"])
        assert row["ordering_key"] == str(row["task_id"])
    assert set(map(tuple, by_task.values())) == {("in_progress", "completed")}
    stored = await db.fetch("select event_id from public.architect_out order by id")
    assert [row["event_id"] for row in here] == [row["event_id"] for row in stored]


async def test_filters_choose_by_type_status_sender_and_kind(db: asyncpg.Connection) -> None:
    done = await destination(db, "done", where={"status": "completed", "msg_type": ["spec"]})
    ann = await destination(db, "ann", where={"sender": str(UUID(int=1))})
    seals = await destination(db, "seals", where={"kind": "audit_seal"})
    all_of_it = await destination(db, "all")
    await finish(db)
    await db.execute("select atlas.emit('audit_seal', '{}'), atlas.emit('progress', '{}'), atlas.emit('notification', '{}')")
    assert statuses(await take(db, done)) == ["completed"]
    assert await take(db, ann) == []
    assert [row["event_kind"] for row in await take(db, seals)] == ["audit_seal"]
    assert [row["event_kind"] for row in await take(db, all_of_it)] == ["message", "message", "audit_seal"]


@pytest.mark.parametrize(
    ("column", "value", "constraint"),
    [
        ("filter", {"stat": "x"}, "filter_is_known"), ("filter", {"status": 1}, "filter_is_known"),
        ("filter", {"status": [1]}, "filter_is_known"), ("filter", [], "filter"), ("target", "http://user:pw@host/x", "target_fits_kind"),
        ("target", "ftp://host", "target_fits_kind"), ("target", "projects/p/topics/t", "target_fits_kind"),
        ("secret_name", "OPENAI_API_KEY", "secret_is_a_name"), ("secret_name", None, "webhooks_are_signed"),
    ],
)  # fmt: skip
async def test_a_destination_that_cannot_work_is_refused(
    db: asyncpg.Connection, column: str, value: Any, constraint: str
) -> None:
    to = await destination(db, "hook", kind="webhook")
    with pytest.raises(asyncpg.CheckViolationError, match=constraint):
        await db.execute(f"update atlas.destination set {column} = $2 where id = $1", to, value)


async def test_what_was_kept_goes_to_the_destinations_that_come_in_its_order(db: asyncpg.Connection) -> None:
    await ask(db)
    (task,) = await claim(db)
    assert await db.fetchval("select count(*) from atlas.outbox") == 0, "that it began is news only while it runs"
    await db.execute(
        "insert into public.architect_out (data, task_id) select jsonb_set(data, '{metadata,status}', '\"needs_input\"'), task_id "
        "from public.architect_out where task_id = $1", task["task_id"],
    )  # fmt: skip
    assert await db.fetchval("select atlas.adopt_outbox()") == 0, "nothing to give it to"
    one, two = await destination(db, "one", since="-infinity"), await destination(db, "two", since="-infinity")
    # the reply comes after the destinations, and what came before it before them
    await db.execute("select testing.complete_task($1, 'x')", task["attempt_id"])
    assert await take(db, one) == [], "what came first is yet to be copied, and goes first"
    assert await db.fetchval("select atlas.adopt_outbox()") == 2
    assert await db.fetchval("select atlas.adopt_outbox()") == 0
    for to in (one, two):
        assert statuses(await take(db, to)) == ["needs_input", "completed"]


async def test_a_destination_that_wants_nothing_of_it_takes_nothing_from_the_next(db: asyncpg.Connection) -> None:
    await finish(db, 2)
    narrow = await destination(db, "narrow", kind="webhook", where={"kind": "notification"}, since="-infinity")
    done = await destination(db, "done", where={"status": "completed"}, since="-infinity")
    while await db.fetchval("select atlas.adopt_outbox()"):
        pass
    later = await destination(db, "later", since="-infinity")
    while await db.fetchval("select atlas.adopt_outbox()"):
        pass
    assert [len(await take(db, to)) for to in (narrow, done, later)] == [0, 2, 2]


async def test_a_new_destination_begins_with_now(db: asyncpg.Connection) -> None:
    await finish(db, 3)
    await ask(db)
    (running,) = await claim(db)
    to = await db.fetchval(
        "insert into atlas.destination (name, kind, target) values ('new', 'pubsub', 'projects/p/topics/new') returning id"
    )
    await db.execute("select testing.complete_task($1, 'x')", running["attempt_id"])
    assert await db.fetchval("select atlas.adopt_outbox()") == 0
    assert statuses(await take(db, to)) == ["completed"], "of a task that began before, what comes from now on"
    await finish(db)
    assert statuses(await take(db, to)) == ["in_progress", "completed"]


async def test_a_destination_that_was_off_gets_what_was_kept_meanwhile(db: asyncpg.Connection) -> None:
    to = await destination(db)
    assert await db.fetchval("select atlas.adopt_outbox()") == 0
    await db.execute("update atlas.destination set enabled = false, adopted_at = now() - interval '1 hour'")
    await finish(db)
    await db.execute("update atlas.destination set enabled = true")
    assert await db.fetchval("select atlas.adopt_outbox()") == 1
    assert statuses(await take(db, to)) == ["completed"]


async def test_a_row_that_fails_for_ever_is_not_the_one_that_is_tried_again(db: asyncpg.Connection) -> None:
    to = await destination(db)
    (poison,) = await finish(db)
    await db.execute("update atlas.outbox set run_after = now() - interval '1 second'")
    await db.execute("update atlas.destination set failures = 5")
    (fine,) = await finish(db)
    await db.execute("update atlas.outbox set run_after = now() - interval '1 hour' where task_id = $1", fine)
    (row,) = await take(db, to)
    assert row["task_id"] == fine
    assert await db.fetchval("select atlas.skip_outbox($1)", [row["id"]]) == 0, "somebody sends it now"
    ids = [r["id"] for r in await db.fetch("select id from atlas.outbox where task_id = $1", poison)]
    assert await db.fetchval("select atlas.skip_outbox($1)", ids) == 2, "what nobody takes can be given up"


async def test_a_dead_row_without_a_task_escalates_too(db: asyncpg.Connection) -> None:
    to = await destination(db)
    await db.execute("select atlas.emit('audit_seal', '{}')")
    row_id = await db.fetchval("select id from atlas.outbox")
    await reject(db, to, row_id)
    said = await db.fetchval("select data #>> '{metadata,error,message}' from public.architect_out")
    assert said == "audit_seal: HTTP 422"


async def test_a_held_row_keeps_back_the_later_ones_of_its_task_only(db: asyncpg.Connection) -> None:
    to = await destination(db)
    await finish(db, 2)
    one, two = uuid4(), uuid4()
    first = await take(db, to, 1, one)
    rest = await take(db, to, 100, two)
    assert first[0]["task_id"] not in {row["task_id"] for row in rest}
    assert len(rest) == 2
    await db.execute("select atlas.settle_outbox($1, $2)", one, [first[0]["id"]])
    assert len(await take(db, to, 100, two)) == 1
    # another relay's lease cannot be settled
    assert await db.fetchval("select atlas.settle_outbox($1, $2)", one, [rest[0]["id"]]) == 0


async def reject(db: asyncpg.Connection, to: UUID, row_id: int, times: int = 3) -> None:
    for _ in range(times):
        await db.execute("update atlas.outbox set run_after = now()")
        lease = uuid4()
        rows = await take(db, to, 1, lease)
        assert rows[0]["id"] == row_id
        await db.execute("select atlas.settle_outbox($1, '{}', $2)", lease, [{"id": row_id, "error": "HTTP 422"}])


async def test_three_rejections_make_a_row_dead_escalate_once_and_hold_its_task(db: asyncpg.Connection) -> None:
    to = await destination(db)
    await finish(db)
    row_id = await db.fetchval("select min(id) from atlas.outbox")
    await reject(db, to, row_id)
    assert await db.fetchval("select state from atlas.outbox where id = $1", row_id) == "dead"
    assert (await db.fetchval("select atlas.queue_metrics()"))["outbox_dead"] == 1
    assert await db.fetchval("select count(*) from public.architect_out where data ->> 'content' like '%escalate%'") == 1
    rows = await take(db, to)
    assert [row["payload"]["msg_type"] for row in rows] == ["control"], "the escalation does not wait for the dead row"
    assert await db.fetchval("select atlas.retry_outbox($1)", [row_id]) == 1
    assert statuses(await take(db, to)) == ["in_progress", "completed"]


async def test_a_dead_row_is_dead_for_its_destination_alone_and_skipping_frees_its_task(db: asyncpg.Connection) -> None:
    to, other = await destination(db, "one"), await destination(db, "two")
    await finish(db)
    row_id = await db.fetchval("select min(id) from atlas.outbox where destination_id = $1", to)
    await reject(db, to, row_id)
    assert statuses(await take(db, other))[:2] == ["in_progress", "completed"]
    assert await db.fetchval("select atlas.skip_outbox($1)", [row_id]) == 1
    assert "completed" in statuses(await take(db, to))
    assert await db.fetchval("select state from atlas.outbox where id = $1", row_id) == "skipped"
    events = await db.fetch("select event from atlas.audit where task_id is null order by id")
    assert {"settle_outbox", "skip_outbox"} <= {row["event"] for row in events}


async def test_an_escalation_that_dies_does_not_escalate(db: asyncpg.Connection) -> None:
    to = await destination(db)
    (task,) = await finish(db)
    await db.execute("update atlas.outbox set state = 'skipped'")
    await db.execute("select atlas.escalate($1, 'x', 'y')", task)
    row_id = await db.fetchval("select max(id) from atlas.outbox")
    await reject(db, to, row_id)
    assert await db.fetchval("select state from atlas.outbox where id = $1", row_id) == "dead"
    assert await db.fetchval("select count(*) from public.architect_out where data ->> 'content' like '%escalate%'") == 1


async def test_a_failure_of_the_destination_counts_against_no_row(db: asyncpg.Connection) -> None:
    to = await destination(db)
    await finish(db)
    for n in range(1, 5):
        lease = uuid4()
        rows = await take(db, to, 100, lease)
        assert len(rows) == (2 if n <= 3 else 1), "after three failures one row is tried"
        failed = [{"id": rows[0]["id"], "error": "503", "seconds": 0}]
        released = [row["id"] for row in rows[1:]]
        await db.execute("select atlas.settle_outbox($1, '{}', '[]', $2, $3)", lease, failed, released)
        until = await db.fetchval("select atlas.record_destination($1, false, 'HTTP 503', 30)", to)
        assert (until is not None) == (n >= 3)
        if n >= 3:
            assert await take(db, to) == [], "its breaker is open"
            await db.execute("update atlas.destination set open_until = now() - interval '1 second'")
    assert await db.fetchval("select max(rejections) from atlas.outbox") == 0
    row = await db.fetchrow("select failures, last_error from atlas.outbox_status")
    assert (row["failures"], row["last_error"]) == (4, "HTTP 503")
    await db.execute("select atlas.record_destination($1, true)", to)
    assert len(await take(db, to)) == 2


async def test_messages_are_sent_again_with_the_ids_they_had(db: asyncpg.Connection) -> None:
    to = await destination(db)
    tasks = await finish(db, 2)
    lease = uuid4()
    first = await take(db, to, 100, lease)
    await db.execute("select atlas.settle_outbox($1, $2)", lease, [row["id"] for row in first])
    # one was trimmed: it is made again
    await db.execute("delete from atlas.outbox where id = $1", first[0]["id"])
    assert await db.fetchval("select atlas.replay_outbox(p_task_id => $1)", tasks[0]) == 2
    again = await take(db, to, 100, lease)
    assert [(row["event_id"], row["payload"]) for row in again] == [
        (row["event_id"], row["payload"]) for row in first if row["task_id"] == tasks[0]
    ]
    await db.execute("select atlas.settle_outbox($1, $2)", lease, [row["id"] for row in again])
    assert await db.fetchval("select atlas.replay_outbox(p_since => now() - interval '1 hour')") == 4
    assert await db.fetchval("select atlas.replay_outbox(p_since => now() + interval '1 hour')") == 0
    for words in ("", "p_task_id => gen_random_uuid(), p_destination => 'nobody'"):
        with pytest.raises(asyncpg.PostgresError) as caught:
            await db.execute(f"select atlas.replay_outbox({words})")
        assert caught.value.sqlstate in ("AT004", "AT005")


async def test_only_what_is_done_or_unwanted_is_trimmed(db: asyncpg.Connection) -> None:
    await finish(db)  # kept: there is no destination
    await db.execute("update atlas.outbox set created_at = now() - interval '8 days'")
    assert await db.fetchval("select atlas.trim_outbox('9 days')") == 0
    assert await db.fetchval("select atlas.trim_outbox('7 days')") == 1
    to = await destination(db)
    await finish(db)
    lease = uuid4()
    rows = await take(db, to, 1, lease)
    await db.execute("select atlas.settle_outbox($1, $2)", lease, [rows[0]["id"]])
    await db.execute("update atlas.outbox set created_at = now() - interval '8 days'")
    assert await db.fetchval("select atlas.trim_outbox('7 days')") == 1
    assert await db.fetchval("select state from atlas.outbox") == "pending", "what a destination still waits for stays"


async def test_progress_of_tasks_that_somebody_waits_for(db: asyncpg.Connection) -> None:
    to = await destination(db, "deliver", kind="webhook", where={"kind": ["message", "progress"]})
    waited_for = await ask(db, reply_to="github:o/r#1")
    await ask(db)
    attempts = await claim(db, 2)
    await db.execute("update atlas.attempt set started_at = now() - interval '2 seconds'")
    assert await db.fetchval("select atlas.report_progress('0 seconds')") == 1
    assert await db.fetchval("select atlas.report_progress('1 minute')") == 0, "not so often"
    rows = await take(db, to)
    assert [(row["event_kind"], row["task_id"], row["payload"]["metadata"].get("reply_to")) for row in rows if row["task_id"] == waited_for] == [
        ("message", waited_for, "github:o/r#1"), ("progress", waited_for, "github:o/r#1")]  # fmt: skip
    # a refused sign of progress is given up at once, and keeps nothing back
    lease = uuid4()
    await db.execute("update atlas.outbox set lease_owner = $1", lease)
    progress = next(row for row in rows if row["event_kind"] == "progress")
    await db.execute("select atlas.settle_outbox($1, '{}', $2)", lease, [{"id": progress["id"], "error": "HTTP 400"}])
    assert await db.fetchval("select state from atlas.outbox where id = $1", progress["id"]) == "skipped"
    assert len(attempts) == 2


@pytest.mark.cooks_the_books
async def test_people_are_told_once_a_cause_an_hour(db: asyncpg.Connection) -> None:
    assert await db.fetchval("select atlas.raise_notifications()") == 0, "nobody wants to know"
    to = await destination(db, "people", kind="webhook", where={"kind": "notification"})
    await db.execute("select atlas.set_budget('global', '{\"daily\": 1000}')")
    await finish(db, 2)
    await db.execute("update atlas.budget_day set settled_tokens = 850")
    assert await db.fetchval("select atlas.raise_notifications()") == 2
    assert await db.fetchval("select atlas.raise_notifications()") == 0
    await db.execute("update atlas.budget_day set settled_tokens = 1000")
    await ask(db)
    (task,) = await claim(db)
    await db.execute("update atlas.task set max_attempts = 1 where id = $1", task["task_id"])
    await db.execute("select atlas.fail_task($1, 'internal', 'it broke')", task["attempt_id"])
    assert await db.fetchval("select atlas.raise_notifications()") == 2
    await finish(db)
    assert await db.fetchval("select atlas.raise_notifications()") == 0, "the cause was named within the hour"
    told = [row["payload"] for row in await take(db, to)]
    titles = [row["title"] for row in await db.fetch("select title from atlas.task where state = 'completed'")]
    assert titles
    assert not any(title in one["text"] for one in told for title in titles), "a channel is not a task's reader"
    causes = [one["cause"] for one in told]
    assert sorted(causes) == ["budget_100:global:tokens", "budget_80:global:tokens", "completed:default", "dead_letters"]
    # an hour later: budgets are said once a day, completions again
    await db.execute("update atlas.notification set raised_at = raised_at - interval '61 minutes'")
    await db.execute("update atlas.task set finished_at = now() where state = 'completed'")
    assert await db.fetchval("select atlas.raise_notifications()") >= 1
    again = [row["payload"]["cause"] for row in await take(db, to)]
    assert "completed:default" in again
    assert not any(cause.startswith("budget") for cause in again) or (await db.fetchval("select now()::time")).hour == 0


@pytest.mark.parametrize("count", [40])
async def test_relays_that_race_send_each_row_once(database: Database, db: asyncpg.Connection, count: int) -> None:
    to = await destination(db)
    await finish(db, count)

    async def relay() -> list[int]:
        sent: list[int] = []
        async with database.connect() as connection:
            lease = uuid4()
            while rows := await connection.fetch(CLAIM, lease, to, 7):
                ids = [row["id"] for row in rows]
                await connection.execute("select atlas.settle_outbox($1, $2)", lease, ids)
                sent += ids
        return sent

    raced = await asyncio.gather(*(relay() for _ in range(4)))
    raced.append(await relay())
    assert sorted(row for part in raced for row in part) == sorted(
        {row["id"] for row in await db.fetch("select id from atlas.outbox")}
    )
    assert await db.fetchval("select count(*) from atlas.outbox where state = 'sent'") == 2 * count


async def test_a_claim_reads_no_whole_table(db: asyncpg.Connection) -> None:
    to = await destination(db)
    await db.execute(
        "insert into atlas.outbox (event_id, event_kind, payload, position, destination_id, state, sent_at) "
        "select gen_random_uuid(), 'audit_seal', '{}', n, $1, 'sent', now() from generate_series(1, 5000) n", to,
    )  # fmt: skip
    await finish(db, 5)
    await db.execute("analyze atlas.outbox")
    query = "select seq_scan, coalesce(idx_tup_fetch, 0) as fetched from pg_stat_xact_user_tables where relid = 'atlas.outbox'::regclass"
    async with db.transaction():
        before = await db.fetchrow(query)
        assert len(await take(db, to)) == 10
        after = await db.fetchrow(query)
    assert after["seq_scan"] == before["seq_scan"]
    assert after["fetched"] - before["fetched"] < 500


async def test_kept_events_are_not_a_backlog(db: asyncpg.Connection) -> None:
    """Each finished task leaves rows for destinations to come: metrics that counted them would grow with the history."""
    await finish(db)
    status = await db.fetch("select destination, pending from atlas.outbox_status")
    assert [tuple(row) for row in status] == [(None, 1)]
    assert (await db.fetchval("select atlas.queue_metrics()"))["outbox"] == []
    await destination(db)
    found = (await db.fetchval("select atlas.queue_metrics()"))["outbox"]
    assert [row["destination"] is not None for row in found] == [True]
