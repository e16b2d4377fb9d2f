"""From the last release to this version, with tasks running: nothing is lost, nothing is paid for twice, and the books are right."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from atlas.database import migrate
from atlas.database.protocol import check_protocol
from atlas.errors import SchemaMismatch, StackError
from atlas.local.postgres import Cluster
from atlas.shipped import folder
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, Database, ask, books_wrong, empty_database, ended, run_atlas, until, workers_of
from tests.upgrade.released import atlas, released_database, released_migrations, unpacked

BOTH = ADR.replace("## Context", "## Status\n\nProposed.\n\n## Context", 1)
"""In the form of the version before as well: neither asks for a repair."""


@pytest.fixture
async def released(cluster: Cluster) -> AsyncIterator[Database]:
    """The kept database, whose books are right in the end."""
    async with released_database(cluster, "released") as database, database.connect() as db:
        # it was held when the database was kept: that is as if it had been just now
        await db.execute("update atlas.spend set held_until = now() + interval '10 minutes' where state = 'held'")
        yield database
        assert await books_wrong(database) == []


@pytest.fixture
async def made_by_it(cluster: Cluster, tmp_path: Path) -> AsyncIterator[tuple[Database, Path]]:
    """A fresh database of the release, and the release's package."""
    package = unpacked(tmp_path)
    async with empty_database(cluster, "made") as database:
        await asyncio.to_thread(atlas, package, "migrate", "--include-seed", env={"DATABASE_URL": database.url()})
        yield database, package
        assert await books_wrong(database) == []


def test_what_was_released_does_not_change() -> None:
    now = {path.name: path.read_bytes() for path in folder("migrations").glob("*.sql")}
    for name, content in released_migrations().items():
        assert now.get(name) == content, f"{name} was released: write a migration that goes on from it"
    later = sorted(now.keys() - released_migrations().keys())
    assert later, "this version has migrations of its own"
    assert later[0] > max(released_migrations()), "they come after those of the release"


async def test_the_kept_database_is_upgraded_and_goes_on(released: Database, tmp_path: Path, openai: OpenAIDouble) -> None:
    async with released.connect() as db:
        with pytest.raises(SchemaMismatch, match="protocol 2"):
            await check_protocol(db)
        done = await asyncio.to_thread(run_atlas, "migrate", env={"DATABASE_URL": released.url()})
        assert done.returncode == 0, done.stderr
        running = await db.fetchrow("select task_id, response_id, lease_expires_at from atlas.attempt where state = 'running'")
        (waiting,) = await db.fetch("select id from atlas.task where wait_reason = 'held'")
        (ready,) = await db.fetch("select id from atlas.task where ready and kind = 'chat'")
        # the provider has gone on with what was under way
        openai.store({"id": running["response_id"], "status": "completed", "model": "gpt-4.1", "metadata": {},
                      "output": [{"type": "message", "id": "m", "role": "assistant", "status": "completed",
                                  "content": [{"type": "output_text", "text": BOTH * 40, "annotations": []}]}],
                      "usage": {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 50,
                                "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 150}})  # fmt: skip
        openai.streamable = False
        openai.plan(text=BOTH)
        await db.execute("update atlas.spend set held_until = now() + interval '3 seconds' where state = 'held'")
        await db.execute("update atlas.task set run_after = now() where id = $1", waiting["id"])
        with workers_of(released, tmp_path) as workers:
            await workers.start(openai_api_key="sk-test", openai_base_url=openai.url, atlas_audit_key="k" * 32)
            for task in (running["task_id"], ready["id"], waiting["id"]):
                assert (await ended(db, task, 60))["state"] == "completed"
            await until(
                lambda: db.fetchval("select count(*) = 0 from atlas.spend where state <> 'settled'"), 30, "all is settled"
            )
        assert len(openai.calls) == 2, "the response that was under way was taken up, and not paid for again"
        assert await db.fetch("select * from atlas.verify_audit()") == []


async def test_old_workers_drain_against_the_new_schema(
    made_by_it: tuple[Database, Path], tmp_path: Path, openai: OpenAIDouble
) -> None:
    database, package = made_by_it
    openai.plan(text=BOTH * 4, delay=0.05)
    async with database.connect() as db:
        with workers_of(database, tmp_path) as workers:
            common: dict[str, Any] = {"openai_api_key": "sk-test", "openai_base_url": openai.url}
            old = await workers.start(package=package, **common)
            running = [await ask(db, f"While it is upgraded {n}?") for n in range(6)]
            await until(lambda: db.fetchval("select count(distinct task_id) = 6 from atlas.reply_part"), 20, "all six stream")
            done = await asyncio.to_thread(run_atlas, "migrate", env={"DATABASE_URL": database.url()})
            assert done.returncode == 0, done.stderr
            assert await db.fetchval("select count(*) from atlas.task where state = 'running'") > 0, "while they streamed"
            later = await ask(db, "After the migrations?")
            old.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(old.process.wait, 60) == 0, old.log.read_text()
            assert "Traceback" not in old.log.read_text()
            await workers.start(**common)
            for task in (*running, later):
                found = await ended(db, task, 60)
                assert (found["state"], found["attempts"]) == ("completed", 1 if task != later else found["attempts"])
        assert len(openai.calls) == 7
        assert await db.fetch("select * from atlas.verify_audit()") == []


async def test_both_versions_work_side_by_side(made_by_it: tuple[Database, Path], tmp_path: Path, openai: OpenAIDouble) -> None:
    database, package = made_by_it
    async with database.connect() as db:
        await migrate.migrate(db)
        await db.execute("select atlas.set_budget('global', '{\"daily\": null}')")
        openai.plan(text=BOTH, delay=0.02)
        with workers_of(database, tmp_path) as workers:
            common: dict[str, Any] = {"openai_api_key": "sk-test", "openai_base_url": openai.url, "atlas_concurrency": 4}
            await workers.start(package=package, **common)
            await workers.start(**common)
            tasks = [await ask(db, f"Question {n}?") for n in range(60)]
            await until(
                lambda: db.fetchval("select count(*) = 0 from atlas.task where finished_at is null"), 90, "all are answered"
            )
        assert Counter([row["state"] for row in await db.fetch("select state from atlas.task")]) == {"completed": len(tasks)}
        assert len(openai.calls) == len(tasks)
        shares = await db.fetch(
            "select w.version, count(*) from atlas.attempt a join atlas.worker w on w.id = a.lease_owner group by w.version"
        )
        assert len(shares) == 2, shares
        assert min(row["count"] for row in shares) > 5, shares
        assert await db.fetch("select * from atlas.verify_audit()") == []


async def test_a_new_worker_does_not_start_on_the_old_schema(made_by_it: tuple[Database, Path], tmp_path: Path) -> None:
    database, _ = made_by_it
    with workers_of(database, tmp_path) as workers:
        worker = await workers.start(wait=False)
        assert await asyncio.to_thread(worker.process.wait, 30) == 3
        assert "run `atlas migrate` of this version first" in worker.log.read_text()
    async with database.connect() as db:
        assert await db.fetchval("select count(*) from atlas.worker") == 0


async def test_an_old_command_line_does_not_undo_a_migration(released: Database, tmp_path: Path) -> None:
    async with released.connect() as db:
        await migrate.migrate(db)
    with pytest.raises(AssertionError, match="knows"):
        await asyncio.to_thread(atlas, unpacked(tmp_path), "migrate", env={"DATABASE_URL": released.url()})


async def test_where_a_migration_and_a_worker_lock_each_other_out_the_migration_gives_way(released: Database) -> None:
    """Workers lock a task, then its calls; a migration of both may come the other way round."""
    async with released.connect() as db, released.connect() as worker:
        transaction = worker.transaction()
        await transaction.start()
        await worker.execute("update atlas.task set priority = priority")
        migrating = asyncio.create_task(migrate.migrate(db))

        async def waits() -> bool:
            query = "select exists (select from pg_locks where not granted and relation = 'atlas.task'::regclass)"
            async with released.connect() as other:
                return bool(await other.fetchval(query))

        await until(waits, 10, "the migration waits for the task, and holds the calls")
        await worker.execute("update atlas.spend set known = known")
        await transaction.commit()
        assert await asyncio.wait_for(migrating, 60)


async def test_a_migration_does_not_keep_workers_waiting_behind_a_long_read(released: Database) -> None:
    """It waits for its locks for moments only, and comes again; whoever is in its way is named."""
    async with released.connect() as db, released.connect() as reader, released.connect() as worker:
        async with reader.transaction():
            await reader.fetch("select * from atlas.spend")
            migrating = asyncio.create_task(migrate.migrate(db))
            for _ in range(4):
                await asyncio.sleep(1.2)
                async with asyncio.timeout(migrate.LOCK_SECONDS + 2):
                    await worker.fetchval("select count(*) from atlas.spend")
            assert not migrating.done()
        assert len(await asyncio.wait_for(migrating, 30)) >= 4
    async with released.connect() as db, released.connect() as reader, reader.transaction():
        await db.execute("delete from supabase_migrations.schema_migrations where name = 'lasting_spend'")
        await reader.fetch("select * from atlas.spend")
        with pytest.raises(StackError, match=r"did not get its locks: process \d+ \(postgres, .*it changed nothing"):
            await migrate.migrate(db, patience=0.1)
        await db.execute(
            "insert into supabase_migrations.schema_migrations (version, name) values ('20261127000100', 'lasting_spend')"
        )
