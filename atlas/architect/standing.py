"""How a question stands to what is decided already. Pure; what was found comes from atlas.read_first in SQL.

A question is answered by a decision only where it is the same question: the same words that say something and the same small
words on which a question may turn, each in the same order, and the same numbers. So what is near is never taken for decided.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from atlas.task import Chunk, Exchange, JsonObject

ENOUGH = 0.5
"""The share of a question's words that a decision or draft has to hold to be spoken of. Measured: benchmarks.read_first."""
LEAST_WORDS = 2
"""Fewer words in common say nothing."""

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_SOURCE = re.compile(r"decision:ADR-(\d+)\Z")
_ASKING = frozenset({"use", "should", "need", "want", "would", "could", "question", "pleas", "best", "way", "team"})
"""Words of asking, as searches reduce them: they say nothing of what is asked."""
_FORMAL = frozenset(
    re.findall(
        r"\w+",
        "i me my myself yours your you he him his she her its itself they them their what which who whom this that "
        "these those had having and but if or because as until while at by for with about against between into through "
        "during before after above below to from up down in out on off over under again further then once here there "
        "when where why how all any both each few more most other some such no nor not only own same so than too very s "
        "t will just don now of",
    )
)
"""Small words that searches leave out, and on which a question may turn: of Postgres's English stop words, all but articles,
forms of do and be, and those of asking (we, our, should)."""
_OPEN = frozenset({"how", "which", "what", "where", "when", "who", "why"})
LONGEST = 4_000
"""Characters of a question whose words are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearRecord:
    """A decision, or a draft, that a question may speak of. share: of the question's words that it holds."""

    title: str
    share: float
    words: tuple[str, ...] = ()
    number: int | None = None
    status: str = "draft"
    superseded_by: int | None = None
    decided_at: str = ""
    content: str | None = None
    """The record, where its question has the very words."""
    question: str = ""
    task_id: str | None = None
    asked_by: str | None = None

    @property
    def name(self) -> str:
        return f"ADR-{self.number}" if self.number is not None else f"task {self.task_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """verdict: decided (by), changes (decisions), overlaps (with drafts), new; unknown: nobody could look."""

    verdict: Literal["decided", "changes", "overlaps", "new", "unknown"]
    decisions: tuple[NearRecord, ...] = ()
    drafts: tuple[NearRecord, ...] = ()

    @property
    def opening(self) -> str:
        """What the reply begins with: one quoted line, and an empty one; nothing where nothing is decided."""
        line = {"decided": self._decided, "changes": self._changes, "overlaps": self._overlaps}.get(self.verdict)
        return f"> {line()}\n\n" if line else ""

    def as_json(self) -> JsonObject:
        """As metadata.read_first has it."""
        found: JsonObject = {"verdict": self.verdict}
        if self.decisions:
            found["decisions"] = [decision.number for decision in self.decisions]
        if self.drafts:
            found["drafts"] = [draft.task_id for draft in self.drafts]
        return found

    def _decided(self) -> str:
        (decision,) = self.decisions
        return f"Already decided in ADR-{decision.number}, on {decision.decided_at[:10]}: no model was called."

    def _changes(self) -> str:
        named = [
            f"ADR-{one.number} ({'rejected: ' if one.status == 'rejected' else ''}{_plain(one.title)})"
            for one in self.decisions
        ]
        return f"Would change {', '.join(named)}."

    def _overlaps(self) -> str:
        (draft, *_) = self.drafts
        whose = f" of {_plain(draft.asked_by)}" if draft.asked_by else ""
        return f"Overlaps with an open draft{whose}: {_plain(draft.title)} (task {draft.task_id})."


NOTHING = Standing(verdict="new")
UNKNOWN = Standing(verdict="unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedUp:
    """What was found. words: those of the question that say something, in their order."""

    words: tuple[str, ...] = ()
    found: tuple[NearRecord, ...] = field(default_factory=tuple)
    asked: Exchange | None = None
    """What the architect asked back, and what was answered to that."""


def read(answer: JsonObject) -> LookedUp:
    """From what atlas.read_first answers."""
    fields = set(NearRecord.__dataclass_fields__)
    asked = answer.get("asked")
    return LookedUp(
        asked=Exchange(question=asked["asked"], reply=asked["answered"]) if asked else None,
        words=tuple(answer["words"]),
        found=tuple(
            NearRecord(
                **{name: value for name, value in one.items() if name in fields and name != "words"}, words=tuple(one["words"])
            )
            for one in answer["found"]
        ),
    )


def standing(question: str, known: LookedUp, chunks: Sequence[Chunk] = (), *, anew: bool = False) -> Standing:
    """What to say of a question. chunks: what searches found for it, decisions among them. anew: it is to be answered again."""
    asked = _telling(known.words)
    if not asked:
        return NOTHING
    for one in known.found:
        if one.status == "accepted" and one.content and not anew and is_same(question, known.words, one.question, one.words):
            return Standing(verdict="decided", decisions=(one,))
    near = {one.number: one for one in known.found if one.number is not None and _is_near(asked, one)}
    # vectors find what has other words; their threshold is that of the search
    hits = {
        int(match[1]) for chunk in chunks[:3] if chunk.similarity_kind == "cosine" and (match := _SOURCE.match(chunk.source))
    }
    near |= {one.number: one for one in known.found if one.number in hits}
    for number in hits - set(near):
        title = next(chunk.title for chunk in chunks if chunk.source == f"decision:ADR-{number}")
        near[number] = NearRecord(number=number, title=title, share=0.0, status="accepted")
    # what was superseded is spoken of by what superseded it
    holding = tuple(one for one in near.values() if one.status != "superseded")
    holding += tuple(one for one in near.values() if one.status == "superseded" and one.superseded_by not in near)
    if holding:
        return Standing(verdict="changes", decisions=holding[:3])
    drafts = tuple(one for one in known.found if one.task_id and _is_near(asked, one))
    return Standing(verdict="overlaps", drafts=drafts[:3]) if drafts else NOTHING


def is_same(question: str, words: Sequence[str], other: str, others: Sequence[str]) -> bool:
    """Whether two questions ask the same."""
    one, two = _telling(words), _telling(others)
    if set(one) != set(two) or not one:
        return False
    if max(len(question), len(other)) > LONGEST and question != other:
        return False
    numbers = [sorted(_NUMBER.findall(text)) for text in (question, other)]
    small = _formal(question)
    if numbers[0] != numbers[1] or small != _formal(other):
        return False
    # without a small word between them, nothing turns on their order
    return one == two or set(small) <= _OPEN


def _formal(question: str) -> list[str]:
    return [word for word in re.findall(r"[^\W\d_]+", question.lower()) if word in _FORMAL]


def _is_near(asked: Sequence[str], one: NearRecord) -> bool:
    shared = len(set(asked) & set(one.words)) if one.task_id else round(one.share * len(asked))
    share = shared / len(asked) if one.task_id else one.share
    return share >= ENOUGH and shared >= LEAST_WORDS


def _telling(words: Sequence[str]) -> list[str]:
    return [word for word in words if word not in _ASKING]


def _plain(text: str | None) -> str:
    return " ".join((text or "").split())
