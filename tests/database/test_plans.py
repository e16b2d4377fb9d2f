"""The plans of hot functions: what they must not be, wherever Postgres compiles plans that look dear."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from atlas.database.pool import set_codecs
from tests.support.core import ask, claim, reserve, used
from tests.support.fifteen import postgres_15


async def test_a_function_that_forbids_full_scans_is_never_compiled(db: asyncpg.Connection) -> None:
    """A forbidden scan costs 1e10 in a plan, whether it is made or not, and JIT (on by default) compiles what costs 1e5."""
    rows = await db.fetch(
        "select p.oid::regprocedure::text as name, p.proconfig as settings from pg_proc p "
        "where p.pronamespace in ('atlas'::regnamespace, 'rag'::regnamespace) and p.proconfig @> array['enable_seqscan=off']"
    )
    assert len(rows) > 15
    assert [row["name"] for row in rows if "jit=off" not in row["settings"]] == []


@pytest.mark.long
async def test_a_server_that_compiles_plans_compiles_none_of_a_task(tmp_path: Path) -> None:
    """From the question to the reply, on Postgres 15 with JIT on, as on Supabase; each plan of each function is looked at."""
    async with postgres_15(tmp_path) as cluster:
        db = await asyncpg.connect(cluster.url("supabase_admin"))
        await set_codecs(db)
        if not await db.fetchval("select pg_jit_available()"):
            pytest.skip("libllvm14 is missing: apt-get install libllvm14; CI has it")
        assert await db.fetchval("show jit") == "on"
        plans: list[str] = []
        db.add_log_listener(lambda _, message: plans.append(str(message)))
        await db.execute(
            "load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_analyze = on; "
            "set auto_explain.log_nested_statements = on; set client_min_messages = log"
        )

        def compiled() -> list[str]:
            found = [plan for plan in plans if "\nJIT:" in plan]
            plans.clear()
            return found

        worker = uuid4()
        await db.execute("select atlas.register_worker($1, 'w', '1', 8)", worker)
        await db.execute("select atlas.mark_worker($1, 'idle')", worker)
        tasks = [await ask(db, f"Question {n}?") for n in range(20)]
        assert await db.fetchval("select atlas.has_work()")
        for row in await claim(db, 8, worker):
            attempt = row["attempt_id"]
            await db.execute("select atlas.watch_task($1, gen_random_uuid())", row["task_id"])
            await reserve(db, attempt)
            item = {"attempt_id": str(attempt), "call": 0, "generation": 0, "response_id": str(attempt), "resumable": True,
                    "offset": 0, "text": "Hello"}  # fmt: skip
            await db.fetch("select * from atlas.record_progress($1)", [item])
            await db.fetch("select * from atlas.extend_leases($1, $2, interval '1 minute')", worker, [attempt])
            done = {"attempt_id": str(attempt), "content": "Hello", "metadata": {}, "usages": {"0": used(400)}}
            await db.fetch("select * from atlas.complete_tasks($1)", [done])
        (row,) = await claim(db, 1, worker)
        await db.execute("select atlas.fail_task($1, 'connection', 'no way', 'outage')", row["attempt_id"])
        await db.execute("select atlas.cancel_task($1)", tasks[-1])
        await db.execute("select atlas.release_expired(); select atlas.end_holds(); select atlas.queue_metrics()")
        await db.fetch("select * from atlas.read_parts($1)", tasks[0])
        assert await db.fetchval("select count(*) from atlas.task where state = 'completed'") == 8
        assert len(plans) > 200
        assert compiled() == []
        # the look can fail
        await db.execute("alter function atlas.has_work reset jit")
        await db.fetchval("select atlas.has_work()")
        assert compiled()
        await db.close()
