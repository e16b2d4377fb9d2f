"""The audit holds, also against its owner."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from atlas.database.audit import audit_mac, seal_audit
from atlas.database.pool import Pool
from atlas.errors import RefusedError
from tests.support.core import Database, ask, claim, reserve, used

KEY = b"a key that Postgres never sees"


async def finish(db: asyncpg.Connection, count: int = 1) -> None:
    for _ in range(count):
        await ask(db)
    for task in await claim(db, count):
        await reserve(db, task["attempt_id"])
        await db.execute("select testing.complete_task($1, 'x', '{}', $2)", task["attempt_id"], {"0": used(100)})


async def test_a_tasks_rows_are_chained_and_name_the_functions(db: asyncpg.Connection) -> None:
    await finish(db)
    rows = await db.fetch("select seq, event, detail, prev_hash, hash from atlas.audit order by seq")
    assert [row["event"] for row in rows] == ["submit_task", "reserve_tokens", "complete_task"]
    assert rows[1]["detail"].keys() == {"attempt", "worker", "call", "model", "tokens", "usd"}
    assert rows[2]["detail"]["calls"] == [{"call": 0, "model": "gpt-4.1", "tokens": 100, "usd": 0.0008, "known": "reported"}]
    assert rows[0]["prev_hash"] is None
    assert [row["prev_hash"] for row in rows[1:]] == [row["hash"] for row in rows[:-1]]


@pytest.mark.cooks_the_books
async def test_a_rewritten_row_is_found(db: asyncpg.Connection) -> None:
    await finish(db)
    await db.execute("alter table atlas.audit disable trigger append_only")
    await db.execute("update atlas.audit set actor = 'somebody else' where seq = 2")
    problems = await db.fetch("select * from atlas.verify_audit()")
    assert [row["problem"] for row in problems] == ["hash does not fit the row"]


@pytest.mark.cooks_the_books
async def test_a_removed_row_is_found(db: asyncpg.Connection) -> None:
    await finish(db)
    await db.execute("alter table atlas.audit disable trigger append_only")
    await db.execute("delete from atlas.audit where seq = 2")
    assert [row["problem"] for row in await db.fetch("select * from atlas.verify_audit()")] == [
        "chain is broken before this row"
    ]


@pytest.mark.cooks_the_books
async def test_a_chain_that_was_rewritten_whole_is_found_by_its_seal(database: Database, db: asyncpg.Connection) -> None:
    await finish(db, 2)
    async with Pool.connect(database.url("atlas_worker")) as bus:
        assert await seal_audit(bus, KEY) == 6
        assert await seal_audit(bus, KEY) == 0
        await finish(db)
        assert await seal_audit(bus, KEY) == 3
    assert await db.fetch("select * from atlas.verify_audit()") == []
    seals = await db.fetch("select *, upto::text as upto_text from atlas.audit_checkpoint order by id")
    assert seals[0]["mac"] == audit_mac(KEY, seals[0]["upto_text"], 6, seals[0]["digest"], None)
    assert seals[1]["prev_mac"] == seals[0]["mac"]
    assert await db.fetchval("select count(*) from atlas.outbox where event_kind = 'audit_seal'") == 2
    await db.execute("alter table atlas.audit disable trigger append_only")
    await db.execute("delete from atlas.audit where task_id = (select min(task_id::text)::uuid from atlas.audit)")
    problems = [row["problem"] for row in await db.fetch("select * from atlas.verify_audit()")]
    assert any("seal" in problem for problem in problems)


async def test_a_seal_leaves_out_what_may_still_commit(database: Database, db: asyncpg.Connection) -> None:
    async with database.connect() as slow, Pool.connect(database.url("atlas_worker")) as bus:
        transaction = slow.transaction()
        await transaction.start()
        await ask(slow)
        await finish(db)
        assert await seal_audit(bus, KEY) == 0
        await transaction.commit()
        assert await seal_audit(bus, KEY) == 4
    assert await db.fetch("select * from atlas.verify_audit()") == []


async def test_two_sealers_make_one_chain(database: Database, db: asyncpg.Connection) -> None:
    async with Pool.connect(database.url("atlas_worker")) as one, Pool.connect(database.url("atlas_worker")) as two:
        for _ in range(5):
            await finish(db)
            await asyncio.gather(seal_audit(one, KEY), seal_audit(two, KEY))
    assert await db.fetch("select * from atlas.verify_audit()") == []
    rows = await db.fetch("select mac, prev_mac from atlas.audit_checkpoint order by id")
    assert [row["prev_mac"] for row in rows[1:]] == [row["mac"] for row in rows[:-1]]


async def test_who_has_not_the_key_cannot_seal(database: Database, db: asyncpg.Connection) -> None:
    """The worker's role is not enough: a false MAC would stand in the chain forever."""
    async with Pool.connect(database.url("atlas_worker")) as bus:
        await finish(db)
        assert await seal_audit(bus, KEY) == 3
        await finish(db)
        with pytest.raises(RefusedError, match="the seal before was made with another key"):
            await seal_audit(bus, b"another key")
        assert await seal_audit(bus, KEY) == 3
        await db.execute("select atlas.renew_audit_key()")
        assert await seal_audit(bus, b"another key") == 1
        await finish(db)
        with pytest.raises(RefusedError, match="another key"):
            await seal_audit(bus, KEY)
        with pytest.raises(RefusedError):
            await bus.value("select atlas.renew_audit_key()")


async def test_a_reply_that_was_changed_is_found(db: asyncpg.Connection) -> None:
    """The audit holds what was completed; who owns the database can change what people read."""
    tasks = [await ask(db, f"question {n}") for n in range(3)]
    for n, row in enumerate(await claim(db, 3)):
        await db.execute("select testing.complete_task($1, $2)", row["attempt_id"], f"reply {n} – ü")
    assert await db.fetch("select * from atlas.verify_audit()") == []
    await db.execute("select atlas.erase($1)", tasks[0])
    assert await db.fetch("select * from atlas.verify_audit()") == [], "an erased task is not reported"
    await db.execute("update public.architect_out set data = '{}' where task_id = $1 and data ->> 'content' <> ''", tasks[1])
    await db.execute(
        "update public.architect_out set data = data || '{\"content\": \"forged\"}' where task_id = $1 and data ->> 'content' <> ''",
        tasks[2],
    )
    rows = await db.fetch("select problem, task_id from atlas.verify_audit()")
    assert {tuple(row) for row in rows} == {("the reply is not the one that was completed", task) for task in tasks[1:]}


@pytest.mark.parametrize(
    "change",
    [
        "update public.architect_out set data = jsonb_set(data, '{metadata,sources}', '[{\"id\": \"S1\"}]') where id = $1",
        "update public.architect_out set data = jsonb_set(data, '{metadata,model}', '\"another\"') where id = $1",
        'update public.architect_out set data = data || \'{"msg_type": "control"}\' where id = $1',
        "update public.architect_out set task_id = gen_random_uuid() where id = $1",
        "update atlas.task set out_id = (select min(id) from public.architect_out) where out_id = $1",
    ],
    ids=["sources", "model", "kind", "whose", "which"],
)
async def test_more_than_the_text_of_a_reply_is_proven(db: asyncpg.Connection, change: str) -> None:
    task = await ask(db)
    (row,) = await claim(db)
    await db.execute("select testing.complete_task($1, 'fine')", row["attempt_id"])
    await db.execute(change, await db.fetchval("select out_id from atlas.task where id = $1", task))
    rows = await db.fetch("select problem, task_id from atlas.verify_audit()")
    assert [tuple(row) for row in rows] == [("the reply is not the one that was completed", task)]


async def test_a_question_that_was_changed_is_found(db: asyncpg.Connection) -> None:
    tasks = [await ask(db, f"question {n}") for n in range(2)]
    assert await db.fetch("select * from atlas.verify_audit()") == []
    await db.execute(
        "update public.architect_in set data = data || '{\"content\": \"another\"}' where (data ->> 'task_id')::uuid = $1",
        tasks[0],
    )
    rows = await db.fetch("select problem, task_id from atlas.verify_audit()")
    assert [tuple(row) for row in rows] == [("the message is not the one that was submitted", tasks[0])]
