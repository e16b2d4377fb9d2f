"""The offline architect: the same record from the retrieved passages alone. It calls no model, and costs nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import date

from atlas.llm.errors import WayLost
from atlas.llm.port import Delta, Finished, ModelCall, ModelEvent, Started
from atlas.task import NOTHING_USED, Chunk, Usage

NOTICE = "> **No model was called.** The offline architect arranged what the team already wrote; nobody reasoned about it."


class OfflineGenerator:
    """Writes a record that cites each passage. pause: seconds between lines, so that people see it stream."""

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
    """The record, from the question and the passages that were retrieved for it, each with its label."""
    title = " ".join(question.split())
    title = title if len(title) <= 100 else title[:99].rsplit(" ", 1)[0] + "…"
    lines = [NOTICE, "", f"# {title}", "", "## Status", "", "Proposed (offline draft)", "", "## Context", ""]
    lines += ["> " + line for line in question.strip().splitlines()] + [""]
    if not sources:
        lines += ["Nothing that the team has indexed speaks of this.", ""]
    for label, chunk in sources[:5]:
        lines += [f"- {chunk.heading or chunk.title}: {_gist(chunk.text)} [{label}]"]
    lines += ["", "## Decision", ""]
    if sources:
        lines += ["Begin from what the team decided before, in the order in which it bears on the question:", ""]
        lines += [f"{n}. Follow “{chunk.heading or chunk.title}”. [{label}]" for n, (label, chunk) in enumerate(sources, 1)]
    else:
        lines += ["Index what the team knows (`atlas index docs/`) and ask again, or set `OPENAI_API_KEY`."]
    lines += ["", "## Consequences", ""]
    lines += ["- What the cited records decided stays in force; this draft adds nothing to it."]
    lines += ["- Where they are silent, a person or a model has to decide.", "", "## Work items", ""]
    for label, chunk in sources[:3]:
        lines += [f"### Apply “{chunk.title}”", "", "#### Context", "", f"{_gist(chunk.text)} [{label}]", ""]
        lines += ["#### Technical Spec", "", f"Check the design against `{chunk.place}` and note each difference.", ""]
    if not sources:
        lines += ["### Write down what is known", "", "#### Context", "", "There is nothing indexed on this.", ""]
        lines += ["#### Technical Spec", "", "Add a record to the team's documents and index it.", ""]
    lines += ["## Sources", ""]
    lines += [f"- [{label}] `{chunk.place}` {chunk.title}" for label, chunk in sources] or ["None."]
    return "\n".join(lines) + "\n"


def _gist(text: str) -> str:
    """The first sentences of a passage, without headings and list marks, at most 240 characters."""
    prose = [
        line.strip(" -*>") for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "```", "|"))
    ]
    plain = re.sub(r"\[S\d+\]", "", " ".join(prose)) or " ".join(text.split())
    return plain if len(plain) <= 240 else plain[:239].rsplit(" ", 1)[0] + "…"
