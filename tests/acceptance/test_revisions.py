"""Revisions: a new version in which untouched sections are the same byte for byte; what changed, by section and sentence."""

from __future__ import annotations

import json
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.record.changes import changes, sections, splice
from atlas.record.decision import SECTIONS
from tests.acceptance.test_kinds import WORK
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, Database, Workers, ask, atlas_on, ended, reply

NEW = "## Decision\n\nRun checks on each merge [inferred].\n\n```\n## Not a section\n```\n\n## Rollout\n\nTwo commits.\n"


async def test_a_revision_changes_what_it_must_and_nothing_else(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=ADR)
    openai.plan(match="on each merge", text=NEW)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    await atlas_on(database, "ask", "How should we ship?")
    first = await db.fetchval("select id from atlas.task")
    await db.execute("select atlas.accept($1)", first)
    said = await atlas_on(database, "revise", "last", "Check on each merge, not on each push")
    assert "Run checks on each merge" in said
    call = openai.calls[1]
    assert [turn["role"] for turn in call["input"]] == ["user", "assistant", "user", "user"], (
        "the question, the record, sources, the change"
    )
    assert call["input"][1]["content"] == ADR
    assert "those sections alone" in " ".join(call["instructions"].split())
    second = await db.fetchval("select id from atlas.task order by queued_at desc limit 1")
    answer = await reply(db, second)
    assert answer["metadata"]["sections"] == ["Decision", "Rollout"]
    assert answer["metadata"]["revises"] == str(first)
    assert "warnings" not in answer["metadata"]
    before = {section.name: section.text for section in sections(ADR)}
    after = {section.name: section.text for section in sections(answer["content"])}
    assert list(after) == list(before)
    assert {name for name in before if before[name] != after[name]} == {"Decision", "Rollout"}
    shown = await atlas_on(database, "diff", "last")
    assert "## Decision (changed)\n- Run checks on each push [inferred].\n+ Run checks on each merge [inferred]." in shown
    found = json.loads(await atlas_on(database, "diff", str(second), str(first), "--json"))
    assert {one["section"] for one in found if one["state"] == "changed"} == {"Decision", "Rollout"}
    assert "revises nothing" in await atlas_on(database, "diff", str(first), code=2)
    # accepted, it takes the place of what it revises
    assert "ADR-2 accepted" in await atlas_on(database, "accept", "last")
    rows = await db.fetch("select number, status, superseded_by from atlas.decision order by number")
    assert [tuple(row) for row in rows] == [(1, "superseded", 2), (2, "accepted", None)]


async def test_a_revision_of_a_draft_takes_its_place(db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble) -> None:
    openai.plan(text=ADR)
    openai.plan(match="merge", text=NEW)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    first = await ask(db, "How should we ship?")
    await ended(db, first)
    second = await ask(db, "On each merge", revises=str(first))
    await ended(db, second)
    assert [row["task_id"] for row in await db.fetch("select task_id from atlas.open_draft")] == [second]


async def test_what_changes_nothing_is_asked_for_again_and_said(
    db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=ADR)
    openai.plan(match="Better", text="I would not change it.")
    openai.plan(match="no section was written anew", text="I would not change it.")
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    first = await ask(db, "How should we ship?")
    await ended(db, first)
    second = await ask(db, "Better", revises=str(first))
    await ended(db, second)
    assert (await ended(db, second))["error_message"] is None
    answer = await reply(db, second)
    assert answer["content"] == ADR
    assert answer["metadata"]["warnings"][0].startswith("no section was written anew")


async def test_what_cannot_be_revised_is_said(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=ADR)
    openai.plan(match="plan it", text=json.dumps(WORK))
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    nothing = await ask(db, "Better", revises=str(uuid4()))
    row = await ended(db, nothing)
    assert (row["state"], row["error_message"].split(":")[0][:22]) == (
        "failed",
        "no reply of task " + row["error_message"][17:22],
    )
    planned = await ask(db, "plan it", kind="plan")
    await ended(db, planned)
    row = await ended(db, await ask(db, "Better", revises=str(planned)))
    assert "a plan, and cannot be revised" in row["error_message"]
    private = await ask(db, "Mine?", sender_key="github:1")
    await ended(db, private)
    with pytest.raises(asyncpg.PostgresError, match="revises"):
        await ask(db, "Better", revises="x")
    assert "ask with" in await atlas_on(database, "revise", str(private), "", code=2)
    calls = len(openai.calls)
    assert calls == len([call for call in openai.calls if "Better" not in json.dumps(call["input"])])


TEXTS = st.lists(
    st.sampled_from(["# T\n", "## A\n", "## B\n", "## 2. c:\n", "text\n", "\n", "```\n## no\n```\n", "### i\n", "x"]),
    max_size=14,
).map("".join)


@given(TEXTS, TEXTS)
def test_the_sections_are_the_text_and_what_is_untouched_stays(one: str, two: str) -> None:
    assert "".join(section.text for section in sections(one)) == one
    whole, changed = splice(one, two, ("A", "B", "C"))
    if not changed:
        assert whole == one
    same, none = splice(one, one, ("A", "B", "C"))
    assert (same, none) == (one, [])
    names = {section.name for section in sections(one)}
    for change in changes(one, whole):
        assert change.name in {*names, *changed, "title"}


def test_a_new_section_goes_where_it_belongs() -> None:
    text = ADR.replace("## Rollout\n\nOne commit; revert it.\n\n", "")
    whole, changed = splice(text, "# Ship it\n\n## Rollout\n\nSlowly.\n", SECTIONS)
    assert changed == ["title", "Rollout"]
    assert [section.name for section in sections(whole)] == [section.name for section in sections(ADR)]
    assert whole.startswith("# Ship it\n\n## Context\n")


def test_what_is_not_rewritten_is_the_same_to_the_letter() -> None:
    one = "# T\n\nfoo\u2028bar\x0cbaz\x85\n\n## A\na\n## B\nb\n"
    whole, changed = splice(one, "## B\n\nnew\n", ("A", "B"))
    assert changed == ["B"]
    assert whole.startswith(one[: one.index("## B")])
    windows, _ = splice("## A\r\na\r\n## B\r\nb\r\n", "## B\n\nnew\n", ("A", "B"))
    assert windows.startswith("## A\r\na\r\n")


def test_sentences_that_went_and_came_are_told_apart() -> None:
    (change,) = changes("## A\n\nOne. Two. Three.\n\n| a | b |\n", "## A\n\nOne. 2 now. Three.\n\n| a | c |\n")
    assert (change.state, change.removed, change.added) == ("changed", ("Two.", "| a | b |"), ("2 now.", "| a | c |"))
    gone = changes("## A\n\nx\n\n## B\n\ny\n", "## A\n\nx\n")
    assert [(one.name, one.state) for one in gone] == [("A", "same"), ("B", "removed")]
