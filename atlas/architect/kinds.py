"""Kinds of replies: what a model is asked for, and what the reply has to hold. The prompts are the files beside this one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.resources import files

from atlas.record import decision, plan
from atlas.task import JsonObject

PROMPTS = "2"
"""The version of the prompts: it goes up with each change of a file in prompts/, and stands in the metadata of each reply."""


def text_of(name: str) -> str:
    """A prompt as its file has it."""
    return files("atlas.architect").joinpath("prompts", f"{name}.md").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyKind:
    """A kind of reply.

    sections: those that it must have, in their order. words: a longer one gets a warning. claimed: sections whose sentences are
    cited, inferred or assumed. schema: the model answers JSON by it, which is shown as Markdown.
    """

    name: str
    instructions: str
    sections: tuple[str, ...]
    words: int
    claimed: tuple[str, ...] = ()
    schema: JsonObject | None = None


_SOURCES = text_of("sources")


def _kind(
    name: str, sections: tuple[str, ...], words: int, *, claimed: tuple[str, ...] = (), schema: JsonObject | None = None
) -> ReplyKind:
    instructions = f"{text_of(name)}\n{_SOURCES}"
    return ReplyKind(name=name, instructions=instructions, sections=sections, words=words, claimed=claimed, schema=schema)


RECORD = _kind(
    "adr", tuple(name for name in decision.SECTIONS if name != "Load and cost"), 1_500, claimed=("Context", "Decision")
)
ANSWER = _kind("answer", ("Sources",), 400)
COMPARISON = _kind("comparison", ("Context", "Options", "Comparison", "Recommendation", "Open questions", "Sources"), 900)
REVIEW = _kind("review", ("Verdict", "Findings", "Open questions", "Sources"), 900)
PLAN = _kind("plan", ("Context", "Work items", "Open questions", "Sources"), 3_000, schema=plan.schema())
PLAN_SCHEMA = json.dumps(plan.schema(), separators=(",", ":"))
KINDS = {kind.name: kind for kind in (RECORD, ANSWER, COMPARISON, REVIEW, PLAN)}
"""By what metadata.kind says; atlas.check_message in SQL takes no other."""

_RULES: tuple[tuple[ReplyKind, re.Pattern[str], str], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE | re.VERBOSE), why)
    for kind, pattern, why in (
        (REVIEW, r"\A\W*(?:please\s+)?(?:review|critique|assess|look\ over)\b", "it asks for a review"),
        (
            PLAN,
            r"""\A\W*(?:please\s+)?(?:(?:write|make|draft|give)\s+(?:us\s+|me\s+)?)?(?:an?\s+)?
                (?:plan\b|(?:implementation|migration|rollout)\s+plan\b|work\ items\b|break\b.{0,80}\binto\b)
              | \b(?:list|write|file)\s+the\s+(?:work\ items|issues|tickets)\b""",
            "it asks for work to be laid out",
        ),
        (
            COMPARISON,
            r"""\A\W*(?:please\s+)?compare\b | \bcomparison\ of\b | \b(?:vs\.?|versus)\b | \bpros\ and\ cons\b
              | \btrade-?offs?\ (?:of|between)\b""",
            "it compares options",
        ),
        (
            ANSWER,
            r"""\A\W*(?:what\ (?:is|are|was|were|does|do|did|happens) | where | when | who
              | which\ .{1,60}\b(?:do|does|did|are|is|have|has)\ (?:we|our|the)
              | how\ (?:do|does|did|is|are|can|long|often|much|many) | why\ (?:do|does|did|is|are|was)
              | is\ there | are\ there | do\ we | does | did | can\ we\ see)\b""",
            "it asks how something is or is done",
        ),
    )
)
_DECIDES = re.compile(
    r"(?i)\b(?:should|shall|ought|design|architect|propose|recommend|choose|choice|adopt|introduce|replace|switch|migrate"
    r"|best way|better|instead of|decide|decision)\b"
)
"""What asks for a decision, however the question begins."""


def choose(question: str) -> tuple[ReplyKind, str]:
    """The kind for a question that names none, and why: by its words, in English; what is not clear is a decision."""
    text = question[:400]
    for kind, pattern, why in _RULES:
        if pattern.search(text) and not (kind is ANSWER and _DECIDES.search(text)):
            return kind, why
    return RECORD, "it asks for a decision" if _DECIDES.search(text) else "nothing says that it wants less than a decision"


def asked_kind(metadata: JsonObject, question: str) -> tuple[ReplyKind, str | None]:
    """What a question asks for, and why, where Atlas chose."""
    asked = KINDS.get(str(metadata.get("kind")))
    return (asked, None) if asked else choose(question)
