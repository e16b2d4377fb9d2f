"""Claims, leases, fair turns, ends: what the queue promises, in SQL."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import RFC_4122, UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas.messages import chat
from tests.support.core import Database, ask, claim, command, reply, reserve, used
from tests.support.people import ANN, BOB, acting


async def many(db: asyncpg.Connection, count: int, **metadata: Any) -> None:
    await db.execute(
        "insert into public.architect_in (data) select jsonb_build_object('task_id', gen_random_uuid(), 'role', 'architect', "
        "'msg_type', 'chat', 'content', 'q' || n, 'metadata', $2::jsonb) from generate_series(1, $1) n",
        count,
        metadata,
    )


async def state(db: asyncpg.Connection, task: UUID) -> dict[str, Any]:
    return dict(await db.fetchrow("select * from atlas.task where id = $1", task))


async def test_a_claim_begins_an_attempt_and_says_so_once(db: asyncpg.Connection) -> None:
    task = await ask(db, "How?")
    (claimed,) = await claim(db)
    assert (claimed["task_id"], claimed["attempt"], claimed["message"]["content"]) == (task, 1, "How?")
    await db.execute("select atlas.fail_task($1, 'x', 'x', 'released')", claimed["attempt_id"])
    (again,) = await claim(db)
    assert again["attempt"] == 2
    rows = await db.fetch("select data #>> '{metadata,status}' as status from public.architect_out")
    assert [row["status"] for row in rows] == ["in_progress"]


async def test_two_claimers_never_share_a_task_and_leave_none(database: Database, db: asyncpg.Connection) -> None:
    await many(db, 300)

    async def claimer() -> list[UUID]:
        found: list[UUID] = []
        async with database.connect() as connection:
            while batch := await claim(connection, 7):
                found += [row["task_id"] for row in batch]
        return found

    found = [task for part in await asyncio.gather(*(claimer() for _ in range(6))) for task in part]
    assert len(found) == len(set(found)) == 300


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    tasks=st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 1)), min_size=1, max_size=25),
    sizes=st.lists(st.integers(1, 4), min_size=30, max_size=30),
)
async def test_a_task_waits_for_at_most_one_claim_of_each_other_sender(
    db: asyncpg.Connection, tasks: list[tuple[str, int]], sizes: list[int]
) -> None:
    await db.execute("update atlas.task set state = 'cancelled', finished_at = now(), attempt_id = null, wait_reason = null")
    await db.execute("delete from atlas.attempt")
    waiting: list[tuple[UUID, str, int]] = []
    for sender, priority in tasks:
        waiting.append((await ask(db, sender_key=sender, priority=priority), sender, priority))
    size = iter(sizes)
    while waiting:
        claimed = [(row["task_id"], row["sender_key"][4:]) for row in await claim(db, next(size))]
        assert claimed, "there are tasks, and none was claimed"
        for task, sender in claimed:
            mine = next(w for w in waiting if w[0] == task)
            # nobody of a higher priority waits, and it is its sender's oldest of that priority
            assert mine[2] == max(priority for _, _, priority in waiting)
            assert task == next(t for t, s, p in waiting if s == sender and p == mine[2])
            waiting.remove(mine)
        if not waiting:
            break
        # between two claims of a sender, every other sender that had a task of that priority was claimed once
    rows = await db.fetch(
        "select sender_key, priority from atlas.task where claim_seq is not null and id = any($1) order by claim_seq",
        [row["id"] for row in await db.fetch("select id from atlas.task where state = 'running'")],
    )
    for priority in (0, 1):
        order = [row["sender_key"] for row in rows if row["priority"] == priority]
        for place, sender in enumerate(order):
            earlier = [n for n in range(place) if order[n] == sender]
            between = order[earlier[-1] + 1 : place] if earlier else order[:place]
            assert len(between) == len(set(between)), f"{sender} waited twice for somebody: {order}"


async def test_a_flood_of_one_sender_does_not_hold_up_another(db: asyncpg.Connection) -> None:
    await many(db, 200, sender_key="flood")
    late = await ask(db, sender_key="late")
    first = [row["task_id"] for row in await claim(db, 2)]
    assert late in first


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    senders=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    each=st.integers(1, 5),
    sizes=st.lists(st.integers(1, 7), min_size=120, max_size=120),
)
async def test_projects_take_turns_however_many_ask_in_them(
    db: asyncpg.Connection, senders: list[int], each: int, sizes: list[int]
) -> None:
    """While each of them has ready tasks, no project is claimed from twice before every other is once; in a project its senders
    take turns as well."""
    await db.execute("update atlas.task set state = 'cancelled', finished_at = now(), attempt_id = null, wait_reason = null")
    await db.execute("delete from atlas.attempt")
    projects = [await db.fetchval("insert into atlas.project (name) values ($1) returning id", str(uuid4())) for _ in senders]
    left: Counter[tuple[UUID, str]] = Counter()
    for project, count in zip(projects, senders, strict=True):
        for number in range(count):
            await many(db, each, sender_key=f"s{number}", project=str(project))
            left[project, f"key:s{number}"] = each
    order: list[tuple[UUID, str]] = []
    size = iter(sizes)
    while rows := await claim(db, next(size)):
        # a full worker takes commands in between: they are nobody's turn
        await command(db, {"command": "heartbeat"})
        assert len(await db.fetch("select * from atlas.claim_tasks(gen_random_uuid(), 0, 1, '1 minute')")) == 1
        order += [(row["project_id"], row["sender_key"]) for row in rows]
    assert Counter(order) == left
    by_project: dict[UUID, list[str]] = {project: [] for project in projects}
    turns: list[UUID] = []
    for project, sender in order:
        others = [p for p in projects if p != project and any(n for (q, _), n in left.items() if q == p)]
        since = turns[len(turns) - turns[::-1].index(project) :] if project in turns else turns
        assert project not in turns or set(others) <= set(since), "a project waited twice for another"
        mates = [s for (q, s), n in left.items() if q == project and n and s != sender]
        mine = by_project[project]
        between = mine[len(mine) - mine[::-1].index(sender) :] if sender in mine else mine
        assert sender not in mine or set(mates) <= set(between), "a sender waited twice for another of the project"
        turns.append(project)
        mine.append(sender)
        left[project, sender] -= 1


async def test_a_claim_reads_the_senders_that_it_takes_and_no_others(db: asyncpg.Connection) -> None:
    for number in range(300):
        await ask(db, sender_key=f"s{number:03}")
    await db.execute("analyze atlas.task")
    read = "select idx_tup_fetch + seq_tup_read from pg_stat_xact_user_tables where relname = 'task'"
    async with db.transaction():
        before = await db.fetchval(read) or 0
        assert [row["sender_key"] for row in await claim(db, 4)] == [f"key:s{number:03}" for number in range(4)]
        assert await db.fetchval(read) - before < 100
    assert [row["sender_key"] for row in await claim(db, 2)] == ["key:s004", "key:s005"]


async def test_what_a_task_writes_is_written_in_place(db: asyncpg.Connection) -> None:
    """From the reservation on: no index of task, attempt or spend is written but for the end of an attempt."""
    await many(db, 40)
    rows = [row for _ in range(4) for row in await claim(db, 10)]
    await db.execute("select pg_stat_force_next_flush()")
    updates = "select relname, n_tup_upd - n_tup_hot_upd as moved, n_tup_upd as updated from pg_stat_user_tables"
    before = {row["relname"]: row for row in await db.fetch(updates)}
    for row in rows:
        await reserve(db, row["attempt_id"])
        item = {"attempt_id": str(row["attempt_id"]), "call": 0, "generation": 0, "response_id": "r", "resumable": True, "offset": 0,
                "text": "Hello"}  # fmt: skip
        await db.execute("select atlas.record_progress($1)", [item])
        await db.execute("select testing.complete_task($1, 'x', '{}', $2)", row["attempt_id"], {"0": used(400)})
    await db.execute("select pg_stat_force_next_flush()")
    after = {row["relname"]: row for row in await db.fetch(updates)}
    moved = {name: after[name]["moved"] - before[name]["moved"] for name in ("task", "attempt", "spend")}
    assert {name: after[name]["updated"] - before[name]["updated"] for name in moved} == {
        "task": 40,
        "attempt": 80,
        "spend": 80,
    }
    # a page may be full; each attempt leaves the index of those that run
    assert moved["task"] <= 4
    assert moved["spend"] <= 8
    assert moved["attempt"] <= 44


async def test_higher_priority_goes_first(db: asyncpg.Connection) -> None:
    await many(db, 5)
    urgent = await ask(db, priority=50)
    assert (await claim(db))[0]["task_id"] == urgent


async def test_a_paused_queue_gives_controls_and_no_questions(db: asyncpg.Connection) -> None:
    await ask(db)
    await command(db, {"command": "heartbeat"})
    await db.execute("select atlas.pause('maintenance')")
    rows = await db.fetch("select * from atlas.claim_tasks($1, 5, 5, interval '1 minute')", uuid4())
    assert [row["kind"] for row in rows] == ["control"]
    await db.execute("select atlas.resume()")
    assert len(await claim(db)) == 1


async def test_leases_are_extended_only_for_who_holds_them(db: asyncpg.Connection) -> None:
    worker, task = uuid4(), await ask(db)
    (row,) = await claim(db, worker=worker, lease="1 second")
    attempts = [row["attempt_id"], uuid4()]
    found = await db.fetch("select * from atlas.extend_leases($1, $2, '1 minute')", worker, attempts)
    assert {r["attempt_id"]: r["held"] for r in found} == {attempts[0]: True, attempts[1]: False}
    found = await db.fetch("select * from atlas.extend_leases($1, $2, '1 minute')", uuid4(), attempts[:1])
    assert [r["held"] for r in found] == [False]
    await db.execute("select atlas.cancel_task($1)", task)
    found = await db.fetch("select * from atlas.extend_leases($1, $2, '1 minute')", worker, attempts[:1])
    assert [(r["held"], r["cancel_requested"]) for r in found] == [(True, True)]


async def test_an_expired_lease_puts_the_task_back_at_the_head(db: asyncpg.Connection) -> None:
    first = await ask(db)
    await ask(db)
    await claim(db, lease="-1 second")
    assert await db.fetchval("select atlas.release_expired()") == 1
    (row,) = await claim(db)
    assert (row["task_id"], row["attempt"]) == (first, 2)
    states = await db.fetch("select state from atlas.attempt order by number")
    assert [r["state"] for r in states] == ["lost", "running"]


async def test_a_task_that_loses_five_workers_that_had_reserved_is_dead_lettered(db: asyncpg.Connection) -> None:
    await db.execute("""select atlas.set_spend_rules('{"hold_seconds": 0, "held_retry_seconds": 0}')""")
    task = await ask(db)
    for n in range(5):
        assert (await state(db, task))["state"] == "queued", n
        await db.execute("select atlas.end_holds()")
        (row,) = await claim(db, lease="-1 second")
        assert (await reserve(db, row["attempt_id"]))["outcome"] == "reserved"
        await db.execute("select atlas.release_expired()")
    assert (await state(db, task))["state"] == "dead_lettered"
    assert await db.fetchval("select count(*) from public.architect_out where data ->> 'msg_type' = 'control'") == 1


async def test_losses_before_a_reservation_are_counted_apart_and_ten_end_a_task(db: asyncpg.Connection) -> None:
    task = await ask(db)
    for n in range(10):
        found = await state(db, task)
        assert (found["state"], found["losses"], found["early_losses"]) == ("queued", 0, n)
        await claim(db, lease="-1 second")
        await db.execute("select atlas.release_expired()")
    found = await state(db, task)
    assert (found["state"], found["error_code"]) == ("dead_lettered", "lease_lost")
    assert found["error_message"] == "10 workers were lost while they ran it, before they had reserved anything"
    assert await db.fetchval("select count(*) from public.architect_out where data ->> 'msg_type' = 'control'") == 1


async def test_failures_back_off_and_end_as_a_dead_letter_that_escalates(db: asyncpg.Connection) -> None:
    task = await ask(db)
    for n in range(3):
        await db.execute("update atlas.task set wait_reason = null, run_after = now() where id = $1", task)
        (row,) = await claim(db)
        done = await db.fetchval("select atlas.fail_task($1, 'bad', 'it is bad')", row["attempt_id"])
        found = await state(db, task)
        if n < 2:
            assert (done, found["wait_reason"], found["failures"]) == ("queued", "retry", n + 1)
            await db.execute("update atlas.task set run_after = now() + interval '1 minute' where id = $1", task)
            assert await claim(db) == [], "it waits for its time"
    assert (found["state"], found["failures"]) == ("dead_lettered", 3)
    last = await reply(db, task)
    assert last["metadata"]["status"] == "dead_lettered"
    assert last["metadata"]["error"] == {"code": "bad", "message": "it is bad"}
    (escalation,) = await db.fetch("select data from public.architect_out where data ->> 'msg_type' = 'control'")
    assert '"escalate"' in escalation["data"]["content"]
    assert await db.fetchval("select count(*) from atlas.dead_letters") == 1
    assert await db.fetchval("select atlas.retry_task($1)", task) == "queued"
    (row,) = await claim(db)
    await db.execute("select testing.complete_task($1, 'at last')", row["attempt_id"])
    assert (await reply(db, task))["content"] == "at last"


async def test_retry_after_is_the_least_wait(db: asyncpg.Connection) -> None:
    task = await ask(db)
    (row,) = await claim(db)
    await db.execute("select atlas.fail_task($1, 'busy', 'busy', 'own', interval '90 seconds')", row["attempt_id"])
    assert await db.fetchval("select run_after >= now() + interval '89 seconds' from atlas.task where id = $1", task)


async def test_an_outage_uses_no_attempt_and_escalates_once_after_five_minutes(db: asyncpg.Connection) -> None:
    task = await ask(db)
    for n in range(4):
        await db.execute("update atlas.task set wait_reason = null, run_after = now() where id = $1", task)
        (row,) = await claim(db)
        await db.execute("select atlas.fail_task($1, 'upstream', 'down', 'outage')", row["attempt_id"])
        found = await state(db, task)
        assert (found["state"], found["wait_reason"], found["failures"]) == ("queued", "upstream", 0)
        if n == 1:
            await db.execute("update atlas.task set outage_since = now() - interval '6 minutes' where id = $1", task)
    assert await db.fetchval("select count(*) from public.architect_out where data ->> 'content' like '%escalate%'") == 1


async def test_a_final_failure_is_not_tried_again(db: asyncpg.Connection) -> None:
    task = await ask(db)
    (row,) = await claim(db)
    assert await db.fetchval("select atlas.fail_task($1, 'too_large', 'too large', 'final')", row["attempt_id"]) == "failed"
    assert (await reply(db, task))["metadata"]["error"]["code"] == "too_large"


async def test_completing_again_changes_nothing(db: asyncpg.Connection) -> None:
    await ask(db)
    (row,) = await claim(db)
    for _ in range(2):
        assert await db.fetchval("select testing.complete_task($1, 'x')", row["attempt_id"]) == row["attempt_id"]
    assert await db.fetchval("select count(*) from public.architect_out where data ->> 'content' = 'x'") == 1


async def test_a_completion_that_is_sent_again_while_the_first_is_open_is_answered_as_done(
    database: Database, db: asyncpg.Connection
) -> None:
    """As after a lost connection whose transaction still runs."""
    await ask(db)
    (row,) = await claim(db)
    item = {"attempt_id": str(row["attempt_id"]), "content": "x", "metadata": {}, "usages": {}}
    async with database.connect() as first, database.connect() as second:
        transaction = first.transaction()
        await transaction.start()
        assert len(await first.fetch("select atlas.complete_tasks($1)", [item])) == 1
        again = asyncio.create_task(second.fetch("select atlas.complete_tasks($1)", [item]))
        await asyncio.sleep(0.2)
        assert not again.done(), "it waits for the first"
        await transaction.commit()
        assert len(await again) == 1
    assert await db.fetchval("select count(*) from public.architect_out where data ->> 'content' = 'x'") == 1


async def test_a_batch_of_completions_leaves_out_the_lost(db: asyncpg.Connection) -> None:
    await many(db, 3)
    one, two, three = await claim(db, 3)
    await db.execute("update atlas.attempt set lease_expires_at = now() - interval '1 s' where id = $1", two["attempt_id"])
    await db.execute("select atlas.release_expired()")
    items = [{"attempt_id": str(t["attempt_id"]), "content": "x", "metadata": {}} for t in (one, two, three)]
    done = await db.fetch("select c from atlas.complete_tasks($1) c", items)
    assert {row["c"] for row in done} == {one["attempt_id"], three["attempt_id"]}


async def test_unknown_things_are_named(db: asyncpg.Connection) -> None:
    for call in ("testing.complete_task($1, 'x')", "atlas.cancel_task($1)", "atlas.retry_task($1)", "atlas.erase($1)"):
        with pytest.raises(asyncpg.PostgresError, match=r"no (task|attempt)") as caught:
            await db.fetchval(f"select {call}", uuid4())
        assert caught.value.sqlstate == "AT004"
        assert caught.value.hint


async def test_a_running_task_is_neither_retried_nor_erased(db: asyncpg.Connection) -> None:
    task = await ask(db)
    await claim(db)
    for call in ("retry_task", "erase"):
        with pytest.raises(asyncpg.PostgresError, match="is running") as caught:
            await db.fetchval(f"select atlas.{call}($1)", task)
        assert caught.value.sqlstate == "AT005"


async def test_erase_removes_what_people_wrote_and_keeps_the_books(db: asyncpg.Connection) -> None:
    task = await ask(db, "my secret plan")
    (row,) = await claim(db)
    await db.execute("select testing.complete_task($1, 'the secret reply', '{\"sources\": [\"secret\"]}')", row["attempt_id"])
    await db.execute("select atlas.erase($1)", task)
    dump = await db.fetchval(
        "select (select jsonb_agg(i) from public.architect_in i)::text || (select jsonb_agg(o) from public.architect_out o)::text"
        " || (select jsonb_agg(t) from atlas.task t)::text || (select jsonb_agg(a) from atlas.audit a)::text"
    )
    assert "secret" not in dump
    assert (await state(db, task))["state"] == "completed"
    assert await db.fetch("select * from atlas.verify_audit()") == []


async def test_a_thread_reaches_only_its_own_project(db: asyncpg.Connection) -> None:
    task = await ask(db, "first")
    (row,) = await claim(db)
    await db.execute("select testing.complete_task($1, 'answer')", row["attempt_id"])
    await db.execute("insert into atlas.project (name) values ('other')")
    here, elsewhere = await ask(db, "second"), await ask(db, "third", project="other")
    found = await db.fetchrow("select * from atlas.get_thread($1, $2)", task, here)
    assert (found["question"], found["reply"]) == ("first", "answer")
    assert await db.fetchrow("select * from atlas.get_thread($1, $2)", task, elsewhere) is None
    assert await db.fetchrow("select * from atlas.get_thread($1, $2)", task, uuid4()) is None


async def test_a_parent_is_taken_only_if_its_asker_could_read_it(database: Database, db: asyncpg.Connection) -> None:
    """In the default project nobody is a member: another's thread stays theirs, whoever knows its id."""
    tasks = {}
    for user in (ANN, BOB):
        message = chat(f"{user} asks in private")
        async with acting(database, "authenticated", user) as person:
            await person.execute("insert into public.architect_in (data) values ($1)", message)
        tasks[user] = UUID(message["task_id"])
    thread = "select * from atlas.get_thread($1, $2)"
    assert await db.fetchrow(thread, tasks[ANN], tasks[BOB]) is None
    assert (await db.fetchrow(thread, tasks[ANN], tasks[ANN]))["question"] == f"{ANN} asks in private"
    for user in (ANN, BOB):
        await db.execute(
            "insert into auth.users (id, email) values ($1, $2) on conflict do nothing", user, f"{user}@example.com"
        )
        await db.execute(
            "insert into atlas.member (project_id, user_id) select id, $1 from atlas.project where name = 'default'", user
        )
    assert await db.fetchrow(thread, tasks[ANN], tasks[BOB]) is not None, "members of a project read its tasks"


async def test_hot_queries_use_their_indexes_beside_many_ended_tasks(db: asyncpg.Connection) -> None:
    await db.execute("alter table public.architect_in disable trigger user")
    await db.execute(
        "insert into public.architect_in (data, task_id) select jsonb_build_object('n', n), gen_random_uuid() "
        "from generate_series(1, 20000) n"
    )
    await db.execute("alter table public.architect_in enable trigger user")
    await db.execute(
        "insert into atlas.task (id, kind, state, title, in_id, message_task_id, sender_key, project_id, finished_at, "
        "claim_seq) select task_id, 'chat', 'completed', 't', id, task_id, 'service', "
        "'00000000-0000-0000-0000-000000000001', now(), id from public.architect_in"
    )
    await db.execute(
        "insert into atlas.attempt (id, task_id, number, lease_owner, state, lease_expires_at, finished_at) "
        "select gen_random_uuid(), id, 1, gen_random_uuid(), 'completed', now(), now() from atlas.task"
    )
    await many(db, 50)
    await db.execute("analyze")
    for query, index in (
        ("select * from atlas.task where ready and kind = 'chat' order by rank, project_id, sender_key, in_id limit 10", "task_ready"),
        ("select project_id from atlas.task where rank = 0 and kind = 'chat' and claim_seq is not null order by claim_seq desc limit 1", "task_turn"),
        ("select 1 from atlas.task where wait_reason is not null and run_after <= now()", "task_waiting"),
        ("select id from atlas.attempt where state = 'running' and lease_expires_at < now()", "attempt_one_running"),
        ("select 1 from atlas.task where wait_scope = any (array['global'])", "task_waiting_budget"),
    ):  # fmt: skip
        plan = "\n".join(row[0] for row in await db.fetch("explain " + query))
        assert index in plan, plan
        assert "Seq Scan on task" not in plan, plan


async def test_an_idle_worker_is_told_when_a_waiting_task_is_due(db: asyncpg.Connection) -> None:
    assert await db.fetchval("select atlas.next_due()") is None
    await ask(db)
    assert await db.fetchval("select atlas.next_due()") is None, "one that is ready waits for nothing"
    later = datetime.now(UTC) + timedelta(minutes=10)
    await ask(db, "Later?", run_after=later.isoformat())
    assert 590 < await db.fetchval("select atlas.next_due()") <= 600
    await db.execute("update atlas.task set run_after = now() - interval '1 s' where wait_reason is not null")
    assert await db.fetchval("select atlas.next_due()") == 0
    await db.execute("select atlas.pause('a while')")
    assert await db.fetchval("select atlas.next_due()") is None, "nobody would claim it"


async def test_ids_that_are_made_together_lie_together(db: asyncpg.Connection) -> None:
    """UUIDv7: the time first, to the millisecond, and 74 random bits."""
    before = time.time_ns() // 1_000_000
    made = [await db.fetchval("select atlas.new_id()") for _ in range(200)]
    after = time.time_ns() // 1_000_000
    for one in made:
        assert (one.version, one.variant) == (7, RFC_4122)
        assert before - 1 <= one.int >> 80 <= after + 1
    assert [one.int >> 80 for one in made] == sorted(one.int >> 80 for one in made)
    made += await db.fetchval("select array_agg(atlas.new_id()) from generate_series(1, 1000)")
    assert len(set(made)) == 1200, "also within one statement"
