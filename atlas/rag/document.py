"""What a reader makes of a file, and what chunks are cut from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from atlas.errors import AtlasError

Kind = Literal["markdown", "rst", "text", "code", "html", "pdf", "notebook"]

KINDS: dict[Kind, frozenset[str]] = {
    "markdown": frozenset({".md", ".mdx", ".markdown"}),
    "rst": frozenset({".rst"}),
    "text": frozenset({".txt", ".adoc", ".org"}),
    "html": frozenset({".html", ".htm", ".xhtml"}),
    "pdf": frozenset({".pdf"}),
    "notebook": frozenset({".ipynb"}),
    "code": frozenset(
        {
            *(".py", ".pyi", ".ts", ".tsx", ".js", ".jsx", ".mjs", ".cjs", ".go", ".rs", ".java", ".kt", ".rb", ".php", ".cs"),
            *(
                ".c",
                ".h",
                ".cc",
                ".cpp",
                ".hpp",
                ".swift",
                ".scala",
                ".sh",
                ".bash",
                ".sql",
                ".tf",
                ".ex",
                ".exs",
                ".yaml",
                ".yml",
            ),
            *(".toml", ".proto", ".graphql", ".dockerfile"),
        }
    ),
}
"""Suffixes of the kinds that are read."""


class Unreadable(AtlasError):
    """A document cannot be read as what it says it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Numbered lines under one heading. The number is a line of the file, a page of a PDF, or a cell of a notebook; from 1."""

    heading: str
    lines: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a file says."""

    title: str
    sections: tuple[Section, ...]


def kind_of(name: str) -> Kind | None:
    """What a file is, by its name; None: not indexed."""
    path = PurePath(name)
    if path.name in ("Dockerfile", "Makefile"):
        return "code"
    suffix = path.suffix.lower()
    return next((kind for kind, suffixes in KINDS.items() if suffix in suffixes), None)


def as_lines(text: str) -> list[str]:
    """Lines as CommonMark and Python's parser count them: form feeds and U+2028 end none."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def cut_at(lines: list[str], marks: list[tuple[int, str]]) -> tuple[Section, ...]:
    """Sections that begin at marks: (line from 0, heading), in order. What stands before the first has no heading."""
    starts = marks if marks and marks[0][0] == 0 else [(0, ""), *marks]
    ends = [start for start, _ in starts[1:]] + [len(lines)]
    return tuple(
        Section(heading=heading, lines=tuple(enumerate(lines[start:end], start + 1)))
        for (start, heading), end in zip(starts, ends, strict=True)
        if end > start
    )


def heading_path(path: list[tuple[int, str]], level: int, text: str) -> list[tuple[int, str]]:
    """The path to a new heading: what stands above it, and itself."""
    return [(depth, name) for depth, name in path if depth < level] + [(level, text)]


def joined(path: list[tuple[int, str]]) -> str:
    """A heading path as people read it."""
    return " > ".join(name for _, name in path)
