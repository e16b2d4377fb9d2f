"""A text that was written beforehand, replayed as the reply to its question: for demonstrations, where no model is called.

To Atlas it is a background response as any provider's: it has an id, goes on by the clock while nobody reads it, and is resumed
by that id after a sequence number, from any process. All that resuming needs stands in the id.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from datetime import date
from itertools import accumulate

from atlas.llm.errors import BadRequest, WayLost
from atlas.llm.offline import OfflineGenerator
from atlas.llm.port import Delta, Finished, ModelCall, ModelEvent, Started
from atlas.llm.tokens import Count
from atlas.task import Usage

_ID = re.compile(r"replay_(\d+)_(\d+)_((?:S\d+|x)(?:\.(?:S\d+|x))*)?")
_CITATION = re.compile(r"(\s?)\[\[([^\[\]]+)\]\]")
"""Where a document is cited: [[its path]]."""
_WORD = re.compile(r"\s*\S+\s*\Z|\s*\S+")


class ReplayGenerator:
    """Replays a text to the question that it answers, and leaves all others to the next model.

    question, text: of read_replay. The text is Markdown that cites documents as [[path]]. Each becomes the label of the source
    with that path; one that retrieval did not find is left out, and so is a list item that begins with it. count: tokens of a
    text. pace: seconds a word. now: the time, in seconds since 1970.
    """

    def __init__(
        self, question: str, text: str, *, count: Count, pace: float = 0.0125, now: Callable[[], float] = time.time
    ) -> None:
        self._question = question
        self._text = text
        self._count = count
        self._pace = pace
        self._now = now
        self._paths = list(dict.fromkeys(path for _, path in _CITATION.findall(text)))

    async def generate(self, call: ModelCall) -> AsyncIterator[ModelEvent]:
        """Begins a response. Raises BadRequest for another question, and for fewer tokens than the text has."""
        if call.question.split() != self._question.split():
            raise BadRequest(f"{call.model.name} answers “{self._question}” alone", code="another_question")
        labels = [_label(path, call) for path in self._paths]
        taken = call.input_tokens(self._count)
        needed = sum(map(self._count, self._words(labels)))
        if needed > call.max_output_tokens:
            raise BadRequest(
                f"the example has {needed} tokens, and this call may write {call.max_output_tokens}: "
                "raise TOKEN_BUDGET_PER_RUN",
                code="replay_too_long",
            )
        response_id = f"replay_{self._now() * 1000:.0f}_{taken}_{'.'.join(labels)}"
        async for event in self.resume(response_id, 0):
            yield event

    async def resume(
        self, response_id: str, after: int | None, *, age: float = 0.0, window: str = "soonest"
    ) -> AsyncIterator[ModelEvent]:
        """What was written since the sequence number, then what is written from now on."""
        began, taken, words = self._response(response_id)
        yield Started(response_id=response_id, resumable=True)
        for number, word in enumerate(words, 1):
            if number <= (after or 0):
                continue
            if (early := began + number * self._pace - self._now()) > 0:
                await asyncio.sleep(early)
            yield Delta(text=word, sequence_number=number)
        yield Finished(usage=Usage(input_tokens=taken, output_tokens=sum(map(self._count, words))))

    async def cancel(self, response_id: str) -> Usage | None:
        """Answers with what was written until now."""
        began, taken, words = self._response(response_id)
        written = int((self._now() - began) / self._pace) if self._pace else len(words)
        return Usage(input_tokens=taken, output_tokens=[0, *accumulate(map(self._count, words))][min(written, len(words))])

    async def count(self, call: ModelCall) -> int | None:
        """The model's vocabulary is known: nobody need be asked."""
        return None

    async def probe(self, model: str) -> date | None:
        """It is always there."""
        return None

    def _response(self, response_id: str) -> tuple[float, int, list[str]]:
        """When it began, its input in tokens, and its words. Raises WayLost for a response of somebody else."""
        found = _ID.fullmatch(response_id)
        labels = (found[3] or "").split(".") if found else []
        if found is None or len(labels) != max(1, len(self._paths)):
            raise WayLost(f"{response_id} is not a replay of this text: unset ATLAS_REPLAY to go on with it", code="no_key")
        return int(found[1]) / 1000, int(found[2]), self._words(labels)

    def _words(self, labels: list[str]) -> list[str]:
        label_of = dict(zip(self._paths, labels, strict=False))

        def cited(match: re.Match[str]) -> str:
            label = label_of[match[2]]
            return f"{match[1]}[{label}]" if label != "x" else ""

        lines = []
        for line in self._text.splitlines(keepends=True):
            listed = re.match(r"- \[\[([^\[\]]+)\]\]", line)
            if listed is None or label_of[listed[1]] != "x":
                lines.append(line)
        return _WORD.findall(_CITATION.sub(cited, "".join(lines)))


def read_replay(file: str) -> tuple[str, str]:
    """The question and the text of a replay: front matter with a line `question: …`, then Markdown. Raises ValueError."""
    found = re.fullmatch(r"---\nquestion: (\S[^\n]*)\n---\n+(\S.*)", file, re.DOTALL)
    if found is None:
        raise ValueError("it does not begin with ---, question: …, ---")
    return found[1], found[2]


def _label(path: str, call: ModelCall) -> str:
    """What the prompt calls the document of a path; x where it is not among the sources."""
    for label, source in zip(call.labels, call.sources, strict=True):
        if source.source == path or source.source.endswith(f"/{path}"):
            return label
    return "x"


class Either:
    """A replay, and the offline architect for what it does not answer."""

    def __init__(self, replay: ReplayGenerator, offline: OfflineGenerator) -> None:
        self._replay = replay
        self._offline = offline

    def generate(self, call: ModelCall) -> AsyncIterator[ModelEvent]:
        return (self._offline if call.model.is_offline else self._replay).generate(call)

    def resume(
        self, response_id: str, after: int | None, *, age: float = 0.0, window: str = "soonest"
    ) -> AsyncIterator[ModelEvent]:
        return self._replay.resume(response_id, after, age=age, window=window)

    async def cancel(self, response_id: str) -> Usage | None:
        return await self._replay.cancel(response_id)

    async def count(self, call: ModelCall) -> int | None:
        return None

    async def probe(self, model: str) -> date | None:
        return None
