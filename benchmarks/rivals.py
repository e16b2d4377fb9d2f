"""No-op jobs on other queues of PyPI, on the same Postgres. Each gets an empty database, and jobs that are enqueued before the
clock starts; the rate is from the start of its worker to the last job that it recorded as done."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg


async def procrastinate(url: str, jobs: int, concurrency: int) -> float:
    """Jobs a second; each job is fetched and finished in commits of its own."""
    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=url, min_size=4, max_size=16))

    @app.task(name="noop", queue="bench")
    async def noop(number: int) -> None:
        return None

    clock = await asyncpg.connect(url)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await noop.batch_defer_async(*[{"number": number} for number in range(jobs)])
        began = await clock.fetchval("select clock_timestamp()")
        await app.run_worker_async(queues=["bench"], concurrency=concurrency, wait=False, install_signal_handlers=False)
    done, last = await clock.fetchrow("select count(*), max(at) from procrastinate_events where type = 'succeeded'")
    await clock.close()
    return _rate(done, jobs, (last - began).total_seconds())


async def pgqueuer(url: str, jobs: int, concurrency: int) -> float:
    """Jobs a second; completions are written in batches of 10, not one durable commit a job. Its least concurrency is 2."""
    from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries
    from pgqueuer.types import QueueExecutionMode

    connection, clock = await asyncpg.connect(url), await asyncpg.connect(url)
    queue, queries = PgQueuer(AsyncpgDriver(connection)), Queries(AsyncpgDriver(clock))
    await queries.install()

    @queue.entrypoint("noop")
    async def noop(job: Job) -> None:
        return None

    await queries.enqueue(["noop"] * jobs, [None] * jobs, [0] * jobs)
    batch = max(1, min(10, concurrency // 2))
    began = await clock.fetchval("select clock_timestamp()")
    await queue.qm.run(
        batch_size=batch,
        max_concurrent_tasks=max(concurrency, 2 * batch),
        mode=QueueExecutionMode.drain,
        dequeue_timeout=timedelta(seconds=0.2),
    )
    done, last = await clock.fetchrow("select count(*), max(created) from pgqueuer_log where status = 'successful'")
    await asyncio.gather(connection.close(), clock.close())
    return _rate(done, jobs, (last - began).total_seconds())


async def dbos(url: str, jobs: int, concurrency: int) -> float:
    """Workflows a second; it polls, here every millisecond (its default is every second)."""
    import sqlalchemy as sa
    from dbos import DBOS, DBOSClient, run_dbos_database_migrations

    def enqueue() -> None:
        run_dbos_database_migrations(url)
        client = DBOSClient(system_database_url=url, application_name="bench")
        client.register_queue("q", worker_concurrency=concurrency, polling_interval_sec=0.001)
        engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
        with engine.begin() as transaction:
            for _ in range(jobs):
                client.enqueue_in_transaction(transaction, {"workflow_name": "noop", "queue_name": "q"})
        engine.dispose()
        client.destroy()

    await asyncio.to_thread(enqueue)
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})

    @DBOS.workflow(name="noop")
    async def noop() -> None:
        return None

    clock = await asyncpg.connect(url)
    began = await clock.fetchval("select extract(epoch from clock_timestamp())::float8 * 1000")
    await asyncio.to_thread(DBOS.launch)
    async with asyncio.timeout(300):
        while await clock.fetchval("select 1 from dbos.workflow_status where status <> 'SUCCESS' limit 1"):
            await asyncio.sleep(0.05)
    await asyncio.to_thread(DBOS.destroy, destroy_registry=True)
    done, last = await clock.fetchrow("select count(*), max(completed_at) from dbos.workflow_status")
    await clock.close()
    return _rate(done, jobs, float(last - began) / 1000)


def _rate(done: Any, jobs: int, seconds: float) -> float:
    if done != jobs:
        raise RuntimeError(f"{done} of {jobs} jobs were done")
    return jobs / seconds
