"""Claims: which sentences of a reply are cited, inferred or assumed, and which citations do not hold.

A citation holds a sentence when each number and each name of it stands in a passage that it cites, or in the
question. That finds what was made up or moved to another source; it cannot find a sentence that turns a passage around.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atlas.record.parse import ParsedReply, entries
from atlas.task import JsonObject

_MARK = re.compile(r"\[(S\d+|inferred|assumed)\]", re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1|\Z)", re.DOTALL | re.MULTILINE)
_END = re.compile(r"(?<=[.!?])((?:\s*\[(?:S\d+|inferred|assumed)\])*)\s+(?=[A-Z0-9\"'“`*(_])")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|cf|vs|approx|no|fig)\.$", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?:[kKM](?!\w))?")
_TIMES = {"k": 1_000, "M": 1_000_000}
_CALENDAR = frozenset(
    re.findall(
        r"\w+",
        "january february march april may june july august september october november december monday tuesday "
        "wednesday thursday friday saturday sunday",
    )
)
"""Capitalised, and no names."""
_NAME = re.compile(
    r"`([^`\n]+)`|\b((?:[A-Za-z]+[a-z][A-Z]\w*|\w+_\w+|[A-Z]{2,}\d*|[A-Z][a-z]+(?=[ -][A-Z][a-z])|[A-Z][a-z]{2,}))\b"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Counts of sentences. unsupported: those cited whose passages do not hold them, each with what is missing."""

    cited: int = 0
    inferred: int = 0
    assumed: int = 0
    unmarked: tuple[str, ...] = ()
    unsupported: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def as_json(self) -> JsonObject:
        """As metadata.claims has it."""
        return {
            "cited": self.cited, "inferred": self.inferred, "assumed": self.assumed, "unmarked": len(self.unmarked),
            "unsupported": [{"sentence": sentence, "missing": list(missing)} for sentence, missing in self.unsupported],
        }  # fmt: skip

    @property
    def problems(self) -> list[str]:
        """In words that a model can fix."""
        return [
            f"not cited, inferred or assumed: “{_short(sentence)}”" for sentence in self.unmarked
        ] + [
            f"its sources do not say {', '.join(missing)}: “{_short(sentence)}”" for sentence, missing in self.unsupported
        ]  # fmt: skip


def claims_of(document: ParsedReply, sections: Sequence[str], passages: Mapping[str, str], question: str) -> Claims:
    """The claims of some sections. passages: the text of each source by its label, with its heading and place."""
    cited = inferred = assumed = 0
    unmarked: list[str] = []
    unsupported: list[tuple[str, tuple[str, ...]]] = []
    for name in sections:
        for sentence in sentences(document.sections.get(name, "")):
            marks = [mark.casefold() for mark in _MARK.findall(sentence)]
            labels = [mark.upper() for mark in marks if mark not in ("inferred", "assumed")]
            cited += bool(labels)
            inferred += not labels and "inferred" in marks
            assumed += not labels and "inferred" not in marks and "assumed" in marks
            if not marks:
                unmarked.append(sentence)
            known = [passages[label] for label in labels if label in passages]
            if known and (missing := _missing(sentence, " ".join(known), question)):
                unsupported.append((sentence, missing))
    return Claims(
        cited=cited, inferred=inferred, assumed=assumed, unmarked=tuple(unmarked), unsupported=tuple(unsupported)
    )  # fmt: skip


def sentences(section: str) -> list[str]:
    """The sentences of a section, each on one line with its marks. Headings, tables, code and quotes are skipped."""
    found: list[str] = []
    for block in re.split(r"\n[ \t]*\n", _FENCE.sub("\n\n", section)):
        lines = [line for line in block.splitlines() if not re.match(r"[ \t]*(?:#|\||>)", line)]
        text = "\n".join(lines)
        units = entries(text)
        head = re.split(r"^[ \t]*(?:[-*+]|\d+[.)])[ \t]", text, maxsplit=1, flags=re.MULTILINE)[0]
        for unit in (head, *units):
            found += _split(" ".join(unit.split()))
    return found


def _split(text: str) -> list[str]:
    parts: list[str] = []
    start = 0
    for match in _END.finditer(text):
        part = text[start : match.end(1)].strip()
        if _ABBREVIATION.search(part):
            continue
        parts.append(part)
        start = match.end()
    parts.append(text[start:].strip())
    # a line that introduces a list or a block makes no claim
    return [part for part in parts if re.search(r"\w", _MARK.sub("", part)) and not part.endswith(":")]


def _missing(sentence: str, passage: str, question: str) -> tuple[str, ...]:
    plain = _MARK.sub("", sentence)
    have = f"{passage} {question}"
    numbers = {_number(found) for found in _NUMBER.findall(have)}
    folded = " ".join(have.casefold().split())
    missing = [found for found in _NUMBER.findall(plain) if _number(found) not in numbers]
    for match in _NAME.finditer(plain):
        name = match[1] or match[2]
        # the first word of a sentence is capitalised for another reason
        opens = match.start() == 0 or plain[: match.start()].strip("*_\"'“( ") == ""
        if opens and not match[1] and re.fullmatch(r"[A-Z][a-z]+", name):
            continue
        plain_name = " ".join(name.casefold().split())
        if plain_name in _CALENDAR and not match[1]:
            continue
        if not re.search(rf"(?<!\w){re.escape(plain_name)}(?!\w)", folded):
            missing.append(name)
    return tuple(dict.fromkeys(missing))


def _number(text: str) -> str:
    plain = text.replace(",", "")
    if plain[-1] in "kKM":
        plain = f"{float(plain[:-1]) * _TIMES['M' if plain[-1] == 'M' else 'k']:.6f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _short(sentence: str) -> str:
    return sentence if len(sentence) <= 160 else sentence[:159].rsplit(" ", 1)[0] + "…"
