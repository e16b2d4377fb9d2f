"""ReplyScores of replies to questions whose good answers are known in part: by rules, no model is asked. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from atlas.errors import UsageError
from atlas.record import decision, stale
from atlas.record.check import check
from atlas.record.claims import claims_of, sentences
from atlas.record.parse import parse, without_code
from atlas.task import JsonObject

ENOUGH = 0.6
"""The share of the words of an expected constraint that a reply has to hold in one sentence."""


class EvalCase(BaseModel):
    """A question, with what a good reply says and what it must not say."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,60}$")
    question: str = Field(min_length=3)
    kind: Literal["adr", "answer", "comparison", "review", "plan"] = "adr"
    constraints: list[str] = Field(default=[], description="what has to be covered, in any words")
    contradictions: list[str] = Field(default=[], description="what must not be proposed")
    verdict: Literal["accepted", "rejected"] | None = Field(None, description="of a case that was exported")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyScores:
    """One reply. structure: 1 where nothing is wrong with its form. coverage: of the expected constraints; None: none are."""

    case: str
    name: str
    structure: float
    citations: float | None
    unsupported: int
    coverage: float | None
    contradictions: int
    words: int
    tokens: int | None = None
    usd: float | None = None

    def as_row(self) -> JsonObject:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def read_cases(data: object, name: str) -> list[EvalCase]:
    """Raises UsageError that names the case and the field."""
    if not isinstance(data, list) or not data:
        raise UsageError(f"{name} is not a list of cases", "see examples/eval/team.json")
    cases = []
    for number, one in enumerate(data, 1):
        try:
            cases.append(EvalCase.model_validate(one))
        except ValueError as error:
            said = " ".join(str(error).splitlines()[1:3])
            raise UsageError(f"{name}: case {number} is invalid ({said})", "see examples/eval/team.json") from None
    if len({case.id for case in cases}) < len(cases):
        raise UsageError(f"{name} has two cases of one id", "ids tell them apart")
    return cases


def score(
    case: EvalCase, name: str, text: str, sections: Sequence[str], *, passages: dict[str, str] | None = None,
    decided: Sequence[JsonObject] = (), tokens: int | None = None, usd: float | None = None,
) -> ReplyScores:  # fmt: skip
    """passages: the texts of the sources by label; None: what the reply lists under Sources is all that is known.

    decided: accepted decisions, with number and constraints.
    """
    document = parse(text, decision.SECTIONS if case.kind == "adr" else sections)
    listed = set(re.findall(r"\[(S\d+)\]", without_code(document.sections.get("Sources", ""))))
    labels = set(passages) if passages is not None else listed
    wrong = check(document, document.citations, sections)
    if case.kind == "adr":
        wrong += decision.problems(document, case.question)
    cited = document.citations
    claims = claims_of(document, ("Context", "Decision"), passages or {}, case.question) if case.kind == "adr" else None
    binds = decision.binding(document)
    said = [
        *binds.constraints,
        *sentences(document.sections.get("Decision", "")),
        *sentences(document.sections.get("Constraints", "")),
    ]
    mine = {"number": 0, "constraints": list(binds.constraints)}
    against = [one for one in stale.conflicts([mine, *decided]) if 0 in (one.number, one.other)]
    proposed = " ".join(said).casefold()
    return ReplyScores(
        case=case.id, name=name, structure=round(1 / (1 + len(wrong)), 3),
        citations=None if not cited else round(len(cited & labels) / len(cited), 3),
        unsupported=len(claims.unsupported) + len(claims.unmarked) if claims else 0,
        coverage=_share([_covers(said, one) for one in case.constraints]),
        contradictions=len(against) + sum(phrase.casefold() in proposed for phrase in case.contradictions),
        words=len(text.split()), tokens=tokens, usd=usd,
    )  # fmt: skip


def summed(scores: Sequence[ReplyScores]) -> list[JsonObject]:
    """A row a name: means of what is a share, sums of what is counted."""
    rows = []
    for name in dict.fromkeys(one.name for one in scores):
        own = [one for one in scores if one.name == name]
        row: JsonObject = {"name": name, "replies": len(own)}
        for field in ("structure", "citations", "coverage"):
            known = [value for one in own if (value := getattr(one, field)) is not None]
            row[field] = round(sum(known) / len(known), 3) if known else None
        for field in ("unsupported", "contradictions"):
            row[field] = sum(getattr(one, field) for one in own)
        row["words"] = round(sum(one.words for one in own) / len(own))
        for field in ("tokens", "usd"):
            given = [value for one in own if (value := getattr(one, field)) is not None]
            row[field] = sum(given) if given else None
        rows.append(row)
    return rows


def _share(held: Sequence[bool]) -> float | None:
    return round(sum(held) / len(held), 3) if held else None


def _covers(said: Sequence[str], wanted: str) -> bool:
    words, _ = stale.sense(wanted)
    return any(len(words & stale.sense(sentence)[0]) >= ENOUGH * len(words) for sentence in said)
