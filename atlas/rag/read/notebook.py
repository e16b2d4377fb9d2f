"""Jupyter notebooks (nbformat 4), cell by cell. Outputs are left out: they are what a run once said."""

from __future__ import annotations

import json
from pathlib import PurePath

from atlas.markdown import headings
from atlas.rag.document import Document, Section, Unreadable, as_lines, heading_path, joined


def read(text: str, name: str) -> Document:
    """One section a cell, under the headings of the Markdown cells before it. Raises Unreadable."""
    try:
        notebook = json.loads(text)
        cells = notebook["cells"]
        found = [(str(cell["cell_type"]), _source(cell["source"])) for cell in cells]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable(f"it is not a notebook of nbformat 4 ({error.__class__.__name__}: {str(error)[:100]})") from None
    path: list[tuple[int, str]] = []
    title = ""
    sections = []
    for number, (kind, source) in enumerate(found, 1):
        if kind == "markdown":
            for mark in headings(source):
                path = heading_path(path, mark.level, mark.text)
                title = title or mark.text
        if kind in ("markdown", "code") and source.strip():
            sections.append(Section(heading=joined(path), lines=tuple((number, line) for line in as_lines(source))))
    return Document(title=title[:300] or PurePath(name).name, sections=tuple(sections))


def _source(source: object) -> str:
    if isinstance(source, list):
        return "".join(str(line) for line in source)
    if not isinstance(source, str):
        raise TypeError("a cell's source is text")
    return source
