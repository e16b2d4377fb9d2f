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


EACH_TASK = {
    "atlas.claim_outbox", "atlas.claim_tasks", "atlas.complete_tasks", "atlas.extend_leases", "atlas.fail_task", "atlas.has_work", "atlas.get_asked", "atlas.keep_prompts",
    "atlas.lease_rate", "atlas.next_due", "atlas.read_first", "atlas.record_progress", "atlas.record_usage", "atlas.release_expired",
    "atlas.reserve_tokens", "atlas.settle_outbox", "rag.recall", "rag.remember",
}  # fmt: skip
"""What a worker calls for each task, or each second: planned once a connection."""

PLANNED_BY_ITSELF = {"rag.search_task"}
"""Its statements are made for the words and the index that they search (rag.hits)."""

SELDOM = {
    # when a worker begins, or a model, a budget or a destination is read or changed
    "atlas.flush_cache", "atlas.get_budgets", "atlas.list_destinations", "atlas.list_models", "atlas.mark_worker", "atlas.pause",
    "atlas.protocols", "atlas.provide_topic", "atlas.register_worker", "atlas.resume", "atlas.set_budget", "atlas.set_spend_rules", "rag.embedding_indexes",
    # by a timer of several seconds, for the whole fleet
    "atlas.audit_digest", "atlas.check_ledger", "atlas.end_holds", "atlas.measure_models", "atlas.queue_metrics",
    "atlas.raise_notifications", "atlas.report_progress", "atlas.seal_audit", "atlas.take_orphans", "atlas.take_probes", "atlas.trim_inbound",
    "atlas.attempt_spend", "atlas.trim_history", "atlas.trim_prompt_texts", "atlas.trim_messages", "atlas.trim_outbox", "atlas.watch_audit", "atlas.watch_ledger",
    # when something is wrong, or somebody asks for it
    "atlas.adopt_outbox", "atlas.ask_back", "atlas.cancel_task", "atlas.defer_upstream", "atlas.escalate", "atlas.get_prompt", "atlas.get_reply", "atlas.get_thread", "atlas.record_destination",
    "atlas.record_model", "atlas.record_probe", "atlas.record_rate", "atlas.take_trial", "rag.record_usage",
    # expressions, which the statement around them takes in
    "atlas.caller_role", "atlas.cost", "atlas.is_service", "atlas.price_factor_of", "atlas.price_on", "atlas.today", "atlas.worst_cost",
}  # fmt: skip


async def test_what_each_task_calls_is_planned_once_a_connection(db: asyncpg.Connection) -> None:
    """A function in SQL is planned at each call before Postgres 18, one in PL/pgSQL keeps its plans; and those only if they do
    not depend on the arrays that it is called with."""
    rows = await db.fetch(
        "select p.pronamespace::regnamespace || '.' || p.proname as name, l.lanname as language, coalesce(p.proconfig, '{}') as settings "
        "from pg_proc p join pg_language l on l.oid = p.prolang where p.pronamespace in ('atlas'::regnamespace, 'rag'::regnamespace) "
        "and has_function_privilege('atlas_worker', p.oid, 'execute')"
    )
    assert {row["name"] for row in rows} == EACH_TASK | PLANNED_BY_ITSELF | SELDOM, "one that is new belongs into one of these"
    mode = {"plan_cache_mode=force_generic_plan", "jit=off"}
    hot = [row for row in rows if row["name"] in EACH_TASK]
    assert len(hot) == len(EACH_TASK)
    assert [row["name"] for row in hot if row["language"] != "plpgsql" or not mode <= set(row["settings"])] == []


@pytest.mark.parametrize("planned", ["before", "after"])
async def test_a_claim_reads_no_more_of_a_long_queue(db: asyncpg.Connection, planned: str) -> None:
    """Of ten thousand ready questions a claim of twenty reads some hundred rows, whether its plans were made before or after."""
    await db.execute("select atlas.register_worker($1, 'w', '1', 8)", worker := uuid4())
    if planned == "before":
        assert await claim(db, 20, worker) == []
    await db.execute(
        "insert into public.architect_in (data) select jsonb_build_object('task_id', gen_random_uuid(), 'role', 'architect', "
        "'msg_type', 'chat', 'content', 'question ' || n) from generate_series(1, 10000) n"
    )
    await db.execute("analyze atlas.task")
    read = "select idx_tup_fetch + seq_tup_read from pg_stat_xact_user_tables where relname = 'task'"
    async with db.transaction():
        before = await db.fetchval(read)
        assert len(await claim(db, 20, worker)) == 20
        assert await db.fetchval(read) - before < 2000


async def test_what_a_task_reads_does_not_grow_with_those_before_it(db: asyncpg.Connection) -> None:
    """A connection that planned its calls on empty tables, of which Postgres knows nothing yet, looks rows up by their index as well."""
    await db.execute("select atlas.register_worker($1, 'w', '1', 8)", worker := uuid4())
    read = "select relname, coalesce(idx_tup_fetch, 0) + seq_tup_read as rows from pg_stat_xact_user_tables"
    await db.execute("select atlas.set_budget('global', '{\"daily\": 100000000}')")

    async def rows_of_ten() -> dict[str, int]:
        async with db.transaction():
            await db.execute(
                "insert into public.architect_in (data) select jsonb_build_object('task_id', gen_random_uuid(), 'role', 'architect', "
                "'msg_type', 'chat', 'content', 'question ' || n, 'metadata', jsonb_build_object('sender_key', gen_random_uuid())) "
                "from generate_series(1, 11) n"
            )
            before = {row["relname"]: row["rows"] for row in await db.fetch(read)}
            claimed = await claim(db, 10, worker)
            ids = [str(row["attempt_id"]) for row in claimed]
            await db.fetch("select * from rag.recall($1, $2, 's')", [row["task_id"] for row in claimed], ["a question"] * 10)
            await db.fetch(
                "select atlas.reserve_tokens($1)",
                [
                    {"attempt_id": attempt, "call": 0, "model": "m", "input_tokens": 300, "output_tokens": 700}
                    for attempt in ids
                ],
            )
            await db.fetch(
                "select atlas.record_progress($1)",
                [
                    {
                        "attempt_id": attempt,
                        "call": 0,
                        "generation": 0,
                        "response_id": attempt,
                        "resumable": True,
                        "offset": 0,
                        "text": "Hello",
                    }
                    for attempt in ids
                ],
            )
            await db.fetch("select atlas.extend_leases($1, $2, interval '1 minute')", worker, ids)
            # the rarer ways: a second call, one that no budget lets through, a lost worker that had reserved, or had not
            more = {"model": "m", "input_tokens": 10, "output_tokens": 10}
            await db.fetch("select atlas.reserve_tokens($1)", [{"attempt_id": ids[0], "call": 1, **more}])
            refused = {
                "attempt_id": ids[0],
                "call": 2,
                "model": "m",
                "input_tokens": 10**9,
                "output_tokens": 0,
                "may_wait": False,
            }
            assert (await db.fetchval("select r from atlas.reserve_tokens($1) r", [refused]))["outcome"] == "refuse"
            unreserved = await claim(db, 1, worker)
            lost = [*ids[1:3], str(unreserved[0]["attempt_id"])]
            await db.execute("set local enable_seqscan = off")
            await db.execute("update atlas.attempt set lease_expires_at = '-infinity' where id = any ($1)", lost)
            await db.execute("set local enable_seqscan = on")
            assert await db.fetchval("select atlas.release_expired()") == 3
            again = await claim(db, 3, worker)
            assert [row["attempt"] for row in again] == [2, 2, 2]
            ids = [ids[0], *ids[3:], *(str(row["attempt_id"]) for row in again)]
            await db.fetch(
                "select atlas.complete_tasks($1)",
                [{"attempt_id": attempt, "content": "Hello", "metadata": {}, "usages": {"0": used(400)}} for attempt in ids],
            )
            return {row["relname"]: row["rows"] - before.get(row["relname"], 0) for row in await db.fetch(read)}

    await rows_of_ten()
    early = await rows_of_ten()
    for _ in range(30):
        await rows_of_ten()
    late = await rows_of_ten()
    assert {name: (early[name], rows) for name, rows in late.items() if rows > 1.5 * early.get(name, 0) + 20} == {}


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
