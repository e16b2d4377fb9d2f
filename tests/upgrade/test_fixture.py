"""The database of the release that is kept: made by the release's own command line and worker, once."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
from pathlib import Path

import pytest

from atlas.local.postgres import Cluster
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, Database, ask, claim, empty_database, ended, reserve, until, used, workers_of
from tests.upgrade.released import (
    DUMP,
    VERSION,
    atlas,
    dump,
    released_database,
    released_migrations,
    restored,
    unpacked,
)

STATES = {"completed": 3, "dead_lettered": 1, "failed": 1, "cancelled": 1, "queued": 2, "running": 1}
"""Tasks of the kept database, by state. Of those queued, one waits for a held call, and one is ready; the one that runs has a
response under way, two parts of its reply, and a worker that was killed."""


def test_the_release_has_its_migrations() -> None:
    assert len(released_migrations()) == 37


async def check(database: Database) -> None:
    """Whether it has what an upgrade meets."""
    async with database.connect() as db:
        rows = await db.fetch("select state, count(*) as n from atlas.task where kind = 'chat' group by 1")
        assert {row["state"]: row["n"] for row in rows} == STATES
        assert await db.fetchval("select count(*) from atlas.spend where state = 'held'") == 1
        assert await db.fetchval("select count(*) from atlas.spend where state = 'reserved' and response_id is not null") == 1
        assert (
            await db.fetchval(
                "select count(*) from atlas.reply_part p join atlas.attempt a on a.id = p.attempt_id where a.state = 'running'"
            )
            > 1
        )
        assert await db.fetchval("select count(*) from atlas.audit_checkpoint") > 0
        assert await db.fetchval("select count(*) from atlas.outbox") > 0
        assert await db.fetchval("select version from atlas.worker limit 1") == VERSION
        assert await db.fetch("select * from atlas.check_ledger() where problem not like 'a held call%'") == []


async def test_the_kept_database_has_what_an_upgrade_meets(cluster: Cluster) -> None:
    async with released_database(cluster, "kept") as database:
        await check(database)


@pytest.mark.long
async def test_the_release_still_makes_such_a_database(cluster: Cluster, tmp_path: Path) -> None:
    """By the release's own command line and worker. With ATLAS_WRITE_RELEASE it becomes the one that is kept."""
    package = unpacked(tmp_path)
    async with empty_database(cluster, "release") as database, database.connect() as db:
        await asyncio.to_thread(atlas, package, "migrate", "--include-seed", env={"DATABASE_URL": database.url()})
        for kind in ("own", "final"):
            task = await ask(db, f"Will it fail ({kind})?")
            await db.execute("update atlas.task set max_attempts = 1 where id = $1", task)
            (row,) = await claim(db)
            await reserve(db, row["attempt_id"])
            await db.execute(
                "select atlas.fail_task($1, 'refused', 'no', $2, null, $3)", row["attempt_id"], kind, {"0": used(10)}
            )
        await db.execute("select atlas.cancel_task($1)", await ask(db, "Never mind?"))
        await ask(db, "Whose call was held?")
        (row,) = await claim(db)
        await reserve(db, row["attempt_id"])
        await db.execute(
            "select atlas.fail_task($1, 'no_answer', 'gone', 'held', null, $2)", row["attempt_id"], {"0": {"known": "held"}}
        )
        with OpenAIDouble() as openai, workers_of(database, tmp_path) as workers:
            openai.plan(text=ADR)
            worker = await workers.start(
                package=package,
                openai_api_key="sk-test",
                openai_base_url=openai.url,
                atlas_audit_key="k" * 32,
                atlas_mirror=False,
            )
            for n in range(3):
                await ended(db, await ask(db, f"Question {n}?"))
            await until(lambda: db.fetchval("select count(*) > 0 from atlas.audit_checkpoint"), 100, "a seal")
            openai.plan(text=ADR * 40, match="long", delay=0.2)
            task = await ask(db, "How long is a long reply?")
            await until(lambda: db.fetchval("select count(*) > 1 from atlas.reply_part where task_id = $1", task), 20, "parts")
            worker.process.send_signal(signal.SIGKILL)
            worker.process.wait()
        await ask(db, "Who answers this one?")
        made = await asyncio.to_thread(dump, database)
    async with restored(cluster, "again", made) as database:
        await check(database)
    if "ATLAS_WRITE_RELEASE" in os.environ:
        DUMP.write_bytes(gzip.compress(made, 9, mtime=0))
