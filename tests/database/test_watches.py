"""Who watches a running reply, and what is broadcast to whom: within the rate of the whole project, wake-ups first."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from atlas.messages import chat
from tests.support.core import Database, ask, claim, reserve
from tests.support.people import ANN, BOB, acting

INSERT = "insert into public.architect_in (data) values ($1)"


class Stream:
    """A running reply that is written by hand."""

    def __init__(self, db: asyncpg.Connection, task: UUID, attempt: UUID) -> None:
        self.db, self.task, self.attempt = db, task, attempt
        self.offset = self.generation = 0

    async def write(self, text: str, rate: float = 80) -> None:
        item = {"attempt_id": str(self.attempt), "call": 0, "generation": self.generation, "offset": self.offset, "text": text}
        await self.db.fetch("select * from atlas.record_progress($1, $2)", [item], rate)
        self.offset += len(text)

    def repair(self) -> None:
        self.generation, self.offset = self.generation + 1, 0

    async def watch(self, reader: UUID | None = None) -> Any:
        return await self.db.fetchval("select atlas.watch_task($1, $2)", self.task, reader or uuid4())

    async def wait(self, seconds: float) -> None:
        """Time passes."""
        await self.db.execute(
            "update atlas.watch set sent_at = sent_at - $2::interval where task_id = $1", self.task, timedelta(seconds=seconds)
        )

    async def heard(self) -> list[tuple[str, int, str | None]]:
        """What was broadcast: event, offset, text."""
        rows = await self.db.fetch(
            "select event, (payload ->> 'offset')::int, payload ->> 'text' from realtime.messages where topic = $1 "
            # within a transaction: as they were written
            "order by inserted_at, ctid",
            f"task:{self.task}",
        )
        return [tuple(row) for row in rows]


async def begin(db: asyncpg.Connection) -> Stream:
    task = await ask(db)
    (row,) = await claim(db, lease="1 hour")
    await reserve(db, row["attempt_id"])
    # long ago: it counts as no wake-up
    await db.execute("update public.architect_in set created_at = now() - interval '1 minute'")
    return Stream(db, task, row["attempt_id"])


async def test_text_that_nobody_watches_is_not_broadcast(db: asyncpg.Connection) -> None:
    stream = await begin(db)
    await stream.write("Hello")
    await stream.watch()
    await db.execute("update atlas.watch set expires_at = now()")
    await stream.write(" world")
    assert await stream.heard() == []
    assert await db.fetchval("select string_agg(text, '') from atlas.reply_part") == "Hello world", "the tables have it"


async def test_the_first_text_goes_at_once_and_the_rest_within_the_rate(db: asyncpg.Connection) -> None:
    stream = await begin(db)
    await stream.watch()
    await stream.write("One", rate=1)
    await stream.write(" two", rate=1)
    await stream.write(" three", rate=1)
    assert await stream.heard() == [("delta", 0, "One")], "two events at one a second: the next is due in two seconds"
    await stream.wait(1.9)
    await stream.write(" four", rate=1)
    assert len(await stream.heard()) == 1
    await stream.wait(0.2)
    await stream.write(" five", rate=1)
    assert await stream.heard() == [("delta", 0, "One"), ("delta", 3, " two three four five")], "all since the one before"


async def test_a_new_generation_is_told_of_at_once(db: asyncpg.Connection) -> None:
    stream = await begin(db)
    await stream.watch()
    await stream.write("Wrong", rate=0.01)
    stream.repair()
    await stream.write("Right", rate=0.01)
    assert await stream.heard() == [("delta", 0, "Wrong"), ("reset", 0, None), ("delta", 0, "Right")]


async def test_who_comes_late_hears_from_where_it_came(db: asyncpg.Connection) -> None:
    stream = await begin(db)
    await stream.write("before ")
    await stream.watch()
    await stream.write("after")
    assert await stream.heard() == [("delta", 7, "after")], "what was written before is in the tables"


async def test_the_rate_is_shared_by_all_that_are_watched_and_wake_ups_come_first(db: asyncpg.Connection) -> None:
    async def seconds(rate: float) -> float | None:
        found = await db.fetchval("select atlas.broadcast_interval($1)", rate)
        return None if found is None else float(found.total_seconds())

    streams = [await begin(db) for _ in range(4)]
    waiting = await ask(db)
    await db.execute("update public.architect_in set created_at = now() - interval '1 minute'")
    for stream in streams:
        await stream.watch()
    await streams[0].watch()
    await db.execute("select atlas.watch_task($1, gen_random_uuid())", waiting)
    assert await seconds(9) == 1.0, "four publishes and five deliveries; a task that waits has no text"
    await db.execute("select atlas.register_worker(gen_random_uuid(), 'w', '1', 1)")
    for _ in range(10):
        await ask(db)
    assert await seconds(7 + 4.5) == 2.0, "one insert a second with one worker: seven events"
    assert await seconds(7) is None
    for stream in streams:
        await stream.write("first", rate=7)
        await stream.write(" second", rate=7)
    assert [await stream.heard() for stream in streams] == [[("delta", 0, "first")]] * 4, "the rest is in the tables"


async def test_only_who_may_read_a_task_watches_it(database: Database, db: asyncpg.Connection) -> None:
    mine = chat("mine")
    task = UUID(mine["task_id"])
    async with acting(database, "authenticated", ANN) as ann, acting(database, "authenticated", BOB) as bob:
        await ann.execute(INSERT, mine)
        reader = uuid4()
        first = await ann.fetchval("select atlas.watch_task($1, $2)", task, reader)
        assert await ann.fetchval("select atlas.watch_task($1, $2)", task, reader) > first, "renewed"
        for unseen in (task, uuid4()):
            with pytest.raises(asyncpg.PostgresError, match="no task") as caught:
                await bob.fetchval("select atlas.watch_task($1, $2)", unseen, uuid4())
            assert caught.value.sqlstate == "AT004"
        with pytest.raises(asyncpg.PostgresError, match="p_reader is missing"):
            await ann.fetchval("select atlas.watch_task($1, null)", task)
        assert await ann.fetchval("select count(*) from atlas.watch") == 1
        assert await bob.fetchval("select count(*) from atlas.watch") == 0
        assert await db.fetchval("select atlas.watch_task($1, $2)", task, reader) is None, "a reader's id is its own"


async def test_watches_are_bounded_and_old_ones_go(database: Database, db: asyncpg.Connection) -> None:
    mine = chat("mine")
    async with acting(database, "authenticated", ANN) as ann:
        await ann.execute(INSERT, mine)
        watch = "select atlas.watch_task($1, gen_random_uuid())"
        answers = [await ann.fetchval(watch, UUID(mine["task_id"])) for _ in range(51)]
        assert (answers[49] is not None, answers[50]) == (True, None)
        other = chat("another")
        await ann.execute(INSERT, other)
        assert await ann.fetchval(watch, UUID(other["task_id"])) is None, "fifty a person, over all of their tasks"
        await db.execute("update atlas.watch set expires_at = now() - interval '2 minutes'")
        assert await ann.fetchval(watch, UUID(other["task_id"])) is not None
    assert await db.fetchval("select count(*) from atlas.watch") == 50 - 20 + 1, "twenty a call"
