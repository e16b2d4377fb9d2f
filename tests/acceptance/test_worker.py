"""The worker's three entries, its HTTP stand_in, wake-ups and idling."""

from __future__ import annotations

import asyncio
import signal
import time
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.support.core import Workers, ask, ended, until

IDLE = "select 1 from atlas.worker where state = 'idle'"


async def test_all_three_entries_run_a_worker(workers: Workers, db: asyncpg.Connection) -> None:
    entries = (
        ("-m", "atlas.main"),
        ("-m", "atlas.cli", "worker"),
        ("-m", "uvicorn", "atlas.main:app", "--port", "{port}"),
    )
    for entry in entries:
        worker = await workers.start(entry)
        assert (await ended(db, await ask(db)))["state"] == "completed"
        for path in ("/healthz", "/livez", "/readyz"):
            assert (await asyncio.to_thread(worker.get, path))[0] == 200, path
        worker.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(worker.process.wait, 35)
        # uvicorn's own command raises the signal again when it is done
        assert code == (-signal.SIGTERM if "uvicorn" in entry else 0)


async def test_metrics_carry_the_manuals_names_and_the_queue(workers: Workers, db: asyncpg.Connection) -> None:
    await db.execute("select atlas.set_budget('global', '{\"usd_daily\": 3}')")
    worker = await workers.start()
    await ended(db, await ask(db))

    async def observed() -> bool:
        text = (await asyncio.to_thread(worker.get, "/metrics"))[1]
        return 'atlas_budget_limit{period="day",scope="global",unit="usd"} 3.0' in text and "atlas_run_seconds_bucket" in text

    await until(observed, 15, "the queue is observed")
    text = worker.get("/metrics")[1]
    for name in (
        "atlas_tokens_total", "atlas_run_seconds_bucket", 'dead_letter_count{kind="task"} 0.0', "atlas_first_token_seconds_count 1.0",
        'atlas_queue_depth{state="queued"}', "atlas_queue_age_seconds", 'atlas_claims_total{result="tasks"}', "atlas_lease_losses_total",
        'atlas_wake_ups_total{source="listen_join"}', "atlas_fallbacks_total", 'atlas_budget_used{period="day",scope="global",unit="tokens"}',
        'atlas_budget_limit{period="day",scope="global",unit="tokens"} 250000.0', "atlas_pick_up_seconds_count 1.0",
    ):  # fmt: skip
        assert name in text, name


async def test_an_idle_worker_is_woken_and_a_thousand_empty_wake_ups_do_no_harm(
    workers: Workers, db: asyncpg.Connection
) -> None:
    worker = await workers.start()
    await until(lambda: db.fetchrow(IDLE), 20, "it is idle")
    for _ in range(1000):
        await db.execute("notify atlas_wake")
    task = await ask(db)
    began = time.monotonic()
    await ended(db, task)
    assert time.monotonic() - began < 5, "woken, and not found by the sweep"
    assert worker.process.poll() is None
    assert worker.metric('atlas_wake_ups_total{source="listen"}') > 0


async def test_a_sweep_finds_what_no_wake_up_announced(workers: Workers, db: asyncpg.Connection) -> None:
    worker = await workers.start()
    await until(lambda: db.fetchrow(IDLE), 20, "it is idle")

    async def swept() -> bool:
        return await asyncio.to_thread(worker.metric, 'atlas_wake_ups_total{source="sweep"}') >= 1

    # by then its own looks after it went idle are over
    await until(swept, 15, "the timer goes")
    await db.execute("update atlas.worker set state = 'busy'")  # so that the insert sends no NOTIFY
    assert (await ended(db, await ask(db), 25))["state"] == "completed"


async def test_a_message_with_a_nul_in_the_providers_error_harms_nobody(workers: Workers, db: asyncpg.Connection) -> None:
    from tests.doubles.openai import OpenAIDouble

    with OpenAIDouble() as openai:
        openai.plan(error=(400, {"code": "invalid_prompt", "message": "bad \x00 thing"}))
        worker = await workers.start(openai_api_key="k", openai_base_url=openai.url, openai_fallback_models="none")
        row = await ended(db, await ask(db))
        assert row["state"] == "failed"
        assert "bad \ufffd thing" in row["error_message"]
        assert worker.process.poll() is None


@pytest.mark.long
async def test_sigterm_ends_the_worker_also_while_postgres_refuses(workers: Workers, db: asyncpg.Connection) -> None:
    from tests.doubles.openai import OpenAIDouble
    from tests.support.core import ADR

    with OpenAIDouble() as openai:
        openai.plan(text=ADR, delay=5)
        worker = await workers.start(openai_api_key="k", openai_base_url=openai.url, atlas_lease_seconds=60)
        await ask(db)
        await until(lambda: db.fetchrow("select 1 from atlas.attempt where response_id is not null"), 20, "it runs")
        name = await db.fetchval("select current_database()")
        async with workers.database.connect("supabase_admin") as admin:
            await admin.execute("alter role atlas_worker nologin")
            try:
                await admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'atlas_worker' and datname = $1",
                    name,
                )
                began = time.monotonic()
                worker.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(worker.process.wait, 40)
                assert time.monotonic() - began < 30
            finally:
                await admin.execute("alter role atlas_worker login")


async def test_a_task_that_waits_is_taken_when_it_is_due(workers: Workers, db: asyncpg.Connection) -> None:
    """Nothing announces it, and the sweep would come ten seconds later."""
    await workers.start()
    await until(lambda: db.fetchrow("select 1 from atlas.worker where state = 'idle'"), 20, "the worker is idle")
    await asyncio.sleep(3)
    due = datetime.now(UTC) + timedelta(seconds=3)
    task = await ask(db, "Later?", run_after=due.isoformat())
    row = await ended(db, task, 12)
    assert 0 <= (row["started_at"] - due).total_seconds() < 2
