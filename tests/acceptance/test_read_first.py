"""Read first: what is decided already is answered from the decisions; what would change one, or overlaps with a draft, says so."""

from __future__ import annotations

import json
from uuid import UUID

import asyncpg
import pytest

from atlas.architect.standing import NearRecord, Standing, is_same
from atlas.record.opening import opening_of
from atlas.task import JsonObject
from benchmarks.read_first import SET, measured
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, Database, Workers, ask, atlas_on, books_wrong, ended, reply
from tests.support.people import ANN, BOB

POSTGRES = ADR.replace("# Ship with a pipeline", "# Keep sessions in Postgres")
QUESTION = "Which database should we use for sessions?"


async def decided(db: asyncpg.Connection, question: str = QUESTION, **metadata: object) -> UUID:
    task = await ask(db, question, **metadata)
    assert (await ended(db, task))["state"] == "completed"
    await db.execute("select atlas.accept($1)", task)
    return task


async def test_what_is_decided_is_answered_from_the_decision(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=POSTGRES)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    first = await decided(db)
    assert (await reply(db, first))["metadata"]["read_first"] == {"verdict": "new"}
    again = await ask(db, "which DATABASE do we use for the sessions")
    assert (await ended(db, again))["state"] == "completed"
    said = await reply(db, again)
    assert said["metadata"]["kind"] == "decided"
    opening = opening_of(said["content"])
    assert said["metadata"]["read_first"] == {"verdict": "decided", "decisions": [1], "opening": opening}
    assert said["content"].startswith("> Already decided in ADR-1, on ")
    assert said["content"].removeprefix(opening_of(said["content"])) == POSTGRES
    assert len(openai.calls) == 1, "no model was called"
    assert await db.fetchval("select count(*) from atlas.spend where task_id = $1", again) == 0
    assert "a decision already, and proposes nothing" in await atlas_on(database, "accept", str(again), code=4)
    await atlas_on(database, "ask", "--anew", QUESTION)
    assert len(openai.calls) == 2
    anew = await db.fetchval(
        "select data from public.architect_out where data #>> '{metadata,status}' = 'completed' order by id desc limit 1"
    )
    assert anew["content"].startswith("> Would change ADR-1 (Keep sessions in Postgres).\n\n# Keep")
    assert "warnings" not in anew["metadata"], "the opening is no part of the record"
    assert await books_wrong(database) == []


async def test_a_record_that_would_change_a_decision_says_so_from_its_first_character(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=POSTGRES)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    await decided(db)
    openai.plan(text=POSTGRES.replace("# Keep", "# Move"), delay=0.02)
    said = await atlas_on(database, "ask", "--stream", "Should sessions move to another database?")
    assert said.startswith("> Would change ADR-1")
    second = await db.fetchval("select id from atlas.task order by queued_at desc limit 1")
    decision = await db.fetchrow("select * from atlas.accept($1, null, '{1}')", second)
    assert decision["content"] == POSTGRES.replace("# Keep", "# Move"), "without its opening"
    assert decision["constraints"] == ["Each push must be checked."]
    assert (decision["paths"], decision["checks"]) == (["ci/**"], ["make check"])
    third = await ask(db, "Should sessions move to yet another database?")
    assert (await ended(db, third))["state"] == "completed"
    assert (await reply(db, third))["metadata"]["read_first"]["decisions"] == [2], "what was superseded is not spoken of"
    sources = await db.fetch("select source from rag.document where source like 'decision:%'")
    assert [row["source"] for row in sources] == ["decision:ADR-2"], "searches find what holds"
    await db.execute("select atlas.erase($1)", second)
    assert await db.fetchval("select count(*) from rag.document") == 0


async def test_an_open_draft_of_the_project_is_spoken_of_until_it_is_decided(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=POSTGRES)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    draft = await ask(db, QUESTION)
    await ended(db, draft)
    task = await ask(db, "Which database is right for sessions of agents?")
    await ended(db, task)
    said = await reply(db, task)
    assert said["metadata"]["read_first"] | {"opening": ""} == {"verdict": "overlaps", "drafts": [str(draft)], "opening": ""}
    assert said["content"].startswith(
        f"> Overlaps with an open draft of service: Keep sessions in Postgres (task {draft}).\n\n"
    )
    for one in (draft, task):
        await db.execute("select atlas.reject($1)", one)
    assert await db.fetchval("select count(*) from atlas.open_draft") == 0
    after = await ask(db, "Which database is right for all sessions?")
    await ended(db, after)
    assert (await reply(db, after))["content"].startswith(
        "> Would change ADR-2 (rejected: Keep sessions in Postgres), ADR-1 (rejected: "
    )
    await db.execute("select atlas.erase($1)", after)
    assert await db.fetchval("select count(*) from atlas.open_draft") == 0, "what is erased is no draft"


async def test_nobody_hears_of_what_they_may_not_read(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=POSTGRES)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    await decided(db, sender_key="github:1")
    drafted = await ask(db, "Where do we keep the secrets of tenants, and should we?", sender_key="github:1")
    await ended(db, drafted)
    stranger = await ask(db, "Where should we keep the secrets of tenants?", sender_key="github:2")
    await ended(db, stranger)
    assert "Overlaps" not in (await reply(db, stranger))["content"], "another's draft"
    await db.execute("delete from atlas.member where user_id = any($1)", [ANN, BOB])
    alone = await db.fetchval("select atlas.create_project('alone')")
    await db.execute("insert into atlas.member (project_id, user_id) values ($1, $2)", alone, BOB)
    await db.execute(
        "insert into public.architect_in (data, sender) values ($1, $2)",
        {"task_id": "7d444840-9dc0-11d1-b245-5ffdce74fad2", "role": "architect", "msg_type": "chat", "content": QUESTION}, BOB,
    )  # fmt: skip
    other = UUID("7d444840-9dc0-11d1-b245-5ffdce74fad2")
    await ended(db, other)
    assert (await reply(db, other))["metadata"]["read_first"] == {"verdict": "new"}, "another project's decision"


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("Which database should we use?", "which database do we use", True),
        ("Which queue for mail?", "For mail, which queue?", False),
        ("Should we use Kafka?", "Should we not use Kafka?", False),
        ("Should workers retry 3 times?", "Should workers retry 5 times?", False),
        ("Should we move from Kafka to NATS?", "Should we move from NATS to Kafka?", False),
        ("Should we enable TLS?", "Should we disable TLS?", False),
        ("How do we store events?", "How do we store event data?", False),
        ("How are events stored?", "How do we store an event?", True),
        ("Do we run migrations before the deploy?", "Do we run migrations after the deploy?", False),
        ("Should we turn autoscaling on?", "Should we turn autoscaling off?", False),
        ("Redis and Postgres for sessions?", "Redis or Postgres for sessions?", False),
        ("Should we alert above the limit?", "Should we alert below the limit?", False),
        ("Should workers scale up at night?", "Should workers scale down at night?", False),
        ("Should we move from Kafka to SQS?", "Should we move to Kafka from SQS?", False),
        ("Do I own the data?", "Do they own the data?", False),
        ("x " * 3_000 + "Redis?", "x " * 3_000 + "Kafka?", False),
        ("Should workers retry jobs at once?", "How should workers retry jobs?", False),
        ("Should workers retry jobs at once?", "Should workers retry jobs?", False),
        ("?", "!", False),
    ],
)
async def test_the_same_question_is_the_same_and_a_near_one_is_not(
    db: asyncpg.Connection, one: str, two: str, same: bool
) -> None:
    words = [await db.fetchval("select atlas.words_of($1)", text) for text in (one, two)]
    assert is_same(one, words[0], two, words[1]) is same


async def test_a_replay_is_no_decision_of_another_question(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=POSTGRES)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    first = await ask(db, QUESTION)
    await ended(db, first)
    forged = await ask(db, "Should we store passwords in plain text?", replays=str(first))
    await ended(db, forged)
    assert "is a replay of another" in await atlas_on(database, "accept", str(forged), code=4)
    unknown = await ended(db, await ask(db, QUESTION, replays=str(first), model="o9-ultra-pro"))
    assert unknown["state"] == "failed"
    assert "model o9-ultra-pro is not known here" in unknown["error_message"]
    with pytest.raises(asyncpg.PostgresError, match="cannot go with revises"):
        await ask(db, QUESTION, replays=str(first), revises=str(first))


async def test_nothing_else_is_taken_for_decided_on_the_set(db: asyncpg.Connection) -> None:
    found = (await measured(db, json.loads(SET.read_text(encoding="utf-8"))))["reported"]
    asked = found["same"] + found["change"] + found["near"]
    wrong = sum(found[f"{kind} wrongly decided"] for kind in ("same", "change", "near"))
    assert asked >= 50
    assert wrong == 0, "below 1 in 50 of these"
    assert found["same first"] >= 0.9 * found["same"], "the right record comes first"


def test_an_opening_is_one_line_whatever_a_title_holds() -> None:
    found: JsonObject = {"title": "a\n\n# b", "share": 1.0, "number": 0, "status": "accepted"}
    opening = Standing(verdict="changes", decisions=(NearRecord(**found),)).opening
    assert opening == "> Would change ADR-0 (a # b).\n\n"
    assert opening_of(f"{opening}# Record") == opening
    assert opening_of("# Record\n\n> Would change ADR-0 (x).\n\n") == ""
