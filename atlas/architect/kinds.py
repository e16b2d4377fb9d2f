"""Kinds of replies: what a model is asked for, and what the reply has to hold. The prompts are the files beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from atlas.architect.record import SECTIONS
from atlas.task import JsonObject


def text_of(name: str) -> str:
    """A prompt as its file has it."""
    return files("atlas.architect").joinpath("prompts", f"{name}.md").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyKind:
    """A kind of reply. sections: those that it must have, in their order. words: a longer one gets a warning."""

    name: str
    instructions: str
    sections: tuple[str, ...]
    words: int | None = None


_SOURCES = text_of("sources")
RECORD = ReplyKind(name="adr", instructions=f"{text_of('adr')}\n{_SOURCES}", sections=SECTIONS)
ANSWER = ReplyKind(name="answer", instructions=f"{text_of('answer')}\n{_SOURCES}", sections=("Sources",), words=400)
KINDS = {kind.name: kind for kind in (RECORD, ANSWER)}
"""By what metadata.kind says; atlas.check_message in SQL takes no other."""


def asked_kind(metadata: JsonObject) -> ReplyKind:
    """What a question asks for; a record unless it says something else."""
    return KINDS.get(str(metadata.get("kind")), RECORD)
