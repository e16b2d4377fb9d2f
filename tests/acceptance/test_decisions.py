"""Decisions: records that a project accepted, rejected and superseded, by who may; over Postgres, REST and the command line."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from atlas.errors import NotFoundError, WrongState
from atlas.tasks.port import Tasks
from tests.contract.test_tasks import FACES
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, ROOT, Database, Workers, ask, atlas_on, books_wrong, claim, reserve, used
from tests.support.people import ANN, BOB, acting

DEFAULT = UUID("00000000-0000-0000-0000-000000000001")


async def answered(db: asyncpg.Connection, title: str = "Use Postgres", *, sender: UUID | None = None, **metadata: Any) -> UUID:
    """A question that was answered with a record."""
    if sender is None:
        task = await ask(db, f"{title}?")
    else:
        task = uuid4()
        message = {"task_id": str(task), "role": "architect", "msg_type": "chat", "content": f"{title}?"}
        await db.execute("insert into public.architect_in (data, sender) values ($1, $2)", message, sender)
    (row,) = await claim(db)
    await reserve(db, row["attempt_id"])
    await db.execute(
        "select testing.complete_task($1, $2, $3, $4)", row["attempt_id"], f"# {title}\n", metadata, {"0": used(100)}
    )
    return task


@FACES
async def test_a_reply_is_accepted_once_and_gets_the_next_number(face: Any, database: Database, db: asyncpg.Connection) -> None:
    first, second = await answered(db), await answered(db, "Use SQLite")
    async with face(database) as tasks:
        accepted = await tasks.accept(first, "it is what we know", [])
        assert (accepted["number"], accepted["status"], accepted["title"]) == (1, "accepted", "Use Postgres")
        assert await tasks.accept(first, None, []) == accepted, "again, it changes nothing"
        assert (await tasks.reject(second, "too small"))["number"] == 2
        rows = await tasks.decisions(project=DEFAULT)
        assert [(row["number"], row["status"], row["reason"]) for row in rows] == [
            (1, "accepted", "it is what we know"), (2, "rejected", "too small"),
        ]  # fmt: skip
        assert [row["number"] for row in await tasks.decisions(status="rejected")] == [2]
        assert await tasks.record(DEFAULT, 1) == "# Use Postgres\n"
        assert await tasks.spend("decision", since=None, until=None) != []
    events = await db.fetch("select event from atlas.audit where task_id = $1 order by seq", first)
    assert [row["event"] for row in events][-1] == "accept"
    assert await db.fetch("select * from atlas.verify_audit()") == []


@FACES
async def test_one_supersedes_another_and_no_circle_can_be_made(face: Any, database: Database, db: asyncpg.Connection) -> None:
    tasks_of = [await answered(db, f"Record {n}") for n in range(3)]
    async with face(database) as tasks:
        await tasks.accept(tasks_of[0], "known", [])
        second = await tasks.accept(tasks_of[1], "better", [1])
        assert second["number"] == 2
        assert (await tasks.accept(tasks_of[1], "better", [1]))["number"] == 2, "an answer that was lost is asked for again"
        (old,) = await tasks.decisions(number=1)
        assert (old["status"], old["superseded_by"]) == ("superseded", 2)
        assert (old["reason"], old["superseded_reason"]) == ("known", "better"), "why it was accepted stays"
        (new,) = await tasks.decisions(number=2)
        assert new["supersedes"] == [1]
        assert (await tasks.supersede(DEFAULT, 1, 2, None))["superseded_by"] == 2, "again, it changes nothing"
    refused: list[tuple[type[Exception], str, Callable[[Tasks], Awaitable[Any]]]] = [
        (WrongState, "ADR-1 is superseded", lambda tasks: tasks.supersede(DEFAULT, 2, 1, None)),
        (WrongState, "is ADR-1 already, superseded by ADR-2", lambda tasks: tasks.accept(tasks_of[0], None, [])),
        (WrongState, "cannot supersede itself", lambda tasks: tasks.supersede(DEFAULT, 2, 2, None)),
        (NotFoundError, "no decision ADR-9", lambda tasks: tasks.supersede(DEFAULT, 2, 9, None)),
        (WrongState, "ADR-1 is superseded by ADR-2", lambda tasks: tasks.accept(tasks_of[2], None, [1])),
    ]
    for kind, said, call in refused:
        with pytest.raises(kind, match=said):
            async with face(database) as tasks:
                await call(tasks)
    assert await db.fetchval("select count(*) from atlas.decision") == 2, "what cannot supersede is not accepted either"


async def test_what_proposes_nothing_cannot_be_accepted(database: Database, db: asyncpg.Connection) -> None:
    refused, cut, erased = await answered(db, kind="refusal"), await answered(db, truncated=True), await answered(db)
    await db.execute("select atlas.erase($1)", erased)
    queued = await ask(db)
    for task, said in ((refused, "a refusal"), (cut, "cut by its budget"), (erased, "was erased"), (queued, "is queued")):
        with pytest.raises(asyncpg.PostgresError, match=said):
            await db.execute("select atlas.accept($1)", task)
    with pytest.raises(asyncpg.PostgresError, match="no task"):
        await db.execute("select atlas.accept($1)", uuid4())
    with pytest.raises(asyncpg.PostgresError, match="longer than 2,000"):
        await db.execute("select atlas.reject($1, repeat('x', 2001))", await answered(db))


async def test_a_member_reads_and_a_decider_decides_and_a_stranger_does_neither(
    database: Database, db: asyncpg.Connection
) -> None:
    task = await answered(db, sender=ANN)
    project = await db.fetchval("select project_id from atlas.task where id = $1", task)
    await db.execute("insert into atlas.member (project_id, user_id) values ($1, $2) on conflict do nothing", project, ANN)
    await db.execute("update atlas.member set role = 'member' where user_id = $1", ANN)
    async with acting(database, "authenticated", ANN) as ann:
        with pytest.raises(asyncpg.PostgresError, match="neither a decider nor an admin"):
            await ann.execute("select atlas.accept($1)", task)
    await db.execute("update atlas.member set role = 'decider' where user_id = $1", ANN)
    async with acting(database, "authenticated", ANN) as ann:
        assert (await ann.fetchrow("select * from atlas.accept($1)", task))["decided_by"] == f"user:{ANN}"
        assert await ann.fetchval("select count(*) from atlas.decisions") == 1
        assert await ann.fetchval("select count(*) from atlas.spend_by_decision") == 1
    async with acting(database, "authenticated", BOB) as bob:
        await bob.execute("select 1")
        assert await bob.fetchval("select count(*) from atlas.decisions where project_id = $1", project) == 0
        with pytest.raises(asyncpg.PostgresError, match="no task"):
            await bob.execute("select atlas.reject($1)", task)
        with pytest.raises(asyncpg.PostgresError, match="neither a decider"):
            await bob.execute("select atlas.supersede($1, 1, 2)", project)


async def test_a_decision_outlasts_its_task_and_goes_when_that_is_erased(database: Database, db: asyncpg.Connection) -> None:
    kept, gone = await answered(db), await answered(db, "Use SQLite")
    for task in (kept, gone):
        await db.execute("select atlas.accept($1)", task)
    await db.execute(
        "update atlas.task set queued_at = queued_at - interval '9 days', finished_at = finished_at - interval '9 days' where id = $1",
        kept,
    )
    await db.execute("select atlas.set_retention('1 day')")
    assert (await db.fetchrow("select * from atlas.trim_history()"))["tasks"] == 1
    assert await db.fetchval("select content from atlas.decision where number = 1") == "# Use Postgres\n"
    await db.execute("select atlas.erase($1)", gone)
    assert await db.fetchval("select content from atlas.decision where number = 2") == "[erased]"
    late = await answered(db, "Use files")
    await db.execute("select atlas.accept($1)", late)
    await db.execute("select atlas.supersede($1, 2, 3)", DEFAULT)
    await db.execute("select atlas.erase($1)", kept)
    assert await db.fetchval("select content from atlas.decision where number = 1") == "[erased]", (
        "its task is gone, and it is found"
    )
    await db.execute("update atlas.task set erased_at = now() where id = $1", late)
    row = await db.fetchrow("select * from atlas.erase_sender('service', now())")
    assert row["erased"] == 1, "that of a task whose texts a retention had trimmed"
    assert await db.fetchval("select count(*) from atlas.decision where content <> '[erased]'") == 0
    assert await db.fetchval("select tokens from atlas.spend_by_decision where decision = 'default ADR-1'") == 100
    assert await db.fetch("select * from atlas.verify_audit()") == []


async def test_events_of_decisions_leave_by_the_outbox(db: asyncpg.Connection) -> None:
    await db.execute("insert into atlas.destination (name, kind, target) values ('p', 'pubsub', 'projects/x/topics/y')")
    await db.execute(
        "insert into atlas.destination (name, kind, target, filter) values ('q', 'pubsub', 'projects/x/topics/z', '{\"msg_type\": \"spec\"}')"
    )
    first, second = await answered(db), await answered(db, "Use SQLite")
    await db.execute("select atlas.accept($1)", first)
    await db.execute("select atlas.accept($1, null, '{1}')", second)
    rows = await db.fetch("select d.name, o.event_kind, o.payload from atlas.outbox o join atlas.destination d on d.id = o.destination_id "
                          "where o.event_kind like 'decision%' order by o.position")  # fmt: skip
    assert [(row["name"], row["event_kind"], row["payload"]["number"]) for row in rows] == [
        ("p", "decision.accepted", 1), ("p", "decision.accepted", 2), ("p", "decision.superseded", 1),
    ]  # fmt: skip
    assert rows[2]["payload"]["superseded_by"] == 2


async def test_many_decide_at_once_and_each_has_a_number_of_its_own(database: Database, db: asyncpg.Connection) -> None:
    found = [await answered(db, f"Record {n}") for n in range(12)]

    async def one(task: UUID) -> int:
        async with database.connect() as own:
            return int(await own.fetchval("select number from atlas.accept($1)", task))

    assert sorted(await asyncio.gather(*(one(task) for task in found))) == list(range(1, 13))
    assert await books_wrong(database) == []


async def test_by_the_command_line(database: Database, db: asyncpg.Connection) -> None:
    assert "nothing is decided yet" in await atlas_on(database, "decisions")
    await answered(db)
    assert "ADR-1 accepted: Use Postgres" in await atlas_on(database, "accept", "last", "--reason", "we know it")
    await answered(db, "Use SQLite")
    assert "ADR-2 accepted: Use SQLite" in await atlas_on(database, "accept", "last", "--supersedes", "ADR-1")
    listed = await atlas_on(database, "decisions")
    assert "superseded" in listed
    assert (await atlas_on(database, "decisions", "show", "adr-2")).strip() == "# Use SQLite"
    found = json.loads(await atlas_on(database, "decisions", "show", "1", "--json"))
    assert (found["superseded_by"], found["content"]) == (2, "# Use Postgres\n")
    await answered(db, "Use files")
    assert "ADR-3 rejected" in await atlas_on(database, "reject", "last", "--reason", "no")
    assert "ADR-3 is rejected" in await atlas_on(database, "supersede", "2", "--by", "3", code=4)
    assert "no decision ADR-9" in await atlas_on(database, "decisions", "show", "9", code=4)
    assert "is not a decision" in await atlas_on(database, "decisions", "show", "x7", code=2)
    assert "is not known" in await atlas_on(database, "decisions", "--status", "open", code=2)
    assert "ADR-1" in await atlas_on(database, "spend", "--by", "decision")


async def test_the_documents_commands_work_as_they_stand(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble, tmp_path: Path
) -> None:
    await db.execute(
        "insert into auth.users (id, email) values ($1, 'ann@example.com') on conflict (id) do update set email = excluded.email",
        ANN,
    )
    await db.execute("select atlas.create_project('payments')")
    openai.plan(text=ADR)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/deciding.md").read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 15
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci/build.yml").write_text("jobs: {}\n")
    for number, line in enumerate(lines):
        words = shlex.split(line)[1:]
        if "last" in words and words[0] != "diff":
            await atlas_on(database, "ask", "--anew", f"Which of the {number}?")
        if words[0] == "supersede":
            await atlas_on(database, "ask", "--anew", "Which one database?")
            await atlas_on(database, "accept", "last")
        await atlas_on(database, *words, cwd=tmp_path)
    rows = await db.fetch("select number, status from atlas.decision order by number")
    assert [tuple(row) for row in rows] == [(1, "superseded"), (2, "superseded"), (3, "accepted"), (4, "rejected")]
    assert (tmp_path / "docs/adr/0003-ship-with-a-pipeline.md").is_file()
    assert "Each push must be checked." in (tmp_path / "AGENTS.md").read_text()
    assert len(json.loads((tmp_path / "cases.json").read_text())) == 2
