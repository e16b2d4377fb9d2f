"""Mermaid diagrams of replies: parsed by Mermaid before they are delivered; a broken one is repaired, or left out and said."""

from __future__ import annotations

import asyncpg
import pytest

from atlas.diagrams.fences import diagrams, without
from atlas.diagrams.mermaid import LONGEST, MOST, TOO_LONG, TOO_MANY, MermaidProcess
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, Workers, ask, ended, reply

GOOD = "```mermaid\nflowchart LR\n  a[Client] --> b[(Postgres)]\n```"
BROKEN = "```mermaid\nflowchart LR\n  a[Client --> b\n```"


def drawn(diagram: str) -> str:
    return ADR.replace("## Consequences", f"{diagram}\n\n## Consequences")


async def test_a_broken_diagram_is_repaired(db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble) -> None:
    openai.plan(text=drawn(GOOD))
    openai.plan(text=drawn(BROKEN), times=1)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    task = await ask(db, "Which database?")
    assert (await ended(db, task))["state"] == "completed"
    assert "the Mermaid diagram 1 does not parse: Parse error on line" in openai.calls[1]["input"][-1]["content"]
    answer = await reply(db, task)
    assert answer["content"] == drawn(GOOD)
    assert "warnings" not in answer["metadata"]


async def test_one_that_stays_broken_is_left_out_and_said(
    db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=drawn(f"{GOOD}\n\n{BROKEN}"))
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    task = await ask(db, "Which database?")
    assert (await ended(db, task))["state"] == "completed"
    answer = await reply(db, task)
    assert GOOD in answer["content"]
    assert answer["content"].count("```mermaid") == 1
    assert "> A diagram is left out here: it does not parse (Parse error on line" in answer["content"]
    (warning,) = answer["metadata"]["warnings"]
    assert warning.startswith("the Mermaid diagram 2 does not parse")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("sequenceDiagram\n  A->>B: hello", None),
        ("erDiagram\n  TASK ||--o{ ATTEMPT : has", None),
        ("stateDiagram-v2\n  [*] --> queued\n  queued --> running", None),
        ("classDiagram\n  class Task {\n    +uuid id\n  }", None),
        ("gantt\n  section a\n  build :a1, 2026-01-01, 3d", None),
        ("flowchart TD\n  subgraph x\n  a --> b", "Parse error"),
        ("sequenceDiagram\n  A->>", "Parse error"),
        ("a poem", "No diagram type detected"),
    ],
)
async def test_what_parses_and_what_does_not(source: str, error: str | None) -> None:
    (found,) = await MermaidProcess().errors([source])
    assert (found is None) if error is None else (found or "").startswith(error)


async def test_a_bomb_ends_and_the_others_are_parsed() -> None:
    bomb = "flowchart LR\n" + "\n".join(f"a{n} --> b{n}" for n in range(2_500))
    nested = "flowchart LR\n" + "subgraph x\n" * 3_000
    good = "flowchart LR\n  a --> b"
    found = await MermaidProcess(patience=60).errors([bomb, "x" * (LONGEST + 1), good, nested, *[good] * MOST])
    assert found[0] is not None
    assert found[1:3] == [TOO_LONG, None]
    assert found[3] is not None
    assert found[MOST:] == [TOO_MANY] * 4


def test_fences_are_found_and_left_out_one_by_one() -> None:
    text = f"a\n\n{GOOD}\n\n~~~ mermaid\nx\n~~~\n\n```text\n```mermaid\n```\n\n{BROKEN}"
    deep = "- a\n\n      ```mermaid\n      flowchart LR\n        a --> b\n      ```\n\n> ```mermaid\n> pie\n> ```\n"
    assert diagrams(deep) == ["flowchart LR\n  a --> b\n", "pie\n"]
    assert diagrams(GOOD) == ["flowchart LR\n  a[Client] --> b[(Postgres)]\n"]
    assert len(diagrams(f"{GOOD}\n\n{BROKEN}")) == 2
    assert without(GOOD, [None]) == GOOD
    assert without(f"{GOOD}\n{BROKEN}", [None, "no `x`\nhere"]).endswith("it does not parse (no 'x' here).")
    assert "~~~ mermaid" not in without(text, [None, "bad", None, None])
