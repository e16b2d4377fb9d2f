"""The offline architect: a search result as the reply. It calls no model, decides nothing, and costs nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import date

from atlas.llm.errors import WayLost
from atlas.llm.port import Delta, Finished, ModelCall, ModelEvent, Started
from atlas.task import NOTHING_USED, Chunk, Usage

NOTICE = "> **No model was called.** What the team wrote on this, the best match first."

SHOWN = 5
"""Passages that are shown; of the others, their places."""

LONGEST = 1_200
"""Characters of a passage that are shown."""


class OfflineGenerator:
    """Shows the passages that were retrieved. pause: seconds between lines, so that people see it stream."""

    def __init__(self, *, pause: float = 0.01) -> None:
        self._pause = pause

    async def generate(self, call: ModelCall) -> AsyncIterator[ModelEvent]:
        yield Started(response_id="offline", resumable=False)
        for line in compose(call.question, tuple(zip(call.labels, call.sources, strict=True))).splitlines(keepends=True):
            yield Delta(text=line)
            await asyncio.sleep(self._pause)
        yield Finished(usage=NOTHING_USED)

    async def resume(
        self, response_id: str, after: int | None, *, age: float = 0.0, window: str = "soonest"
    ) -> AsyncIterator[ModelEvent]:
        raise WayLost(f"{response_id} is not the offline architect's: set OPENAI_API_KEY to go on with it", code="no_key")
        yield  # makes this an async generator

    async def cancel(self, response_id: str) -> Usage | None:
        raise WayLost(f"{response_id} is not the offline architect's: set OPENAI_API_KEY to ask for it", code="no_key")

    async def count(self, call: ModelCall) -> int | None:
        return None

    async def probe(self, model: str) -> date | None:
        return None


def compose(question: str, sources: tuple[tuple[str, Chunk], ...]) -> str:
    """The passages that were retrieved for a question, best first, each with its label. What they say stays in quotes."""
    lines = [NOTICE, "", f"# Passages on “{_title(question)}”", ""]
    if not sources:
        lines += ["Nothing that the team has indexed speaks of this.", ""]
    for number, (label, chunk) in enumerate(sources[:SHOWN], 1):
        lines += [f"## {number}. {_plain(chunk.heading or chunk.title)}", "", f"`{_plain(chunk.place)}` [{label}]", ""]
        lines += [f"> {line}".rstrip() for line in _passage(chunk)] + [""]
    if more := sources[SHOWN:]:
        lines += ["## Further passages", ""]
        lines += [f"- `{_plain(chunk.place)}` [{label}] {_plain(chunk.heading or chunk.title)}" for label, chunk in more] + [""]
    if sources:
        lines += ["What follows from them is yours to decide: with `OPENAI_API_KEY` set, a model proposes a decision."]
    else:
        lines += ["Index what the team knows (`atlas index docs/`) and ask again, or set `OPENAI_API_KEY`."]
    return "\n".join(lines) + "\n"


def _title(question: str) -> str:
    plain = _plain(question)
    return plain if len(plain) <= 100 else plain[:99].rsplit(" ", 1)[0] + "…"


def _plain(text: str) -> str:
    """A text as part of one line of Markdown, without what would close a code span."""
    return " ".join(text.split()).replace("`", "'")


def _passage(chunk: Chunk) -> list[str]:
    """The lines of a passage; of a long one, the beginning. The labels of others are not cited here."""
    text = chunk.text.strip()
    first, _, rest = text.partition("\n")
    if first.startswith("#") and first.strip("# \t") == chunk.heading.rpartition(" > ")[2]:
        # its own heading stands above it
        text = rest.lstrip()
    text = re.sub(r"\[(S\d+)\]", r"(\1)", text)
    if len(text) > LONGEST:
        text = text[: LONGEST - 1].rsplit(maxsplit=1)[0] + " …"
    return text.splitlines()
