"""Wake-ups of real workers: over Realtime alone, beside LISTEN, through a transaction pooler, in a fleet, and when all of it lies."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from atlas.database.operator import connect as connect_operator
from atlas.database.pool import Pool
from atlas.database.queue import PostgresQueue
from atlas.database.tasks import PostgresTasks
from atlas.local.supabase.app import StandIn
from atlas.messages import chat
from atlas.metrics.worker import Metrics
from atlas.supabase.channel import Patience
from atlas.supabase.tokens import KeyTokens
from atlas.task import AttemptId, ClaimedTask, TaskId
from atlas.wake_ups.listen import ListenWakeUps
from atlas.wake_ups.realtime import RealtimeWakeUps
from atlas.wake_ups.sweep import SweepWakeUps
from atlas.worker.wake_signal import WakeSignal
from tests.doubles.openai import OpenAIDouble
from tests.doubles.pooler import pooling
from tests.support.core import ADR, Database, WorkerProcess, Workers, ask, command, ended, stand_in_of, until
from tests.support.faults import Faults
from tests.support.people import ANN, acting

TASK = ClaimedTask(
    task_id=TaskId(uuid4()), attempt_id=AttemptId(uuid4()), attempt=1, kind="chat", message={}, message_task_id=uuid4(), sender_key="x",
    project_id=uuid4(), parent_id=None, queued_at=datetime.now(UTC), lease_expires_at=datetime.now(UTC), cancel_requested=False,
    label_key=uuid4(), per_run=None, inherited=None,
)  # fmt: skip


def supabase(stand_in: StandIn) -> dict[str, Any]:
    return {
        "supabase_url": stand_in.url,
        "supabase_secret_key": stand_in.keys.secret,
        "supabase_jwt_secret": stand_in.keys.jwt_secret,
    }


async def receiving(worker: WorkerProcess) -> None:
    async def look() -> bool:
        return await asyncio.to_thread(worker.metric, 'atlas_realtime_state{state="receiving"}') == 1

    await until(look, 20, "Realtime is received")


async def metric(worker: WorkerProcess, line: str) -> float:
    return await asyncio.to_thread(worker.metric, line)


@pytest.mark.parametrize("role", ["authenticated", "service_role", "postgres"])
async def test_an_insert_of_any_role_is_heard_in_both_ways(database: Database, role: str) -> None:
    heard: list[str] = []
    async with stand_in_of(database) as stand_in:
        wake_ups = RealtimeWakeUps(stand_in.url, KeyTokens(stand_in.keys.service_role))
        job = asyncio.create_task(wake_ups.run(lambda source, _cancel: heard.append(source)))
        try:
            await until(lambda: _is(heard.count("realtime_join") == 2), 10, "receiving")
            async with acting(database, role, ANN) as db:
                await db.execute(
                    "insert into public.architect_in (data) select x from jsonb_array_elements($1::jsonb) x",
                    [chat("a"), chat("b")],
                )
            await until(lambda: _is("realtime_broadcast" in heard and "realtime_changes" in heard), 10, role)
            await asyncio.sleep(0.7)
        finally:
            job.cancel()
    # one broadcast a statement, one change a row
    assert (heard.count("realtime_broadcast"), heard.count("realtime_changes")) == (1, 2)


async def _is(value: bool) -> bool:
    return value


@pytest.mark.alone
async def test_a_worker_behind_a_transaction_pooler_works_over_realtime(
    database: Database, db: asyncpg.Connection, workers: Workers
) -> None:
    async with pooling(database.cluster.port) as pooler, stand_in_of(database) as stand_in:
        url = database.url("atlas_worker").replace(f":{database.cluster.port}/", f":{pooler.port}/")
        worker = await workers.start(database_url=url, **supabase(stand_in))
        await receiving(worker)
        tasks = [await ask(db, f"Question {n}?") for n in range(40)]
        for task in tasks:
            assert (await ended(db, task))["state"] == "completed"
        # how many there are depends on how many tasks share one: more than there are servers, so that each is used in turn
        assert pooler.transactions > 20
        log = worker.log.read_text()
        assert "prepared statements get lost here" in log or "none are used" in log
        await until(lambda: _is("LISTEN does not work here" in worker.log.read_text()), 10, "LISTEN is off by itself")
        # idle again: the next one is announced by Realtime alone
        before = await metric(worker, 'atlas_wake_ups_total{source="realtime_broadcast"}')
        await asyncio.sleep(1)
        assert (await ended(db, await ask(db, "And now?"), 5))["state"] == "completed"
        assert await metric(worker, 'atlas_wake_ups_total{source="realtime_broadcast"}') > before
        assert await metric(worker, 'atlas_wake_ups_total{source="listen"}') == 0


async def test_a_pooler_is_known_by_its_port_or_found_out(database: Database) -> None:
    assert Pool("postgresql://x@aws-0.pooler.supabase.com:6543/postgres", size=1, patience=1).pooled
    assert not Pool("postgresql://x@db.example.com:5432/postgres", size=1, patience=1).pooled
    async with pooling(database.cluster.port) as pooler:
        url = database.url("atlas_worker").replace(f":{database.cluster.port}/", f":{pooler.port}/")
        async with Pool.connect(url, size=4) as bus:
            await asyncio.gather(*(bus.ping() for _ in range(50)))
            assert bus.pooled
            await asyncio.gather(*(PostgresQueue(bus).has_work(chats=True) for _ in range(50)))


@pytest.mark.alone
async def test_listen_and_realtime_run_side_by_side(database: Database, db: asyncpg.Connection, workers: Workers) -> None:
    async with stand_in_of(database) as stand_in:
        worker = await workers.start(**supabase(stand_in))
        await receiving(worker)
        await asyncio.sleep(0.5)
        for n in range(5):
            assert (await ended(db, await ask(db, f"Question {n}?")))["state"] == "completed"
            await asyncio.sleep(0.7)
        text = (await asyncio.to_thread(worker.get, "/metrics"))[1]
        seen = dict(re.findall(r'atlas_wake_ups_total\{source="(\w+)"\} ([\d.]+)', text))
        assert {"listen", "realtime_broadcast", "realtime_changes", "realtime_join"} <= seen.keys()
        first = dict(re.findall(r'atlas_wake_ups_first_total\{source="(\w+)"\} ([\d.]+)', text))
        # each of the five questions had one hint that came before the others
        assert 5 <= sum(map(float, first.values())) <= sum(map(float, seen.values()))
        assert first.keys() <= seen.keys()
        assert await metric(worker, "atlas_wake_ups_missed_total") == 0


@pytest.mark.long
async def test_what_wake_ups_miss_is_found_by_a_sweep_and_makes_sweeps_frequent(
    database: Database, db: asyncpg.Connection, workers: Workers
) -> None:
    faults = Faults.quick()
    async with stand_in_of(database, faults) as stand_in, pooling(database.cluster.port) as pooler:
        url = database.url("atlas_worker").replace(f":{database.cluster.port}/", f":{pooler.port}/")
        worker = await workers.start(database_url=url, **supabase(stand_in))
        await receiving(worker)
        await until(lambda: _is("LISTEN does not work here" in worker.log.read_text()), 10, "LISTEN is off")
        await asyncio.sleep(4)
        faults.deaf = faults.no_broadcasts = True
        took = []
        for n in range(4):
            began = asyncio.get_running_loop().time()
            assert (await ended(db, await ask(db, f"Unheard {n}?"), 40))["state"] == "completed"
            took.append(asyncio.get_running_loop().time() - began)
            await asyncio.sleep(4)  # a worker that had work looks by itself for a while
        missed = await metric(worker, "atlas_wake_ups_missed_total")
        assert missed >= 3, took
        assert max(took) < 16, "the longest sweep"
        assert min(took[1:]) < 3, "after a miss it is short"
        # after three of them the session is not trusted any more
        assert await metric(worker, 'atlas_realtime_troubles_total{kind="deaf"}') >= 1


@pytest.mark.alone
async def test_twenty_workers_and_one_insert(database: Database, db: asyncpg.Connection) -> None:
    """Twenty claimers of one process each hear the same insert: one claim wins, few lose."""
    from tests.support.fleet import fleet

    async with fleet(database, 20) as found:
        await found.until_idle()
        await asyncio.sleep(6)  # each has counted the others since
        losses = []
        for n in range(10):
            before = found.claims()
            task = await ask(db, f"Question {n}?")
            await ended(db, task)
            await found.until_idle()
            won, lost, _ = (after - earlier for after, earlier in zip(found.claims(), before, strict=True))
            assert won == 1
            losses.append(lost)
        # of the nineteen others, who would all lose if none waited for its turn
        assert sorted(losses)[5] <= 9, losses
        won, lost, spared = found.claims()
        print(f"20 workers, 10 inserts: {won:.0f} claims won, {lost:.0f} lost, {spared:.0f} spared")


async def test_a_full_worker_claims_no_question(db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble) -> None:
    openai.plan(text=ADR, chunk=10, delay=0.1)
    worker = await workers.start(openai_api_key="sk-test", openai_base_url=openai.url, atlas_concurrency=1)
    await ask(db, "The only one that fits?")
    await until(lambda: db.fetchrow("select 1 from atlas.task where state = 'running'"), 10, "it runs")

    async def claims() -> list[float]:
        return [await metric(worker, f'atlas_claims_total{{result="{result}"}}') for result in ("tasks", "empty")]

    async def counted() -> list[float] | None:
        return now if (now := await claims())[0] == 1 else None  # Postgres shows a claim before the worker has counted it

    before = await until(counted, 10, "the worker counts its claim")
    for n in range(10):
        await ask(db, f"One of many {n}?")
    await asyncio.sleep(1)
    assert await claims() == before
    # commands get through all the same
    answer = await command(db, {"command": "heartbeat"})
    await until(lambda: db.fetchrow("select 1 from public.architect_out where task_id = $1", answer), 10, "a heartbeat")


async def test_whether_there_is_work_is_a_plain_read(database: Database, db: asyncpg.Connection) -> None:
    async with Pool.connect(database.url("atlas_worker")) as bus:
        assert not await PostgresQueue(bus).has_work(chats=True)
        await ask(db)
        assert await PostgresQueue(bus).has_work(chats=True)
        assert not await PostgresQueue(bus).has_work(chats=False)
        await db.execute("select atlas.pause('maintenance')")
        assert not await PostgresQueue(bus).has_work(chats=True)
        await command(db, {"command": "heartbeat"})
        assert await PostgresQueue(bus).has_work(chats=False), "commands are carried out while the queue is paused"


async def test_the_sweep_adapts() -> None:
    woken: list[str] = []
    sweep = SweepWakeUps(shortest=0.01, longest=0.08)
    job = asyncio.create_task(sweep.run(lambda source, _cancel: woken.append(source)))
    await asyncio.sleep(0.1)
    assert sweep.every == 0.08
    sweep.missed(1)
    await asyncio.sleep(0)
    assert sweep.every == 0.01
    count = len(woken)
    await asyncio.sleep(0.05)
    assert len(woken) >= count + 2
    await asyncio.sleep(0.2)
    assert sweep.every == 0.08
    job.cancel()


async def test_a_cancellation_is_heard_over_realtime(database: Database, db: asyncpg.Connection) -> None:
    heard: list[bool] = []
    async with stand_in_of(database) as stand_in:
        wake_ups = RealtimeWakeUps(stand_in.url, KeyTokens(stand_in.keys.secret), patience=Patience(look=0.02))
        job = asyncio.create_task(wake_ups.run(lambda _source, cancel: heard.append(cancel)))
        try:
            task = await ask(db)
            await db.fetch("select * from atlas.claim_tasks(gen_random_uuid(), 1, 0, interval '1 hour')")
            await until(lambda: _is(len(heard) >= 2), 10, "joined")
            await db.execute("select atlas.cancel_task($1)", task)
            await until(lambda: _is(True in heard), 10, "the cancellation")
        finally:
            job.cancel()


def test_a_supabase_without_postgres_or_key_is_refused_by_name(tmp_path: Any) -> None:
    from tests.support.core import run_atlas

    done = run_atlas("worker", env={"SUPABASE_URL": "http://127.0.0.1:9", "ATLAS_HOME": str(tmp_path)})
    assert (done.returncode, "DATABASE_URL" in done.stderr) == (2, True)
    done = run_atlas("worker", env={"SUPABASE_URL": "http://127.0.0.1:9/rest", "ATLAS_HOME": str(tmp_path)})
    assert (done.returncode, "without a path" in done.stderr) == (2, True)


async def test_listen_tries_itself_out(database: Database) -> None:
    woken: list[str] = []
    listen = ListenWakeUps(database.url("atlas_worker"))
    job = asyncio.create_task(listen.run(lambda source, _cancel: woken.append(source)))
    await until(lambda: _is(listen.works is True and len(woken) > 0), 10, "LISTEN works")
    job.cancel()


async def test_the_cli_works_through_a_transaction_pooler(database: Database, db: asyncpg.Connection) -> None:
    await ask(db, "Through a pooler?")
    async with pooling(database.cluster.port) as pooler:
        url = database.url().replace(f":{database.cluster.port}/", f":{pooler.port}/")

        async def read() -> list[str]:
            async with connect_operator(url) as operator:
                reads = PostgresTasks(operator)
                for _ in range(10):
                    rows = await reads.tasks(limit=5, state=None, sender=None, project=None)
                    await reads.spend("day", since=None, until=None)
                return [row["title"] for row in rows]

        assert await asyncio.gather(*(read() for _ in range(4))) == [["Through a pooler?"]] * 4


async def test_listen_waits_between_its_tries(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    """The second connection is refused, as where Postgres is out of slots: no flood."""
    count = 0
    real = asyncpg.connect

    async def connect(*arguments: Any, **options: Any) -> asyncpg.Connection:
        nonlocal count
        count += 1
        if count % 2 == 0:
            raise asyncpg.TooManyConnectionsError("too many")
        return await real(*arguments, **options)

    monkeypatch.setattr("atlas.wake_ups.listen.asyncpg.connect", connect)
    job = asyncio.create_task(ListenWakeUps(database.url("atlas_worker")).run(lambda _source, _cancel: None))
    await asyncio.sleep(2)
    job.cancel()
    assert 2 <= count < 40


def test_rows_found_by_a_join_or_after_a_vain_look_are_missed_ones() -> None:
    told: list[int] = []
    signal = WakeSignal(Metrics(), [told.append])
    late = replace(TASK, queued_at=datetime.now(UTC) - timedelta(seconds=7))
    signal.take("realtime_join")
    signal.count_missed([late] * 10, idle=True)
    signal.take("realtime_broadcast")
    signal.found_nothing()
    signal.count_missed([late], idle=True)
    assert told == [10, 1]
    for source in ("realtime_broadcast", "realtime_changes", "listen"):
        signal.take(source)
        signal.count_missed([late], idle=True)
    signal.count_missed([replace(late, attempt=2)], idle=True)
    signal.count_missed([late], idle=False)
    signal.count_missed([replace(late, queued_at=datetime.now(UTC))], idle=True)
    signal.count_missed([replace(late, message={"metadata": {"run_after": "2026-12-01T00:00:00Z"}})], idle=True)
    assert told == [10, 1]
