"""reStructuredText, by section title.

Only titles are looked for, as the docutils manual defines them (a line of one punctuation mark under the title, perhaps one
over it, at least as long as the title; levels in the order in which their marks appear). The markup itself stays as it is:
people read it, and docutils would drop the directives that it does not know, which are most of a Sphinx project's.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from atlas.rag.document import Document, as_lines, cut_at, heading_path, joined

_RULE = re.compile(r"([!-/:-@\[-`{-~])\1*\s*")


def read(text: str, name: str) -> Document:
    """Sections under their titles."""
    lines = as_lines(text)
    marks: list[tuple[int, str]] = []
    path: list[tuple[int, str]] = []
    levels: list[str] = []
    title = ""
    for number, start, found, style in _titles(lines):
        if style not in levels:
            levels.append(style)
        path = heading_path(path, levels.index(style), found)
        title = title or found
        marks.append((start if start <= number else number, joined(path)))
    return Document(title=title[:300] or PurePath(name).name, sections=cut_at(lines, marks))


def _titles(lines: list[str]) -> list[tuple[int, int, str, str]]:
    """(line of the title, line where it begins, title, style) for each."""
    found = []
    for number in range(len(lines) - 1):
        text, under = lines[number], lines[number + 1]
        if not text.strip() or _RULE.fullmatch(text) or not _RULE.fullmatch(under) or len(under.rstrip()) < len(text.rstrip()):
            continue
        over = lines[number - 1] if number > 0 else ""
        has_over = bool(_RULE.fullmatch(over)) and over.rstrip() == under.rstrip()
        if not has_over and (text[0].isspace() or (number > 0 and over.strip())):
            continue  # an indented block, or the last line of a paragraph or a table
        style = under[0] + ("+" if has_over else "")
        found.append((number, number - 1 if has_over else number, text.strip(), style))
    return found
