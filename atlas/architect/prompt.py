"""The prompt: instructions, the thread, the sources as quoted data, the question, each within its share of the run."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from atlas.architect.kinds import RECORD, ReplyKind, text_of
from atlas.architect.room import Room, how_to_raise
from atlas.errors import AtlasError
from atlas.llm.tokens import MESSAGE_OVERHEAD, Count
from atlas.task import Chunk, Exchange

Turn = tuple[Literal["user", "assistant"], str]

_SOURCE_TAG = re.compile(r"<(\s*/?\s*source)", re.IGNORECASE)

REPAIR = text_of("repair")
CONTINUE = text_of("continue")
REVISE = text_of("revise")
ANSWERED = text_of("answered")


class InputTooLarge(AtlasError):
    """The question does not fit the half of a run that is for input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What is sent, and which sources are in it; labels: what each is called there."""

    instructions: str
    turns: tuple[Turn, ...]
    sources: tuple[Chunk, ...]
    labels: tuple[str, ...]
    left_out: int


def labels(key: UUID) -> Iterator[str]:
    """What the sources of a prompt are called in it, such as S4821: the same for the same key, and unpredictable without it.

    A question that brings a <source> of its own cannot cite it: it does not know what a source is called.
    """
    found: set[int] = set()
    for counted in itertools.count():
        digest = hashlib.sha256(b"%s:%d" % (key.bytes, counted)).digest()
        number = 1000 + int.from_bytes(digest[:8], "big") % 9000
        if number not in found:
            found.add(number)
            yield f"S{number}"


def build(
    question: str, *, thread: Sequence[Exchange], chunks: Sequence[Chunk], per_run: int, count: Count, key: UUID,
    per_run_scope: str | None = None, kind: ReplyKind = RECORD, asked: Exchange | None = None,
) -> Prompt:  # fmt: skip
    """A prompt whose input is at most half of the run, and whose sources are at most a third of it.

    thread: oldest first; the latest exchanges that fit are kept. chunks: best first; those that fit are kept. key: what the
    labels come from. kind: what is asked for.
    asked: what was asked back about the question, and the answer. Raises InputTooLarge when not even the question fits.
    """
    question = _defused(question)
    room = Room(per_run=per_run)
    back = (_defused(asked.question), ANSWERED.format(answer=_defused(asked.reply))) if asked else ()
    fixed = (
        sum(count(text) + MESSAGE_OVERHEAD for text in back) + count(kind.instructions) + count(question) + 5 * MESSAGE_OVERHEAD
    )
    if fixed > room.input:
        raise InputTooLarge(
            f"the question has {count(question)} tokens, and {max(0, room.input - fixed + count(question))} fit into half of a "
            f"run of {per_run}: {how_to_raise(per_run_scope)}, or index the long parts with `atlas index` and ask about them"
        )
    left = room.input - fixed
    kept: list[str] = []
    used: list[Chunk] = []
    names: list[str] = []
    for_sources = min(room.sources, left)
    for chunk, label in zip(chunks, labels(key), strict=False):
        block = _quoted(label, chunk)
        size = count(block) + 2
        if size <= for_sources:
            kept.append(block)
            used.append(chunk)
            names.append(label)
            for_sources -= size
            left -= size
    turns: list[Turn] = []
    for exchange in reversed(thread):
        said, answered = _defused(exchange.question), _defused(exchange.reply)
        size = count(said) + count(answered) + 2 * MESSAGE_OVERHEAD
        if size > left:
            break
        turns[:0] = [("user", said), ("assistant", answered)]
        left -= size
    # what stays the same over a thread comes first, so that the provider can cache it; the question stands apart
    if kept:
        turns.append(("user", "\n\n".join(kept)))
    turns.append(("user", question))
    if back:
        turns += [("assistant", back[0]), ("user", back[1])]
    return Prompt(
        instructions=kind.instructions, turns=tuple(turns), sources=tuple(used), labels=tuple(names),
        left_out=len(chunks) - len(used),
    )  # fmt: skip


def _defused(text: str) -> str:
    """What somebody wrote, with what would open or close a source made visible text."""
    return _SOURCE_TAG.sub("<\u200b\\1", text)


def _quoted(label: str, chunk: Chunk) -> str:
    """A passage as data: it cannot close its own element, and the attributes cannot break out."""
    attributes = f'id="{label}" path="{_attribute(chunk.place)}" heading="{_attribute(chunk.heading)}"'
    return f"<source {attributes}>\n{_defused(chunk.text)}\n</source>"


def _attribute(text: str) -> str:
    return " ".join(text.split()).replace('"', "'").replace("<", "‹").replace(">", "›")
