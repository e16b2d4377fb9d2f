"""Two people who must not meet: every function, table and view that a login may use, as Bob, with everything that is Ann's."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.access import acting, furnish
from tests.support.core import Database
from tests.support.people import ANN

FUNCTIONS = (
    "select p.oid::regprocedure::text as signature, n.nspname || '.' || quote_ident(p.proname) as name, "
    "coalesce((select array_agg(format_type(t, null) order by o) from unnest(p.proargtypes::oid[]) with ordinality u (t, o)), '{}') as types, "
    "p.pronargs - p.pronargdefaults as least from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
    "where n.nspname in ('atlas', 'rag') and has_function_privilege('authenticated', p.oid, 'execute') and p.prorettype <> 'trigger'::regtype"
)
RELATIONS = (
    "select n.nspname || '.' || quote_ident(c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace "
    "where c.relkind in ('r', 'v', 'p') and n.nspname in ('atlas', 'rag', 'public') and has_table_privilege('authenticated', c.oid, 'select')"
)
COLUMNS = "select quote_ident(attname) as attname from pg_attribute where attrelid = $1::text::regclass and attnum > 0 and not attisdropped"
QUESTION = "a question of user A"
MARK = "user A"
"""What Ann's rows say and nobody else's: furnish writes it into her question, document and identity."""


async def hers(db: asyncpg.Connection) -> dict[str, list[Any]]:
    """Everything of Ann's that Bob might name, by type."""
    ids: list[UUID] = [ANN]
    for query in (
        "select id from atlas.task where sender_key = $1::text", "select a.id from atlas.attempt a join atlas.task t on t.id = a.task_id where t.sender_key = $1::text",
        "select project_id from atlas.member where user_id = $1::uuid", "select d.id from rag.document d join atlas.member m using (project_id) where m.user_id = $1::uuid",
    ):  # fmt: skip
        ids += [row[0] for row in await db.fetch(query, str(ANN) if "::text" in query else ANN)]
    project = await db.fetchval(
        "select p.name from atlas.project p join atlas.member m on m.project_id = p.id where m.user_id = $1", ANN
    )
    texts = [MARK, str(ids[1]), project, str(await db.fetchval("select id from atlas.project where name = $1", project)),
             f"project:{await db.fetchval('select id from atlas.project where name = $1', project)}", f"sender:{ANN}"]  # fmt: skip
    return {"uuid": ids, "text": texts}


def arguments(types: list[str], least: int, known: dict[str, list[Any]]) -> list[list[Any]]:
    """Calls to make: with all arguments and with those that must be there, Ann's ids in every place that takes one."""
    other: dict[str, list[Any]] = {
        "uuid": known["uuid"], "text": known["text"], "uuid[]": [known["uuid"]], "text[]": [known["text"]], "jsonb": [{}], "integer": [0, 5],
        "bigint": [0], "boolean": [True], "interval": [None], "date": [None], "real": [None], "vector": [None], "bytea": [None],
        "jsonb[]": [[{}]], "timestamp with time zone": [None], "bigint[]": [[1]],
    }  # fmt: skip
    calls: list[list[Any]] = []
    for count in {least, len(types)}:
        choices = [other.get(kind, [None]) for kind in types[:count]]
        calls += [list(call) for call in itertools.islice(itertools.product(*choices), 60)]
    return calls


def as_ann(known: dict[str, list[Any]]) -> list[tuple[str, list[Any]]]:
    """Rows that Bob writes in her name, or into what is hers."""
    task, project = known["text"][1], known["text"][3]
    asked = {"task_id": str(uuid4()), "role": "architect", "msg_type": "chat", "content": "And then?"}
    return [
        ("insert into public.architect_in (data, sender) values ($1, $2)", [asked, ANN]),
        ("insert into public.architect_in (data) values ($1)", [asked | {"metadata": {"project": known["text"][2]}}]),
        ("insert into public.architect_in (data) values ($1)", [asked | {"metadata": {"project": project}}]),
        ("insert into public.architect_in (data) values ($1)", [asked | {"metadata": {"sender_key": str(ANN)}}]),
        ("insert into public.architect_out (data, task_id, owner) values ($1, $2::uuid, $3)", [asked | {"msg_type": "spec"}, task, ANN]),
        ("insert into atlas.member (project_id, user_id, role) values ($1::uuid, auth.uid(), 'admin')", [project]),
    ]  # fmt: skip


async def of_ann(db: asyncpg.Connection) -> str:
    """A digest of all that is hers."""
    found: str = await db.fetchval(
        "select md5(string_agg(x, '|' order by x)) from ("
        "select t::text as x from atlas.task t where t.sender_key = $1 union all select a::text from atlas.attempt a join atlas.task t on t.id = a.task_id "
        "where t.sender_key = $1 union all select m::text from public.architect_in m where m.sender::text = $1 union all "
        "select o::text from public.architect_out o where o.owner::text = $1 union all select d::text from rag.document d where d.source = $2 union all "
        "select b::text from atlas.budget b where b.scope = 'sender:' || $1 union all select m::text from atlas.member m where m.user_id::text = $1) y",
        str(ANN), MARK,
    )  # fmt: skip
    return found


async def test_bob_sees_and_changes_nothing_of_anns_by_any_function(database: Database, db: asyncpg.Connection) -> None:
    await furnish(database, db)
    known, before = await hers(db), await of_ann(db)
    assert len(known["uuid"]) > 5
    called = 0
    async with acting(database, "user B") as bob:
        for function in await db.fetch(FUNCTIONS):
            for values in arguments(function["types"], function["least"], known):
                words = ", ".join(f"${n}::{kind}" for n, kind in enumerate(function["types"][: len(values)], 1))
                called += 1
                try:
                    rows = await bob.fetch(f"select x::text from {function['name']}({words}) x", *values)
                except asyncpg.PostgresError as error:
                    assert error.sqlstate != "XX000", function["signature"]
                    said = str(error)
                else:
                    said = " ".join(str(row[0]) for row in rows)
                named = str(values)
                told = [
                    mark for mark in (*map(str, known["uuid"]), *known["text"], QUESTION) if mark in said and mark not in named
                ]
                assert told == [], (function["signature"], values)
    assert called > 300
    assert await of_ann(db) == before, "nothing of hers has changed"


async def test_bob_reads_no_row_of_anns_in_any_table_or_view(database: Database, db: asyncpg.Connection) -> None:
    await furnish(database, db)
    known = await hers(db)
    marks = [*(str(one) for one in known["uuid"]), QUESTION]
    read = 0
    async with acting(database, "user B") as bob:
        for relation in await db.fetch(RELATIONS):
            rows = await bob.fetch(f"select x::text from {relation['name']} x")
            read += len(rows)
            text = " ".join(str(row[0]) for row in rows)
            assert [mark for mark in marks if mark in text] == [], relation["name"]
    assert read > 10, "his own rows are there"
    async with acting(database, "user A") as ann:
        assert await ann.fetchval("select count(*) from atlas.task_history") > 0, "the check can fail: she reads hers"


async def test_bob_writes_no_row_of_anns(database: Database, db: asyncpg.Connection) -> None:
    await furnish(database, db)
    before = await of_ann(db)
    async with acting(database, "user B") as bob:
        for relation in await db.fetch(RELATIONS):
            columns = [row["attname"] for row in await db.fetch(COLUMNS, relation["name"])]
            statements = [
                f"delete from {relation['name']}",
                f"insert into {relation['name']} select * from {relation['name']} limit 1",
                *(f"update {relation['name']} set {column} = {column}" for column in columns),
            ]
            for statement in statements:
                try:
                    async with bob.transaction():
                        assert (await bob.execute(statement)).split()[-1] == "0", statement
                except asyncpg.PostgresError as error:
                    assert error.sqlstate != "XX000", statement
        for statement, values in as_ann(await hers(db)):
            try:
                async with bob.transaction():
                    await bob.execute(statement, *values)
            except asyncpg.PostgresError as error:
                assert str(error.sqlstate).startswith(("AT", "42")), (statement, error)
            else:
                pytest.fail(f"it was taken: {statement}")
        for task in (await hers(db))["uuid"]:
            message = {
                "task_id": str(uuid4()),
                "role": "architect",
                "msg_type": "chat",
                "content": "And then?",
                "metadata": {"parent_id": str(task)},
            }
            try:
                await bob.execute("insert into public.architect_in (data) values ($1)", message)
            except asyncpg.PostgresError as error:
                assert str(error.sqlstate).startswith(("AT", "42", "23"))
    assert await of_ann(db) == before
    # a question that names a task of hers as the one before it gets none of its text
    rows = await db.fetch("select id, parent_id from atlas.task where parent_id is not null and sender_key <> $1", str(ANN))
    for row in rows:
        assert await db.fetch("select * from atlas.get_thread($1, $2)", row["parent_id"], row["id"]) == []
