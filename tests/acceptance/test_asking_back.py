"""Asking back: a question that lacks what its answer hinges on comes back with one question, at most once; nothing is reserved meanwhile."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
import pytest

from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, Database, Workers, ask, atlas_on, books_wrong, ended, reply, until
from tests.support.people import ANN, BOB, acting

BACK = "# Question\n\nHow many tenants share one database?\n\n- One each\n- Up to a hundred\n- Thousands\n"


async def waiting(db: asyncpg.Connection, task: object) -> None:
    await until(lambda: db.fetchval("select state = 'needs_input' from atlas.task where id = $1", task), 20, "it asks back")


async def test_one_question_back_then_the_record(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=BACK)
    openai.plan(match="Thousands", text=ADR)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    said = await atlas_on(database, "ask", "How should we keep tenants apart?", code=10)
    assert "How many tenants share one database?" in said
    assert "it asks back: atlas answer" in said
    task = await db.fetchval("select id from atlas.task")
    asked = await db.fetchval(
        "select data -> 'metadata' from public.architect_out where data #>> '{metadata,status}' = 'needs_input'"
    )
    assert asked["ask"] == {
        "text": "How many tenants share one database?", "choices": ["One each", "Up to a hundred", "Thousands"],
    }  # fmt: skip
    held = await db.fetchval("select coalesce(sum(reserved_tokens), 0) from atlas.spend where state in ('reserved', 'held')")
    assert held == 0, "nothing is reserved meanwhile"
    assert "# Ship with a pipeline" in await atlas_on(database, "answer", "last", "Thousands")
    first, second = openai.calls
    assert second["instructions"] == first["instructions"]
    assert [turn["role"] for turn in second["input"]] == ["user", "assistant", "user"]
    assert second["input"][1]["content"] == BACK.strip() or second["input"][1]["content"] == BACK
    assert second["input"][2]["content"].startswith("Thousands\n")
    row = await db.fetchrow("select state, attempts, failures from atlas.task where id = $1", task)
    assert tuple(row) == ("completed", 2, 0), "it cost no try"
    assert "is not waiting for an answer" in await atlas_on(database, "answer", str(task), "again", code=4)
    events = [one["event"] for one in await db.fetch("select event from atlas.audit where task_id = $1 order by seq", task)]
    assert "ask_back" in events
    assert "answer_task" in events
    assert await db.fetch("select * from atlas.verify_audit()") == []
    assert await books_wrong(database) == []


async def test_it_asks_once_at_most(db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble) -> None:
    openai.plan(text=BACK)
    openai.plan(match="in the form that was asked for", text=ADR, times=0)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    task = await ask(db, "How should we keep tenants apart?")
    await waiting(db, task)
    await db.execute("select atlas.answer_task($1, 'Few')", task)
    assert (await ended(db, task))["state"] == "completed"
    answer = await reply(db, task)
    assert answer["metadata"]["warnings"][0] == "it asks something back"
    assert len(openai.calls) == 3, "the question, the answer, one repair"
    with pytest.raises(asyncpg.PostgresError, match="is not waiting for an answer"):
        await db.execute("select atlas.answer_task($1, 'Few')", task)


async def test_a_task_that_waits_for_an_answer_can_be_cancelled_and_erased(
    db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble, database: Database
) -> None:
    openai.plan(text=BACK)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    first, second = await ask(db, "How should we keep tenants apart?"), await ask(db, "How should we keep users apart?")
    for one in (first, second):
        await waiting(db, one)
    assert await db.fetchval("select atlas.cancel_task($1)", first) == "cancelled"
    await db.execute("select atlas.answer_task($1, 'Few')", second)
    await ended(db, second)
    await db.execute("select atlas.erase($1)", second)
    assert await db.fetchrow("select asked, answered from atlas.task where id = $1", second) == (None, None)
    assert await books_wrong(database) == []


async def test_only_who_may_read_it_answers(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=BACK)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    task = uuid4()
    message = {"task_id": str(task), "role": "architect", "msg_type": "chat", "content": "How should we keep tenants apart?"}
    await db.execute("insert into public.architect_in (data, sender) values ($1, $2)", message, ANN)
    await waiting(db, task)
    async with acting(database, "authenticated", BOB) as bob:
        with pytest.raises(asyncpg.PostgresError, match="no task"):
            await bob.execute("select atlas.answer_task($1, 'x')", task)
    async with acting(database, "authenticated", ANN) as ann:
        with pytest.raises(asyncpg.PostgresError, match="is empty"):
            await ann.execute("select atlas.answer_task($1, ' ')", task)
        assert await ann.fetchval("select atlas.answer_task($1, 'Few')", task) == "queued"


async def test_a_thread_outside_answers_the_task_that_asked_there(
    db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=BACK)
    openai.plan(match="Thousands", text=ADR)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    task = await ask(db, "How should we keep tenants apart?", reply_to="github:o/r#7")
    await waiting(db, task)
    nobody = await db.fetchval("select atlas.answer_at('github', 'answer:1', 'github:o/r#8', 'Thousands')")
    assert nobody is None
    for _ in range(2):
        assert await db.fetchval("select atlas.answer_at('github', 'answer:2', 'github:o/r#7', 'Thousands')") == task
    assert (await ended(db, task))["state"] == "completed"
    assert await db.fetchval("select count(*) from atlas.task") == 1
    assert (await reply(db, task))["metadata"]["kind"] == "adr"
