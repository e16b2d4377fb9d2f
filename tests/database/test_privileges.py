"""Who may do what, a role at a time, denials first."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from atlas.local.postgres import Cluster
from atlas.messages import chat, control
from tests.support.core import Database, ask, claim
from tests.support.people import ANN, BOB, CY, acting


async def refused(connection: asyncpg.Connection, query: str, *arguments: object) -> str:
    with pytest.raises(asyncpg.PostgresError) as caught:
        await connection.execute(query, *arguments)
    return str(caught.value.sqlstate)


INSERT = "insert into public.architect_in (data) values ($1)"


async def catalog(db: asyncpg.Connection, query: str) -> list[str]:
    return [row[0] for row in await db.fetch(query)]


async def test_no_function_without_search_path(db: asyncpg.Connection) -> None:
    assert await catalog(
        db,
        "select p.oid::regprocedure::text from pg_proc p where p.pronamespace in ('atlas'::regnamespace, 'rag'::regnamespace) "
        "and not coalesce(p.proconfig, '{}') @> array['search_path=\"\"']",
    ) == []  # fmt: skip


async def test_nothing_is_granted_to_public(db: asyncpg.Connection) -> None:
    assert await catalog(
        db,
        "select p.oid::regprocedure::text from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a "
        "where p.pronamespace in ('atlas'::regnamespace, 'rag'::regnamespace) and a.grantee = 0 "
        "union all select c.oid::regclass::text from pg_class c, aclexplode(c.relacl) a "
        "where a.grantee = 0 "
        "and (c.relnamespace in ('atlas'::regnamespace, 'rag'::regnamespace) or c.relname like 'architect_%') "
        "union all select n.nspname from pg_namespace n, aclexplode(n.nspacl) a "
        "where n.nspname in ('atlas', 'rag') and a.grantee = 0",
    ) == []  # fmt: skip


async def test_row_level_security_on_every_table(db: asyncpg.Connection) -> None:
    assert await catalog(
        db,
        "select c.oid::regclass::text from pg_class c where c.relkind = 'r' and not c.relrowsecurity "
        "and (c.relnamespace in ('atlas'::regnamespace, 'rag'::regnamespace) or c.relname like 'architect_%')",
    ) == []  # fmt: skip


async def test_every_table_view_column_and_function_says_what_it_is(db: asyncpg.Connection) -> None:
    assert await catalog(
        db,
        "select c.oid::regclass::text from pg_class c where c.relkind in ('r', 'v') and obj_description(c.oid) is null "
        "and (c.relnamespace in ('atlas'::regnamespace, 'rag'::regnamespace) or c.relname like 'architect_%') "
        "union all select p.oid::regprocedure::text from pg_proc p "
        "where p.pronamespace in ('atlas'::regnamespace, 'rag'::regnamespace) and obj_description(p.oid) is null "
        "union all select format('%s.%s', c.oid::regclass, a.attname) from pg_class c join pg_attribute a on a.attrelid = c.oid "
        "where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'v') and col_description(c.oid, a.attnum) is null "
        "and (c.relnamespace in ('atlas'::regnamespace, 'rag'::regnamespace) or c.relname like 'architect_%')",
    ) == []  # fmt: skip


async def test_anon_sees_and_does_nothing(database: Database, db: asyncpg.Connection) -> None:
    await ask(db)
    names = await catalog(
        db,
        "select c.oid::regclass::text from pg_class c where c.relkind in ('r', 'v') and "
        "(c.relnamespace in ('atlas'::regnamespace, 'rag'::regnamespace) or c.relname like 'architect_%')",
    )  # fmt: skip
    assert len(names) > 25
    async with acting(database, "anon") as anon:
        for name in names:
            assert await refused(anon, f"select * from {name}") == "42501"
        assert await refused(anon, INSERT, chat("hello")) == "42501"
        assert await refused(anon, "select atlas.submit_task($1)", chat("hello")) == "42501"


async def test_a_user_sends_only_its_own_chat(database: Database) -> None:
    async with acting(database, "authenticated", ANN) as ann:
        await ann.execute(INSERT, chat("mine"))
        assert await ann.fetchval("select sender from public.architect_in") == ANN
        forged = "insert into public.architect_in (data, sender) values ($1, $2)"
        assert await refused(ann, forged, chat("forged"), BOB) == "AT006"
        assert await refused(ann, forged, chat("forged"), None) == "AT006"
        assert await refused(ann, INSERT, control('{"command": "heartbeat"}')) == "AT006"
        for message in (chat("x", reply_to="x"), chat("x", priority=1), chat("x", sender_key="bob")):
            assert await refused(ann, INSERT, message) == "AT006"
        assert await refused(ann, "select atlas.submit_task($1, $2)", chat("x"), BOB) == "AT006"
        row = await ann.fetchrow("select * from atlas.submit_task($1)", chat("by function"))
        assert row["created"]
    async with acting(database, "authenticated") as nobody:
        assert await refused(nobody, INSERT, chat("from nobody")) == "AT006"


async def test_a_user_sees_its_own_and_its_projects_tasks_also_through_views(
    database: Database, db: asyncpg.Connection
) -> None:
    project = await db.fetchval("insert into atlas.project (name) values ('team') returning id")
    await db.executemany("insert into atlas.member (project_id, user_id) values ($1, $2)", [(project, ANN), (project, BOB)])
    mine, ours, theirs = chat("mine"), chat("ours"), chat("theirs")
    async with acting(database, "authenticated", ANN) as ann:
        await ann.execute(INSERT, mine)
        with pytest.raises(asyncpg.PostgresError, match="none of yours"):
            await ann.execute(INSERT, chat("x", project="default"))
    async with acting(database, "authenticated", BOB) as bob:
        await bob.execute(INSERT, ours)
    async with acting(database, "authenticated", CY) as cy:
        await cy.execute(INSERT, theirs)
    for task in await claim(db, 3):
        await db.execute("select testing.complete_task($1, 'reply')", task["attempt_id"])
    async with acting(database, "authenticated", ANN) as ann:
        expected = {mine["task_id"], ours["task_id"]}
        assert {str(r["id"]) for r in await ann.fetch("select id from atlas.task")} == expected
        assert {str(r["id"]) for r in await ann.fetch("select id from atlas.task_history")} == expected
        assert {str(r["task_id"]) for r in await ann.fetch("select task_id from atlas.attempt")} == expected
        assert {str(r["task_id"]) for r in await ann.fetch("select task_id from atlas.audit")} == expected
        assert {str(r["task_id"]) for r in await ann.fetch("select task_id from public.architect_out")} == expected
        assert [str(r["task_id"]) for r in await ann.fetch("select task_id from public.architect_in")] == [mine["task_id"]]
        assert await ann.fetchval("select sum(tasks) from atlas.queue_status") == 2
        assert await ann.fetchval("select atlas.owns_task($1)", UUID(ours["task_id"]))
        assert not await ann.fetchval("select atlas.owns_task($1)", UUID(theirs["task_id"]))
    async with acting(database, "authenticated", CY) as cy:
        assert {str(r["id"]) for r in await cy.fetch("select id from atlas.task")} == {theirs["task_id"]}


async def test_a_user_changes_nothing_in_atlas(database: Database, db: asyncpg.Connection) -> None:
    async with acting(database, "authenticated", ANN) as ann:
        await ann.execute(INSERT, chat("mine"))
        for name in await catalog(
            db, "select c.oid::regclass::text from pg_class c where c.relkind in ('r', 'v') "
            "and c.relnamespace in ('atlas'::regnamespace, 'rag'::regnamespace)",
        ):  # fmt: skip
            assert await refused(ann, f"delete from {name}") in ("42501", "55000")
        assert await refused(ann, "update public.architect_in set data = data") == "42501"
        assert await refused(ann, "delete from public.architect_out") == "42501"


USERS_MAY_CALL = {
    "accept", "answer_task", "as_uuid", "caller_role", "cancel_task", "candidates", "drop_documents", "find_task", "get_task", "import_decisions",
    "index_document",
    "is_service", "known_documents", "list_repositories", "my_projects", "my_scopes", "names_of", "new_id", "owns_task", "quote_task", "read_parts",
    "read_prompts", "read_source", "reject", "report_work_item", "retry_task", "search", "search_knowledge", "set_budget", "stale_documents", "submit_task", "supersede", "take_work_item", "task_progress",
    "task_state", "today", "uid", "watch_task", "work_items",
}  # fmt: skip


async def test_users_may_call_these_functions_and_no_other(db: asyncpg.Connection) -> None:
    """A new function is closed to users until it stands here."""
    allowed = await catalog(
        db,
        "select p.proname from pg_proc p where p.pronamespace in ('atlas'::regnamespace, 'rag'::regnamespace) "
        "and has_function_privilege('authenticated', p.oid, 'execute')",
    )  # fmt: skip
    assert set(allowed) == USERS_MAY_CALL
    assert await catalog(
        db,
        "select p.proname from pg_proc p where p.pronamespace in ('atlas'::regnamespace, 'rag'::regnamespace) "
        "and has_function_privilege('anon', p.oid, 'execute')",
    ) == []  # fmt: skip


async def test_a_user_cancels_its_own_task_and_nobody_elses(database: Database, db: asyncpg.Connection) -> None:
    mine = chat("mine")
    async with acting(database, "authenticated", ANN) as ann:
        await ann.execute(INSERT, mine)
    async with acting(database, "authenticated", BOB) as bob:
        assert await refused(bob, "select atlas.cancel_task($1)", UUID(mine["task_id"])) == "AT004"
    (task,) = await claim(db)
    async with acting(database, "authenticated", ANN) as ann:
        # the confirmation belongs to the worker
        assert await refused(ann, "select atlas.cancel_task($1, $2)", task["task_id"], task["attempt_id"]) == "AT006"
        assert await ann.fetchval("select atlas.cancel_task($1)", UUID(mine["task_id"])) == "running"


async def test_the_worker_calls_functions_and_nothing_else(database: Database, db: asyncpg.Connection) -> None:
    await ask(db)
    async with database.connect("atlas_worker") as worker:
        (task,) = await claim(worker)
        await worker.execute("select testing.complete_task($1, 'x')", task["attempt_id"])
        for name in await catalog(
            db, "select c.oid::regclass::text from pg_class c where c.relkind in ('r', 'v') and "
            "(c.relnamespace in ('atlas'::regnamespace, 'rag'::regnamespace) or c.relname like 'architect_%')",
        ):  # fmt: skip
            assert await refused(worker, f"select * from {name}") == "42501"
        for query in (
            "update atlas.audit set event = 'x'", "delete from atlas.audit", "truncate atlas.audit",
            "insert into atlas.audit (seq, event, actor, hash) values (1, 'x', 'x', '')",
            "select atlas.append_audit(null, 'x')", "select atlas.retry_task(gen_random_uuid())",
            "select atlas.erase(gen_random_uuid())", "set role postgres", "set role service_role",
            "alter table atlas.audit disable trigger all",
        ):  # fmt: skip
            assert await refused(worker, query) == "42501", query


async def test_a_type_of_the_workers_own_does_not_run_as_the_owner(cluster: Cluster) -> None:
    """pg_temp is searched for types even with search_path = '': a domain named text would run inside our functions."""
    # the right belongs to a database, and is not copied from a template: this is the one that was migrated itself
    database = Database(cluster=cluster, name="postgres")
    async with database.connect("atlas_worker") as worker:
        assert await refused(worker, "create domain pg_temp.text as pg_catalog.text") == "42501"
        assert not await worker.fetchval("select has_database_privilege(current_database(), 'temporary')")
    async with database.connect() as db:
        assert await db.fetchval("select has_database_privilege('service_role', current_database(), 'temporary')")


async def test_not_even_the_owner_rewrites_the_audit(db: asyncpg.Connection) -> None:
    await ask(db)
    for query in ("update atlas.audit set event = 'x'", "delete from atlas.audit", "truncate atlas.audit"):
        assert await refused(db, query) == "AT006"


async def test_realtime_topics_open_to_those_who_may_read_the_task(database: Database, db: asyncpg.Connection) -> None:
    mine = chat("mine")
    async with acting(database, "authenticated", ANN) as ann:
        await ann.execute(INSERT, mine)
    await db.execute("select realtime.send('{}', 'delta', $1)", f"task:{mine['task_id']}")
    for user, topic, expected in (
        (ANN, f"task:{mine['task_id']}", True), (BOB, f"task:{mine['task_id']}", False),
        (ANN, "atlas:wake", False), (ANN, "task:nonsense", False),
    ):  # fmt: skip
        async with acting(database, "authenticated", user) as connection:
            await connection.execute("select set_config('realtime.topic', $1, false)", topic)
            rows = await connection.fetch("select * from realtime.messages where topic = $1", topic)
            assert bool(rows) == expected, (user, topic)


async def test_the_service_role_may_do_all_of_it(database: Database, db: asyncpg.Connection) -> None:
    async with acting(database, "service_role") as service:
        await service.execute(INSERT, chat("x", priority=5, reply_to="github:1", sender_key="github:7"))
        await service.execute(INSERT, control('{"command": "pause"}'))
        assert await service.fetchval("select sender_key from atlas.task where kind = 'chat'") == "key:github:7"
        await service.execute("insert into public.architect_in (data, sender) values ($1, $2)", chat("for ann"), ANN)
        assert await service.fetchval("select count(*) from atlas.task where sender = $1", ANN) == 1


async def test_the_worker_cannot_sign_the_audit_as_somebody_else(database: Database, db: asyncpg.Connection) -> None:
    async with database.connect("atlas_worker") as worker:
        await worker.execute(
            "select set_config('request.jwt.claims', $1, false)", f'{{"sub": "{ANN}", "role": "authenticated"}}'
        )
        await worker.execute("select atlas.pause('maintenance')")
        await worker.execute("select atlas.resume()")
    assert {row["actor"] for row in await db.fetch("select actor from atlas.audit")} == {"role:atlas_worker"}


@pytest.mark.parametrize(
    "tokens", [{"input_tokens": -1}, {"output_tokens": -1}, {"input_tokens": -5000, "output_tokens": 6000}]
)
async def test_the_worker_cannot_reserve_less_than_nothing(
    database: Database, db: asyncpg.Connection, tokens: dict[str, int]
) -> None:
    await ask(db)
    async with database.connect("atlas_worker") as worker:
        (task,) = await claim(worker)
        request = {
            "attempt_id": str(task["attempt_id"]),
            "call": 0,
            "model": "gpt-4.1",
            "input_tokens": 0,
            "output_tokens": 0,
        } | tokens
        with pytest.raises(asyncpg.PostgresError, match="is negative") as caught:
            await worker.execute("select atlas.reserve_tokens($1)", [request])
    assert caught.value.sqlstate == "AT005"
    assert await db.fetchval("select count(*) from atlas.spend") == 0


async def test_the_workers_role_is_nobody_by_its_own_word(database: Database, db: asyncpg.Connection) -> None:
    """request.jwt.claims is a setting that anybody may set: it counts under the role that PostgREST gives to a checked token."""
    task = await ask(db)
    claims = json.dumps({"sub": str(ANN), "role": "authenticated"})
    async with database.connect("atlas_worker") as worker:
        await worker.execute("select set_config('request.jwt.claims', $1, false)", claims)
        await worker.execute("select atlas.cancel_task($1)", task)
    assert (
        await db.fetchval("select actor from atlas.audit where task_id = $1 and event ~ 'cancel'", task) == "role:atlas_worker"
    )
    await db.execute("select set_config('request.jwt.claims', $1, false)", claims)
    assert await db.fetchval("select atlas.uid()") is None
    await db.execute("set role authenticated")
    assert await db.fetchval("select atlas.uid()") == ANN


async def test_intervals_of_the_workers_role_are_bounded(database: Database, db: asyncpg.Connection) -> None:
    await db.execute(
        "insert into atlas.outbox (event_id, event_kind, payload, position, state, created_at) "
        "values (gen_random_uuid(), 'notification', '{}', 1, 'skipped', now() - interval '23 hours')"
    )
    await db.execute(
        "insert into atlas.inbound (source, event_id, received_at) values ('slack', 'x', now() - interval '6 days')"
    )
    await ask(db)
    async with database.connect("atlas_worker") as worker:
        for keep in ("0", "-1 year"):
            assert await worker.fetchval(f"select atlas.trim_outbox(interval '{keep}')") == 0
            assert await worker.fetchval(f"select atlas.trim_inbound(interval '{keep}')") == 0
        await worker.execute("select atlas.register_worker($1, 'w', '1', 1)", ANN)
        lease = await worker.fetchval(
            "select lease_expires_at - now() from atlas.claim_tasks($1, 2147483647, 2147483647, interval '100 years')", ANN
        )
    assert lease == timedelta(hours=1)
