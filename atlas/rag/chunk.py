"""Cuts a document into chunks: each within one section, at most 400 tokens. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from atlas.llm.tokens import Count
from atlas.rag.document import Document, Section

LONGEST = 400
"""Tokens of a chunk, at most: small embedders read 256 to 512 and drop the rest."""

MOST_CHARACTERS = 8_000
"""Of a chunk: a thousand embedding_indexes are one token, and embedders count characters too."""

Line = tuple[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A chunk of a document. Lines (pages, cells) count from 1, the last one included."""

    heading: str
    start_line: int
    end_line: int
    text: str
    tokens: int


def cut(document: Document, count: Count) -> list[Piece]:
    """The chunks of a document, in order, each with what it stands under."""
    return [piece for section in document.sections for piece in _bounded(section, count)]


def _bounded(section: Section, count: Count) -> Iterable[Piece]:
    """The section, cut at blank lines where it is too long, and within a line where even that is."""
    held: list[Line] = []
    size = length = 0
    for block in _blocks(section.lines):
        for part in _small_enough(block, count):
            text = "\n".join(line for _, line in part)
            tokens = count(text) + 1
            if held and (size + tokens > LONGEST or length + len(text) + 1 > MOST_CHARACTERS):
                yield from _piece(held, section.heading, count)
                held, size, length = [], 0, 0
            held += part
            size += tokens
            length += len(text) + 1
    yield from _piece(held, section.heading, count)


def _blocks(lines: Sequence[Line]) -> Iterable[list[Line]]:
    """Runs of lines that end with a blank one."""
    block: list[Line] = []
    for line in lines:
        block.append(line)
        if not line[1].strip():
            yield block
            block = []
    if block:
        yield block


def _small_enough(block: list[Line], count: Count) -> Iterable[list[Line]]:
    text = "\n".join(line for _, line in block)
    if len(text) <= MOST_CHARACTERS // 2 and count(text) < LONGEST:
        yield block
        return
    for number, line in block:
        at = 0
        while at < len(line) or not line:
            # halving finds a size that fits, and never counts more of a huge line than may become one chunk
            size = LONGEST * 4
            while size > 1 and count(line[at : at + size]) >= LONGEST:
                size //= 2
            yield [(number, line[at : at + size])]
            at += size
            if not line:
                break


def _piece(held: list[Line], heading: str, count: Count) -> Iterable[Piece]:
    text = "\n".join(line for _, line in held)
    if not text.strip():
        return
    written = [number for number, line in held if line.strip()]
    yield Piece(heading=heading[:300], start_line=written[0], end_line=max(written), text=text.strip("\n"), tokens=count(text))
