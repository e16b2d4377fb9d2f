"""The worker is killed with -9 at each statement and each event of a task's life, before and after; whatever the point, the task is
answered once, and after reconciliation the books are the provider's ledger."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
from collections.abc import Container
from pathlib import Path

import asyncpg
import pytest

from tests.doubles.openai import OpenAIDouble, usage
from tests.support.core import ADR, Json, Workers, ask, ended, reply, until

LIFE = (
    "has_work", "claim_tasks", "list_models", "search_task", "recall", "reserve_tokens", "lease_rate", "record_progress",
    "record_model", "record_usage", "complete_tasks", "fail_task", "mark_worker", "next_due", "remember",
    "RateLimits", "Started", "Delta", "Finished",
)  # fmt: skip
"""What belongs to a task's life; what a worker does every so often is not."""

BY_THE_CLOCK = {"has_work", "list_models", "lease_rate", "mark_worker", "next_due"}
"""Of these, what a life may also do without: a slow machine finds it done, or not due, by a round."""

CRASH = ("-m", "tests.support.crash")
DEPTH = 3
"""How often a point that comes again is tried: the first times."""


@pytest.fixture
def settings(openai: OpenAIDouble) -> Json:
    # the first text is flawed, so that a life has two calls; the pace lets several parts be stored
    openai.plan(text=ADR, delay=0.03, usage=usage(200, 60))
    openai.plan(text="# Only a title" + " and more" * 20, delay=0.03, usage=usage(100, 50), times=1)
    return {
        "openai_api_key": "test", "openai_base_url": openai.url, "openai_fallback_models": "none", "atlas_lease_seconds": 2,
        "atlas_held_retry_seconds": 1, "atlas_hold_seconds": 2,
    }  # fmt: skip


def armed(workers: Workers) -> Path:
    return workers.folder / "armed"


async def points(workers: Workers, db: asyncpg.Connection, settings: Json, folder: Path) -> list[str]:
    """All points of one life, from a worker that is not killed."""
    listed = folder / "points"
    worker = await workers.start(CRASH, **settings, crash_list=listed, crash_armed=armed(workers))
    await until(lambda: db.fetchrow("select 1 from atlas.worker where state = 'idle'"), 20, "it is idle")
    armed(workers).touch()
    await ended(db, await ask(db, "How do we ship?"))
    await until(lambda: asyncio.sleep(0, "complete_tasks:1:after" in listed.read_text()), 10, "it goes on")
    worker.process.kill()
    found = dict.fromkeys(listed.read_text().split())
    numbers: dict[str, int] = {}
    lasting = []
    for point in found:
        name, _, when = point.split(":")
        if name in LIFE:
            key = f"{name}:{when}"
            numbers[key] = numbers.get(key, 0) + 1
            if numbers[key] <= DEPTH:
                lasting.append(f"{name}:{numbers[key]}:{when}")
    return lasting


async def killed_at(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json, point: str, must_die: Container[str]
) -> None:
    """Whether all is well after a worker was killed there."""
    armed(workers).unlink(missing_ok=True)
    first = await workers.start(CRASH, **settings, crash_at=point, crash_armed=armed(workers))
    await until(lambda: db.fetchrow("select 1 from atlas.worker where state = 'idle'"), 20, "it is idle")
    armed(workers).touch()
    task = await ask(db, "How do we ship?")
    # a point that this life does not come to (fewer parts, say) lets it go on to its end
    await until(lambda: _over(first, db, task), 30, f"{point}: it dies, or the task ends")
    with contextlib.suppress(subprocess.TimeoutExpired):
        # the reply may be seen before the point after its commit is come to
        await asyncio.to_thread(first.process.wait, 3)
    if first.process.poll() is None:
        assert point not in must_die, f"{point} was not come to"
    else:
        assert first.process.returncode == -signal.SIGKILL, f"{point}: {first.process.returncode}"
    first.process.kill()
    await workers.start(**settings)
    row = await ended(db, task, 40)
    assert row["state"] == "completed", (point, dict(row))
    assert (await reply(db, task))["content"] in (ADR, "# Only a title" + " and more" * 20), point
    finals = await db.fetchval("select count(*) from public.architect_out where data #>> '{metadata,status}' = 'completed'")
    assert finals == 1, point
    await until(
        lambda: db.fetchval("select count(*) = 0 from atlas.spend where state <> 'settled'"), 40, f"{point}: all is settled"
    )
    # the provider tells of all its responses, as its webhook would, twice
    for response in openai.responses() * 2:
        told = {"id": response["id"], "status": response["status"], "metadata": response["metadata"], "text": "late",
                "usage": {"input_tokens": response["usage"]["input_tokens"], "output_tokens": response["usage"]["output_tokens"]}}  # fmt: skip
        await db.execute("select atlas.adopt_response($1)", told)
    booked = await db.fetchval("select sum(tokens) from atlas.spend")
    used = sum(response["usage"]["total_tokens"] for response in openai.responses())
    assert booked == used, f"{point}: {booked} tokens are booked, and {used} were used"
    assert await db.fetch("select * from atlas.check_ledger()") == [], point
    assert await db.fetch("select * from atlas.verify_audit()") == [], point


async def _over(worker: object, db: asyncpg.Connection, task: object) -> bool:
    if worker.process.poll() is not None:  # type: ignore[attr-defined]
        return True
    return bool(await db.fetchval("select finished_at is not null from atlas.task where id = $1", task))


SAMPLE = [
    "claim_tasks:1:after", "reserve_tokens:1:before", "reserve_tokens:1:after", "Started:1:before", "record_progress:1:after",
    "Delta:2:after", "Finished:1:before", "record_usage:1:after", "reserve_tokens:2:after", "complete_tasks:1:before",
    "complete_tasks:1:after",
]  # fmt: skip


@pytest.mark.parametrize("point", random.Random(62).sample(SAMPLE, 6))
async def test_a_worker_killed_at_a_point_of_a_life(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json, point: str
) -> None:
    await killed_at(workers, db, openai, settings, point, SAMPLE)


async def test_the_points_of_a_life_are_those_that_are_sampled(
    workers: Workers, db: asyncpg.Connection, settings: Json, tmp_path: Path
) -> None:
    found = await points(workers, db, settings, tmp_path)
    assert set(SAMPLE) <= set(found), "the sample is of real points"
    assert len(found) >= 30


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(4))
async def test_a_worker_killed_at_every_point_of_a_life(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, settings: Json, tmp_path: Path, part: int
) -> None:
    """A quarter of them each, so that they run beside each other."""
    plans = [plan.again() for plan in openai.plans]
    plans[0].times = 1
    every = await points(workers, db, settings, tmp_path)
    # how often a point comes again differs by the pace of the machine; its first time comes in every life
    first = {point for point in every if point.split(":")[1] == "1" and point.split(":")[0] not in BY_THE_CLOCK}
    for point in every[part::4]:
        await db.execute("alter table atlas.audit disable trigger append_only")
        await db.execute(
            "truncate atlas.task, atlas.spend, atlas.audit, public.architect_in, public.architect_out, atlas.budget_day, rag.cache cascade"
        )
        await db.execute("alter table atlas.audit enable trigger append_only")
        await db.execute("delete from atlas.worker")
        openai.plans[:] = [plan.again(times=plan.times) for plan in plans]
        openai.reset()
        await killed_at(workers, db, openai, settings, point, first)
        for worker in workers.started:
            worker.process.kill()
    await asyncio.sleep(0)
