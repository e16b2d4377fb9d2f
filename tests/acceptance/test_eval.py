"""Evaluation: replies are scored by rules, against models or as they were recorded; a reply over the budget fails the command."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from atlas.architect import prompt
from atlas.architect.kinds import KINDS
from atlas.architect.room import LEAST_OUTPUT, Room
from atlas.errors import UsageError
from atlas.llm.tokens import Vocabularies
from atlas.record.score import EvalCase, read_cases, score
from atlas.settings import Settings
from atlas.task import Chunk
from tests.acceptance.test_decisions import answered
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, ROOT, Database, Workers, atlas_on

CASES = read_cases(json.loads((ROOT / "examples/eval/team.json").read_text()), "team.json")
GOOD = ADR.replace("- Each push must be checked.", "- The pipeline must answer within ten minutes.\n- Pull requests must not get secrets.\n"
                   "- Only main must build the image.")  # fmt: skip
BAD = "# X\n\n## Decision\n\nWe use a long-lived cloud key [S9].\n\n## Sources\n\nNone.\n"


def case(**changes: object) -> EvalCase:
    return CASES[0].model_copy(update=changes)


def test_a_good_reply_scores_above_a_bad_one_in_everything() -> None:
    good, bad = (score(CASES[0], "x", text, KINDS["adr"].sections) for text in (GOOD, BAD))
    assert (good.structure, good.coverage, good.contradictions, good.unsupported) == (1.0, 1.0, 0, 0)
    assert bad.structure < 0.2
    assert (bad.coverage, bad.contradictions, bad.citations, bad.unsupported) == (0.0, 1, 0.0, 0)


def test_what_a_source_does_not_say_and_what_contradicts_a_decision_are_counted() -> None:
    text = GOOD.replace("Merges are rare [assumed].", "We merge 40 times a week [S1]. They run on Redis [S1].")
    found = score(case(), "x", text, KINDS["adr"].sections, passages={"S1": "We merge 4 times a week."})
    assert (found.unsupported, found.citations) == (2, 1.0)
    decided = [{"number": 3, "constraints": ["Pull requests must get secrets."]}]
    assert score(case(), "x", GOOD, KINDS["adr"].sections, decided=decided).contradictions == 1


async def test_models_are_compared_on_the_same_sources(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble, tmp_path: Path
) -> None:
    openai.plan(text=GOOD)
    openai.plan(model="gpt-6-luna", text=BAD)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    cases, plot = tmp_path / "cases.json", tmp_path / "plot.svg"
    cases.write_text(json.dumps([CASES[0].model_dump(exclude_none=True)]))
    said = await atlas_on(database, "eval", str(cases), "--model", "gpt-6-luna", "--json", "--plot", str(plot))
    found, _ = json.JSONDecoder().raw_decode(said[said.index("{") :])
    rows = {row["name"]: row for row in found["summary"]}
    assert rows["gpt-4.1"]["coverage"] == 1.0
    assert rows["gpt-6-luna"]["coverage"] == 0.0
    assert rows["gpt-6-luna"]["tokens"] > 0
    assert plot.read_text().startswith("<svg ")
    assert next(call["input"] for call in openai.calls if call["model"] == "gpt-6-luna") == openai.calls[0]["input"]
    over = await atlas_on(database, "eval", str(cases), "--per-run", "10", code=1)
    assert "more than 10" in over


async def test_recorded_replies_ask_nobody(database: Database, tmp_path: Path) -> None:
    for name, text in (("good", GOOD), ("bad", BAD)):
        (tmp_path / f"ci-pipeline.{name}.md").write_text(text)
    said = await atlas_on(database, "eval", "--recorded", str(tmp_path))
    assert [line.split()[0] for line in said.splitlines()[1:3]] == ["bad", "good"]
    (tmp_path / "poem.md").write_text("x")
    assert "poem.md is of no case" in await atlas_on(database, "eval", "--recorded", str(tmp_path), code=2)


async def test_what_was_decided_is_a_set_of_cases(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    record = {"constraints": ["The store must be Postgres."], "paths": [], "checks": []}
    tasks: list[UUID] = [await answered(db, title, kind="adr", record=record) for title in ("Use Postgres", "Use files")]
    await db.execute("select atlas.accept($1)", tasks[0])
    await db.execute("select atlas.reject($1)", tasks[1])
    path = tmp_path / "cases.json"
    await atlas_on(database, "eval", "--export", str(path))
    accepted, rejected = read_cases(json.loads(path.read_text()), "x")
    assert (accepted.verdict, accepted.constraints, accepted.question) == (
        "accepted",
        ["The store must be Postgres."],
        "Use Postgres?",
    )
    assert (rejected.verdict, rejected.contradictions) == ("rejected", ["The store must be Postgres."])


@pytest.mark.parametrize(
    "broken", [[], {}, [{"id": "x"}], [{"id": "A b", "question": "why?"}], [{"id": "a", "question": "why?"}] * 2]
)
def test_a_set_that_is_not_one_is_named(broken: object) -> None:
    with pytest.raises(UsageError):
        read_cases(broken, "x.json")


@pytest.mark.budget
@pytest.mark.parametrize("one", CASES, ids=lambda one: one.id)
def test_no_prompt_exceeds_the_budget_of_a_run(one: EvalCase) -> None:
    """The manual's Phase 2: whoever makes a prompt so long that its run has no room for sources and a reply fails here."""
    per_run = Settings.model_fields["token_budget_per_run"].default
    count = Vocabularies().counter("o200k_base")
    texts = [path.read_text() for path in sorted((ROOT / "examples/team/adr").glob("*.md"))]
    chunks = [
        Chunk(chunk_id=n, source=f"{n}.md", title="t", heading="h", start_line=1, end_line=9, text=text, tokens=0, score=1.0)
        for n, text in enumerate(texts)
    ]
    kind = KINDS[one.kind]
    asked = prompt.build(one.question, thread=(), chunks=chunks, per_run=per_run, count=count, key=UUID(int=1), kind=kind)
    sent = count(asked.instructions) + sum(count(text) for _, text in asked.turns)
    assert sent <= Room(per_run=per_run).input
    assert count(asked.instructions) <= per_run // 8, "the form takes no more than an eighth: the rest is for what it is about"
    assert per_run - sent >= 4 * LEAST_OUTPUT
    assert len(asked.sources) >= 5, "the team's own records fit beside it"
