"""Markdown and MDX, by heading."""

from __future__ import annotations

from pathlib import PurePath

from atlas.markdown import headings
from atlas.rag.document import Document, as_lines, cut_at, heading_path, joined


def read(text: str, name: str) -> Document:
    """Headings as a CommonMark parser sees them."""
    found = headings(text)
    marks: list[tuple[int, str]] = []
    path: list[tuple[int, str]] = []
    for mark in found:
        path = heading_path(path, mark.level, mark.text)
        marks.append((mark.start, joined(path)))
    title = found[0].text[:300] if found and found[0].text else PurePath(name).name
    return Document(title=title, sections=cut_at(as_lines(text), marks))
