"""The port of tasks: what an operator reads over Postgres and a person over REST is one thing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest

from atlas.database import operator
from atlas.database.tasks import PostgresTasks
from atlas.errors import NotFoundError, UsageError
from atlas.ids import short_id
from atlas.messages import chat
from atlas.supabase import tasks as rest
from atlas.tasks.port import Tasks
from atlas.variables import load
from tests.support.core import Database, ask, claim, command, reserve, stand_in_of, used


@asynccontextmanager
async def over_postgres(database: Database) -> AsyncIterator[Tasks]:
    async with operator.connect(database.url()) as found:
        yield PostgresTasks(found)


@asynccontextmanager
async def over_rest(database: Database) -> AsyncIterator[Tasks]:
    async with AsyncExitStack() as stack:
        stand_in = await stack.enter_async_context(stand_in_of(database))
        env = {"SUPABASE_URL": stand_in.url, "SUPABASE_SECRET_KEY": stand_in.keys.secret}
        yield await stack.enter_async_context(rest.connect(load(env)))


FACES = pytest.mark.parametrize("face", [over_postgres, over_rest], ids=["postgres", "rest"])


async def answered(db: asyncpg.Connection, question: str = "How?") -> UUID:
    task = await ask(db, question)
    (row,) = await claim(db)
    await reserve(db, row["attempt_id"])
    await db.execute("select testing.complete_task($1, 'Like this', '{}', $2)", row["attempt_id"], {"0": used(100)})
    return task


@FACES
async def test_a_task_is_found_by_its_id_its_beginning_and_as_the_last(
    face: type, database: Database, db: asyncpg.Connection
) -> None:
    first, last = await ask(db, "first"), await ask(db, "last")
    async with face(database) as tasks:
        assert await tasks.find(str(first)) == first
        assert await tasks.find(short_id(first)) == first
        assert await tasks.find(str(first)[:20]) == first
        assert await tasks.find("last") == last
        with pytest.raises(NotFoundError):
            await tasks.find("last", state="dead_lettered")
        with pytest.raises(NotFoundError):
            await tasks.find(str(uuid4()))
        for wrong in ("abc", "not an id", "x" * 40):
            with pytest.raises(UsageError):
                await tasks.find(wrong)


@FACES
async def test_a_command_is_found_by_the_id_that_its_message_carried(
    face: type, database: Database, db: asyncpg.Connection
) -> None:
    carried = await command(db, {"command": "heartbeat"})
    task = await db.fetchval("select id from atlas.task where message_task_id = $1", carried)
    async with face(database) as tasks:
        assert await tasks.find(str(carried)) == task
        assert await tasks.find(str(carried)[:13]) == task


@FACES
async def test_what_fits_several_names_them(face: type, database: Database, db: asyncpg.Connection) -> None:
    for end in ("1", "2"):
        await db.execute(
            "insert into public.architect_in (data) values ($1)",
            chat("?", task_id=UUID(f"abcdef00-0000-4000-8000-00000000000{end}")),
        )
    async with face(database) as tasks:
        with pytest.raises(UsageError, match="abcdef00-0000"):
            await tasks.find("abcdef")


@FACES
async def test_a_task_has_its_question_reply_calls_and_audit(face: type, database: Database, db: asyncpg.Connection) -> None:
    task = await answered(db, "How do we test?")
    async with face(database) as tasks:
        found = await tasks.task(task)
        state = await tasks.state(task)
        assert (found["question"], found["reply"], found["state"]) == ("How do we test?", "Like this", "completed")
        assert [(call["call"], call["tokens"]) for call in found["calls"]] == [(0, 100)]
        assert [row["event"] for row in found["audit"]][:2] == ["submit_task", "reserve_tokens"]
        assert isinstance(found["queued_at"], datetime)
        assert found["took"].total_seconds() >= 0
        assert (state["state"], state["reply"], state["wait_reason"]) == ("completed", "Like this", None)
        with pytest.raises(NotFoundError):
            await tasks.task(uuid4())
        with pytest.raises(NotFoundError):
            await tasks.state(uuid4())


@FACES
async def test_tasks_are_filtered_newest_first(face: type, database: Database, db: asyncpg.Connection) -> None:
    done = await answered(db)
    waiting = await ask(db, "later")
    async with face(database) as tasks:
        everything = await tasks.tasks(limit=10, state=None, sender=None, project=None)
        assert [UUID(str(row["id"])) for row in everything] == [waiting, done]
        assert [
            row["state"] for row in await tasks.tasks(limit=10, state="completed", sender="service", project="default")
        ] == ["completed"]
        assert await tasks.tasks(limit=10, state=None, sender="nobody", project=None) == []
        with pytest.raises(NotFoundError):
            await tasks.project("no-such-project")


@FACES
async def test_a_message_is_sent_once_and_cancelled(face: type, database: Database, db: asyncpg.Connection) -> None:
    message = chat("Once?")
    async with face(database) as tasks:
        sent = await tasks.submit(message)
        again = await tasks.submit(message)
        assert (sent["created"], again["created"], again["state"]) == (True, False, "queued")
        assert await tasks.cancel(UUID(message["task_id"])) == "cancelled"
        assert await tasks.parts_after(UUID(message["task_id"]), 0, 0, -1) == []


@FACES
@pytest.mark.parametrize("by", ["day", "model", "sender", "project"])
async def test_spend_is_summed_up(face: type, by: str, database: Database, db: asyncpg.Connection) -> None:
    await answered(db)
    await answered(db)
    today = datetime.now(UTC).date()
    async with face(database) as tasks:
        (row,) = await tasks.spend(by, since=today, until=None)
        assert (row["calls"], row["tokens"], row["unknown"]) == (2, 200, 0)
        assert await tasks.spend(by, since=None, until=today) == []
