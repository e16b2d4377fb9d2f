"""The reply: a Markdown ADR, parsed and checked. Headings are found by a CommonMark parser, so code fences do not count."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from atlas.markdown import headings

SECTIONS = ("Status", "Context", "Decision", "Consequences", "Work items", "Sources")
_CITATION = re.compile(r"\[(S\d+)\]")
_CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """Ready to be filed as an issue."""

    title: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Adr:
    """A parsed reply."""

    title: str
    sections: dict[str, str]
    work_items: tuple[WorkItem, ...]
    citations: frozenset[str]


def parse(markdown: str) -> Adr:
    """The parts of a reply; what is missing is empty."""
    lines = markdown.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    marks = headings(markdown)
    title = next((mark.text for mark in marks if mark.level == 1), "")
    sections: dict[str, str] = {}
    items: list[WorkItem] = []
    current = ""
    for index, mark in enumerate(marks):
        end = next((later.start for later in marks[index + 1 :] if later.level <= mark.level), len(lines))
        body = "\n".join(lines[mark.start + 1 : end]).strip()
        if mark.level == 2:
            current = _section(mark.text)
            sections[current] = body
        elif mark.level == 3 and current == "Work items":
            items.append(WorkItem(title=mark.text, body=body))
    cited = frozenset(_CITATION.findall(_CODE.sub("", markdown)))
    return Adr(title=title, sections=sections, work_items=tuple(items), citations=cited)


def _section(text: str) -> str:
    """The name of a section as SECTIONS has it: case, numbering and punctuation do not matter."""
    if text in SECTIONS:
        return text
    plain = re.sub(r"^[\d.\s]+|[:\s]+$", "", text).casefold()
    return next((name for name in SECTIONS if name.casefold() == plain), text)


def check(adr: Adr, labels: Collection[str], sections: Sequence[str] = SECTIONS) -> list[str]:
    """What is wrong with a reply, in words that a model can fix: empty when nothing is.

    labels: the sources that were given, such as S4821. sections: those that it must have.
    """
    problems = []
    if not adr.title:
        problems.append("the title (a level 1 heading) is missing")
    problems += [f"the section '## {name}' is missing" for name in sections if name not in adr.sections]
    problems += [f"the section '## {name}' is empty" for name in sections if name in adr.sections and not adr.sections[name]]
    if adr.sections.get("Work items") and not adr.work_items:
        problems.append("'## Work items' holds no item (a level 3 heading each)")
    for item in adr.work_items:
        missing = [
            name for name in ("Context", "Technical Spec") if not re.search(rf"(?im)^#+\s*{name}\b|^\*\*{name}", item.body)
        ]
        problems += [f"the work item '{item.title}' has no '{name}'" for name in missing]
    unknown = sorted(adr.citations - set(labels))
    if unknown:
        problems.append(f"it cites sources that were not given: {', '.join(unknown)}")
    return problems
