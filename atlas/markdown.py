"""Headings of Markdown as CommonMark has them, so that code fences do not count."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from markdown_it import MarkdownIt

# blocks only: the text of headings is all that is read, and it stands in their tokens unparsed
_BLOCKS = MarkdownIt("commonmark").disable(["inline", "text_join"])

_ATX = re.compile(r"(#{1,6})(?:[ \t]+(.*))?", re.DOTALL)
_CLOSING = re.compile(r"(?:(?<=[ \t])|\A)#+[ \t]*\Z")
_FENCE = re.compile(r"(`{3,})[^`]*|(~{3,}).*", re.DOTALL)
_UNSURE = re.compile(r" {0,3}<| {1,3}(?:#|```|~~~)| {0,3}(?:=+|-+)[ \t]*\Z")
"""Lines that may begin HTML, a heading or a fence inside of a list, or underline a heading: these need the whole parser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    level: int
    text: str
    start: int
    """Line of the heading, from 0."""


def headings(markdown: str) -> list[Heading]:
    """ATX and setext headings of the document itself, in order."""
    found = _scanned(markdown)
    return parsed(markdown) if found is None else found


def parsed(markdown: str) -> list[Heading]:
    """The same by a CommonMark parser."""
    tokens = _BLOCKS.parse(markdown)
    found = []
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.map and token.level == 0:
            found.append(Heading(level=int(token.tag[1]), text=inline.content.strip(), start=token.map[0]))
    return found


def _scanned(markdown: str) -> list[Heading] | None:
    """The same by a look at the first characters of each line, some 50 times as fast; None where that does not suffice.

    A heading or a fence in the first column ends every paragraph, list and quote, so what stands before it does not matter.
    """
    if "\r" in markdown or "\0" in markdown:
        return None
    found = []
    fence = ""
    before_is_blank = True
    for number, line in enumerate(markdown.split("\n")):
        first = line[:1]
        if fence:
            closing = line.strip(" \t")
            if first in " \t" and closing.startswith(fence):
                return None
            if first == fence[0] and len(closing) >= len(fence) and not closing.strip(fence[0]):
                fence = ""
            before_is_blank = True
            continue
        if first == "#":
            if heading := _ATX.fullmatch(line):
                text = _CLOSING.sub("", heading[2] or "")
                found.append(Heading(level=len(heading[1]), text=text.strip(), start=number))
        elif first and first in "`~":
            if opening := _FENCE.fullmatch(line):
                fence = opening[1] or opening[2]
        elif first and first in " <=-" and _UNSURE.match(line) and not (first == "-" and before_is_blank):
            return None
        before_is_blank = not line.strip(" \t")
    return found
