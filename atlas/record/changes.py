"""Versions of a record: a revision takes the sections that were written anew, and keeps all others byte for byte. Pure."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from atlas.markdown import headings
from atlas.record.claims import sentences

HEAD = ""
"""The name of what stands before the first section: the title."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSection:
    """A level 2 heading with all that follows it, to the next one; HEAD: what stands before the first."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionChange:
    """What became of a section. removed, added: its sentences, and lines that hold none, such as code."""

    name: str
    state: str
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


def sections(markdown: str) -> list[RecordSection]:
    """The sections of a record in their order. Together their texts are the record."""
    lines = [f"{line}\n" for line in markdown.split("\n")]
    lines[-1] = lines[-1][:-1]
    marks = [mark for mark in headings(markdown.replace("\r", " ")) if mark.level == 2]
    starts = [mark.start for mark in marks]
    found = []
    if starts[:1] != [0]:
        found.append(RecordSection(name=HEAD, text="".join(lines[: starts[0] if starts else len(lines)])))
    for mark, end in zip(marks, [*starts[1:], len(lines)], strict=False):
        found.append(RecordSection(name=mark.text, text="".join(lines[mark.start : end])))
    return found


def splice(original: str, rewritten: str, order: Sequence[str]) -> tuple[str, list[str]]:
    """The original with the sections that were written anew, and their names. order: where one belongs that was not there.

    A title that was written anew counts as one; what stands before it is not taken. Nothing that is the same counts as changed.
    """
    kept = sections(original)
    changed: list[str] = []
    seen: Counter[str] = Counter()
    for new in sections(rewritten):
        if new.name == HEAD:
            title = re.search(r"(?m)^# \S", new.text)
            if title is None:
                continue
            # what stands before a title is kept as it was
            was = re.search(r"(?m)^# \S", kept[0].text) if kept and kept[0].name == HEAD else None
            new = RecordSection(name=HEAD, text=(kept[0].text[: was.start()] if was else "") + new.text[title.start() :])
        # where a name stands twice, the first of one is the first of the other
        places = [n for n, old in enumerate(kept) if _plain(old.name) == _plain(new.name)]
        place = places[seen[_plain(new.name)]] if seen[_plain(new.name)] < len(places) else None
        seen[_plain(new.name)] += 1
        if place is None:
            after = [n for n, old in enumerate(kept) if _rank(old.name, order) <= _rank(new.name, order)]
            place = after[-1] + 1 if after else len(kept)
            kept.insert(place, RecordSection(name=new.name, text=""))
        elif kept[place].text.strip() == new.text.strip():
            continue
        is_last = place == len(kept) - 1
        # the text before it stays byte for byte: a missing blank line goes into the new section
        before = kept[place - 1].text if place else "\n\n"
        lead = "" if not before or before.endswith(("\n\n", "\n\r\n")) else "\n" if before.endswith("\n") else "\n\n"
        text = lead + new.text.strip() + ("\n" if is_last else "\n\n")
        kept[place] = RecordSection(name=kept[place].name or new.name, text=text)
        changed.append(new.name or "title")
    return "".join(section.text for section in kept), changed


def changes(before: str, after: str) -> list[SectionChange]:
    """What became of each section, in the order of the later version, those that are gone last."""
    old = sections(before)
    found = []
    for section in sections(after):
        name = section.name or "title"
        was = next((one for one in old if one.name == section.name), None)
        if was is None:
            found.append(SectionChange(name=name, state="added", added=tuple(_units(section.text))))
            continue
        old.remove(was)
        text = was.text
        if text.strip() == section.text.strip():
            found.append(SectionChange(name=name, state="same"))
            continue
        one, two = _units(text), _units(section.text)
        removed, added = [], []
        for tag, from_, to, start, end in difflib.SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
            if tag != "equal":
                removed += one[from_:to]
                added += two[start:end]
        found.append(SectionChange(name=name, state="changed", removed=tuple(removed), added=tuple(added)))
    found += [
        SectionChange(name=name or "title", state="removed", removed=tuple(_units(text)))
        for name, text in ((one.name, one.text) for one in old)
    ]
    return found


def _units(text: str) -> list[str]:
    """The sentences of a section; then the lines of its tables, code and headings."""
    body = text.split("\n", 1)[1] if text.startswith("## ") and "\n" in text else text
    found = sentences(body)
    known = " ".join(" ".join(found).split())
    plain = [" ".join(line.split()) for line in body.splitlines()]
    return found + [line for line in plain if line and line.lstrip("-*+0123456789. ") not in known]


def _plain(name: str) -> str:
    return re.sub(r"^[\d.\s]+|[:\s]+$", "", name).casefold()


def _rank(name: str, order: Sequence[str]) -> int:
    plain = [_plain(one) for one in order]
    return plain.index(_plain(name)) if _plain(name) in plain else -1
