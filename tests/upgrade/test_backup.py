"""A backup that is made while tasks run, and restored elsewhere: what would run again is said, and what was sent is not sent as new."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from atlas.database.audit import seal_audit
from atlas.database.pool import Pool
from atlas.local.postgres import Cluster
from tests.doubles.openai import OpenAIDouble
from tests.doubles.webhook import Receiver, receiver
from tests.support.core import ADR, Database, ask, atlas_on, books_wrong, ended, until, workers_of
from tests.support.mirror import SECRET
from tests.upgrade.released import dump, restored

KEY = "k" * 32
HOOK = (
    "insert into atlas.destination (name, kind, target, secret_name, events_since) "
    "values ('hook', 'webhook', $1, 'ATLAS_WEBHOOK_SECRET', '-infinity')"
)


async def seal(database: Database) -> None:
    async with Pool.connect(database.url("atlas_worker")) as bus:
        assert await seal_audit(bus, KEY.encode()) > 0


def events(there: Receiver) -> dict[str, tuple[str, str]]:
    """Task and status of each message that was sent, by the id of its event."""
    return {
        got.headers["webhook-id"]: (got.json["data"]["task_id"], got.json["data"]["metadata"]["status"])
        for got in there.got
        if got.json["data"].get("msg_type") == "spec"
    }


async def test_a_backup_of_mid_run_goes_on_elsewhere(
    database: Database, cluster: Cluster, tmp_path: Path, openai: OpenAIDouble
) -> None:
    openai.plan(text=ADR)
    openai.plan(text=ADR * 4, match="While", delay=0.05)
    settings: dict[str, Any] = {"openai_api_key": "sk-test", "openai_base_url": openai.url, "atlas_concurrency": 1,
                "atlas_webhook_secret": SECRET, "atlas_webhook_allow": "127.0.0.1/32"}  # fmt: skip
    async with database.connect() as db, receiver() as there:
        await db.execute(HOOK, there.url)
        with workers_of(database, tmp_path) as workers:
            worker = await workers.start(**settings)
            before = await ask(db, "Before the backup?")
            await ended(db, before)
            await seal(database)
            running, queued = await ask(db, "While it is made?"), await ask(db, "And then?")
            await until(
                lambda: db.fetchval("select count(*) > 2 from atlas.reply_part where task_id = $1", running), 20, "it streams"
            )
            backup = await asyncio.to_thread(dump, database)
            for task in (running, queued, await ask(db, "After the backup?")):
                later = await ended(db, task)
                assert later["state"] == "completed"
            await seal(database)
            await until(lambda: db.fetchval("select count(*) = 0 from atlas.outbox where state = 'pending'"), 20, "all is sent")
            worker.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.process.wait, 30) == 0
        original = events(there)
        assert len(openai.calls) == 4
        export = tmp_path / "audit.jsonl"
        export.write_text(await atlas_on(database, "audit", "export"))

        async with restored(cluster, "copy", backup) as copy, copy.connect() as db:
            said = json.loads(await atlas_on(copy, "audit", "compare", str(export), "--json", code=7))
            assert said[0]["text"] == "this copy has seal 1, 1 seal before the end of the original"
            found = {row["task"]: (row["state"], row["text"]) for row in said[1:]}
            assert found == {
                str(running): ("problem", "the original went on: complete_task; here it would run again"),
                str(queued): (
                    "problem",
                    "the original went on: reserve_tokens, keep_prompt, complete_task; here it would run again",
                ),
                str(later["id"]): ("warning", "it was asked after this copy was made"),
            }
            there.got.clear()
            with workers_of(copy, tmp_path / "copy") as workers:
                (tmp_path / "copy").mkdir()
                await workers.start(**settings)
                for task in (running, queued):
                    assert (await ended(db, task, 40))["state"] == "completed"
                await until(
                    lambda: db.fetchval("select count(*) = 0 from atlas.outbox where state = 'pending'"), 20, "all is sent"
                )
            assert len(openai.calls) == 5, "the response that was under way was taken up; the other question was asked again"
            again = events(there)
            assert {(str(running), "completed"), (str(queued), "completed")} <= set(again.values())
            assert again.items() <= original.items(), "receivers know each of them by its id"
            assert "both continued this task" in await atlas_on(copy, "audit", "compare", str(export))
            assert await books_wrong(copy) == []
            assert await db.fetch("select * from atlas.verify_audit()") == []

        async with restored(cluster, "second", backup) as copy, copy.connect() as db:
            there.got.clear()
            assert "cancelled here" in await atlas_on(copy, "audit", "compare", str(export), "--repeat")
            for task in (running, queued):
                assert await db.fetchval("select state from atlas.task where id = $1", task) == "cancelled"
            with workers_of(copy, tmp_path / "second") as workers:
                (tmp_path / "second").mkdir()
                await workers.start(**settings)
                assert (await ended(db, await ask(db, "Does it work?"), 40))["state"] == "completed"
            assert "cancelled" not in {status for _, status in events(there).values()}, "receivers heard that it was completed"
            assert len(openai.calls) == 6, "the new one alone"
            assert await books_wrong(copy) == []


async def test_a_file_that_proves_nothing_is_refused(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_text('{"atlas_audit": 1, "upto": "1", "rows": 3, "seals": 0}\n')
    await atlas_on(database, "audit", "compare", str(file), code=2)
    await atlas_on(database, "audit", "compare", str(tmp_path / "none"), code=2)
