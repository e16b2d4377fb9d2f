"""Headings of Markdown, found by a CommonMark parser, so that code fences do not count."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from markdown_it import MarkdownIt

# blocks only: the text of headings is all that is read, and it stands in their tokens unparsed
_BLOCKS = MarkdownIt("commonmark").disable(["inline", "text_join"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    level: int
    text: str
    start: int
    """Line of the heading, from 0."""


def headings(markdown: str) -> list[Heading]:
    """ATX and setext headings of the document itself, in order."""
    tokens = _BLOCKS.parse(markdown)
    found = []
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.map and token.level == 0:
            found.append(Heading(level=int(token.tag[1]), text=inline.content.strip(), start=token.map[0]))
    return found
