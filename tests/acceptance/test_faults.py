"""Workers killed with -9, Postgres restarted, connections cut: nothing is lost, nothing is paid for twice."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import asyncpg
import pytest

from atlas.local.postgres import EmbeddedPostgres
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, Database, Json, Workers, ask, ended, reply, until


@pytest.fixture
def settings(openai: OpenAIDouble) -> Json:
    return {"openai_api_key": "test", "openai_base_url": openai.url, "openai_fallback_models": "none"}


async def streaming(db: asyncpg.Connection, task: object) -> None:
    await until(lambda: db.fetchrow("select 1 from atlas.reply_part where task_id = $1", task), 20, "it streams")


async def test_a_worker_killed_mid_stream_is_taken_up_and_paid_for_once(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR, delay=0.25)
    first = await workers.start(**settings, atlas_lease_seconds=4)
    task = await ask(db)
    await streaming(db, task)
    first.process.send_signal(signal.SIGKILL)
    await workers.start(**settings, atlas_lease_seconds=4)
    row = await ended(db, task)
    assert (row["state"], row["attempts"]) == ("completed", 2)
    assert (await reply(db, task))["content"] == ADR
    assert len(openai.calls) == 1, "the response was taken up, not generated again"
    spent = await db.fetch("select known, tokens, state from atlas.spend")
    assert [dict(call) for call in spent] == [{"known": "reported", "tokens": 150, "state": "settled"}]
    finals = await db.fetch("select 1 from public.architect_out where data #>> '{metadata,status}' = 'completed'")
    assert len(finals) == 1
    parts = await db.fetch(
        "select p.text, p.inherited from atlas.reply_part p join atlas.attempt a on a.id = p.attempt_id where a.number = 2 "
        'order by "offset"'
    )
    assert parts[0]["inherited"], "readers have that already"
    assert ADR.startswith("".join(part["text"] for part in parts))
    assert await db.fetch("select * from atlas.verify_audit()") == []


async def test_a_killed_worker_whose_call_cannot_be_taken_up_counts_in_full(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR, delay=0.25)
    first = await workers.start(**settings, atlas_lease_seconds=4, openai_background="off")
    task = await ask(db)
    await streaming(db, task)
    first.process.send_signal(signal.SIGKILL)
    await workers.start(**settings, atlas_lease_seconds=4, openai_background="off")
    assert (await ended(db, task))["state"] == "completed"
    spent = await db.fetch("select known, tokens = reserved_tokens as full from atlas.spend order by id")
    assert [dict(call) for call in spent] == [{"known": "unknown", "full": True}, {"known": "reported", "full": False}]
    assert await db.fetchval("select sum(reserved_tokens) from atlas.budget_day") == 0


async def test_sigterm_finishes_what_runs_and_exits_0(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR, delay=0.05)
    worker = await workers.start(**settings)
    task = await ask(db)
    await streaming(db, task)
    worker.process.send_signal(signal.SIGTERM)
    later = await ask(db, "too late")
    assert await asyncio.to_thread(worker.process.wait, 30) == 0
    assert await db.fetchval("select state from atlas.task where id = $1", task) == "completed"
    assert await db.fetchval("select state from atlas.task where id = $1", later) == "queued"
    assert await db.fetchval("select state from atlas.worker") == "stopped"


@pytest.mark.long
async def test_sigterm_hands_back_what_takes_too_long_and_another_goes_on(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR, delay=2.2)
    worker = await workers.start(**settings, atlas_lease_seconds=60)
    task = await ask(db)
    await streaming(db, task)
    worker.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.process.wait, 32) == 0
    row = await db.fetchrow("select state, failures from atlas.task where id = $1", task)
    assert dict(row) == {"state": "queued", "failures": 0}
    await workers.start(**settings)
    assert (await ended(db, task, 40))["state"] == "completed"
    assert (await reply(db, task))["content"] == ADR
    assert len(openai.calls) == 1


async def test_all_backends_terminated_is_a_pause(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json, database: Database
) -> None:
    openai.plan(text=ADR, delay=0.1)
    worker = await workers.start(**settings)
    tasks = [await ask(db, f"question {n}") for n in range(5)]
    await streaming(db, tasks[0])
    for _ in range(3):
        async with database.connect("supabase_admin") as admin:
            await admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and usename = 'atlas_worker'"
            )
        await asyncio.sleep(0.2)
    for task in tasks:
        assert (await ended(db, task))["state"] == "completed"
    assert len(openai.calls) == 5
    assert await db.fetchval("select count(*) from atlas.spend") == 5
    # LISTEN is back too: an idle worker picks the next one up at once
    await until(lambda: db.fetchrow("select 1 from atlas.worker where state = 'idle'"), 20, "the worker is idle")
    listening = "select 1 from pg_stat_activity where datname = current_database() and application_name = 'atlas listen'"
    await until(lambda: db.fetchrow(listening), 20, "it listens again")
    row = await ended(db, await ask(db, "one more"))
    assert row["state"] == "completed"
    assert worker.process.poll() is None


async def test_postgres_restarted_is_a_pause(tmp_path: Path, openai: OpenAIDouble, settings: Json) -> None:
    """On a server of its own, since the others need theirs."""
    from atlas.local.stack import Stack
    from tests.support.core import workers_of

    stack = Stack(tmp_path / "home")
    cluster = stack.start_postgres()
    try:
        await stack.prepare(cluster)
        database = Database(cluster=cluster, name="postgres")
        openai.plan(text=ADR, delay=0.1)
        with workers_of(database, tmp_path) as workers:
            worker = await workers.start(**settings, atlas_lease_seconds=20)
            async with database.connect() as db:
                tasks = [await ask(db, f"question {n}") for n in range(3)]
                await streaming(db, tasks[0])
            for mode in ("fast", "immediate"):
                EmbeddedPostgres(stack.home).stop(mode)
                await asyncio.sleep(0.5)
                assert (await asyncio.to_thread(worker.get, "/livez"))[0] == 200
                assert (await asyncio.to_thread(worker.get, "/readyz"))[0] == 503
                stack.start_postgres()
            async with database.connect() as db:
                for task in tasks:
                    assert (await ended(db, task, 60))["state"] == "completed"
                    assert (await reply(db, task))["content"] == ADR
                assert await db.fetchval("select sum(reserved_tokens) from atlas.budget_day") == 0
                assert await db.fetchval("select count(*) from atlas.spend") == 3
            assert worker.process.poll() is None
    finally:
        stack.postgres.stop("immediate")


async def test_a_worker_that_loses_its_lease_stops_its_call_at_once(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json
) -> None:
    openai.plan(text=ADR * 3, delay=0.1)
    worker = await workers.start(**settings)
    task = await ask(db)
    await streaming(db, task)
    await db.execute("select atlas.pause()")
    await db.execute("update atlas.attempt set lease_expires_at = now() - interval '1 s'")
    await db.execute("select atlas.release_expired()")

    async def stopped() -> bool:
        return await asyncio.to_thread(worker.metric, "atlas_lease_losses_total") == 1

    await until(stopped, 3, "the call is stopped")
    assert await db.fetchval("select count(*) from public.architect_out where data ->> 'content' <> ''") == 0
    await db.execute("select atlas.resume()")
    assert (await ended(db, task))["state"] == "completed"
    assert len(openai.calls) == 1


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.long)])
async def test_many_tasks_are_each_answered_exactly_once_by_two_workers(
    workers: Workers, db: asyncpg.Connection, count: int
) -> None:
    await db.execute("select atlas.set_budget('global', '{\"daily\": null}')")
    for _ in range(2):
        await workers.start(atlas_lease_seconds=30)
    await db.execute(
        "insert into public.architect_in (data) select jsonb_build_object('task_id', gen_random_uuid(), 'role', 'architect', "
        "'msg_type', 'chat', 'content', 'question ' || n) from generate_series(1, $1::int) n",
        count,
    )
    left = "select count(*) = 0 from atlas.task where finished_at is null"
    await until(lambda: db.fetchval(left), 120, "all are answered")
    rows = await db.fetch(
        "select t.state, count(o.id) filter (where o.data #>> '{metadata,status}' = 'completed') as replies, "
        "count(o.id) as messages from atlas.task t join public.architect_out o on o.task_id = t.id group by t.id"
    )
    assert len(rows) == count
    assert {(row["state"], row["replies"], row["messages"]) for row in rows} == {("completed", 1, 2)}
    shares = await db.fetch("select count(*) from atlas.attempt group by lease_owner")
    assert len(shares) == 2, "both worked"
    assert await db.fetchval("select count(*) from atlas.outbox") == count


async def test_a_dead_worker_loop_does_not_look_alive(workers: Workers, db: asyncpg.Connection) -> None:
    worker = await workers.start()
    assert (await asyncio.to_thread(worker.get, "/livez"))[0] == 200
    assert (await asyncio.to_thread(worker.get, "/healthz"))[0] == 200
    # a defect of the kind no retry fixes: its functions are gone, so nothing can be claimed or observed
    await db.execute("alter schema atlas rename to away")
    code, body = await asyncio.to_thread(worker.get, "/readyz")
    assert (code, json.loads(body)["status"]) == (503, "Postgres does not answer")
    await db.execute("alter schema away rename to atlas")

    async def ready() -> bool:
        return (await asyncio.to_thread(worker.get, "/readyz"))[0] == 200

    await until(ready, 20, "the functions are found again")
    assert (await ended(db, await ask(db)))["state"] == "completed"
