"""A reply in Markdown, taken apart. Headings are found by a CommonMark parser, so code fences do not count."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from atlas.markdown import headings

_CITATION = re.compile(r"\[(S\d+)\]")
_CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`", re.DOTALL)
_ITEM = re.compile(r"^[ \t]*(?:[-*+]|\d+[.)])[ \t]+(.*(?:\n(?![ \t]*(?:[-*+]|\d+[.)])[ \t])(?![ \t]*\n).+)*)", re.MULTILINE)
_NOTHING = re.compile(r"(?:none|nothing|n/a)\W*\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """Ready to be filed as an issue."""

    title: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedReply:
    """A parsed reply. items: the level 3 headings of each section, with their texts."""

    title: str
    sections: dict[str, str]
    items: dict[str, tuple[WorkItem, ...]]
    citations: frozenset[str]

    @property
    def work_items(self) -> tuple[WorkItem, ...]:
        return self.items.get("Work items", ())


def parse(markdown: str, names: Sequence[str] = ()) -> ParsedReply:
    """The parts of a reply; what is missing is empty. names: sections as they are spelled."""
    lines = markdown.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    marks = headings(markdown)
    title = next((mark.text for mark in marks if mark.level == 1), "")
    sections: dict[str, str] = {}
    items: dict[str, tuple[WorkItem, ...]] = {}
    current = ""
    for index, mark in enumerate(marks):
        end = next((later.start for later in marks[index + 1 :] if later.level <= mark.level), len(lines))
        body = "\n".join(lines[mark.start + 1 : end]).strip()
        if mark.level == 2:
            current = _section(mark.text, names)
            sections[current] = body
        elif mark.level == 3 and current:
            items[current] = (*items.get(current, ()), WorkItem(title=mark.text, body=body))
    cited = frozenset(_CITATION.findall(without_code(markdown)))
    return ParsedReply(title=title, sections=sections, items=items, citations=cited)


def without_code(markdown: str) -> str:
    """The text without fences and inline code."""
    return _CODE.sub("", markdown)


def entries(section: str) -> list[str]:
    """The items of the lists of a section, each in one line; none where it says "None."."""
    found = [" ".join(match[1].split()) for match in _ITEM.finditer(section)]
    return [entry for entry in found if not _NOTHING.match(entry)]


def code_of(entry: str) -> str | None:
    """What the first code span of an entry holds, such as a path or a command."""
    found = re.search(r"(`+)(.+?)\1", entry)
    return found[2].strip() if found else None


def _section(text: str, names: Sequence[str]) -> str:
    """The name of a section as names has it: case, numbering and punctuation do not matter."""
    if text in names:
        return text
    plain = re.sub(r"^[\d.\s]+|[:\s]+$", "", text).casefold()
    return next((name for name in names if name.casefold() == plain), text)
