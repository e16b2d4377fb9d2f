"""What running replies leave behind: parts, response ids, sequence numbers, of all streams in one commit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from atlas.errors import AtlasError, DatabaseDown, RefusedError
from atlas.task import AttemptId, JsonObject

log = logging.getLogger("atlas.progress")

MOST_LINES = 10
"""Parts of one write that are logged a line each."""
FIRST_WAITS = 0.02
"""Seconds that a first text waits for others: with hundreds of streams each would be a commit of its own."""


@dataclass(slots=True, kw_only=True)
class _Stream:
    """The state of one running generation. Mutable: this is the buffer."""

    call: int
    generation: int
    model: str
    response_id: str
    resumable: bool
    begins: int = 0
    offset: int = 0
    sequence_number: int | None = None
    pending: list[str] = field(default_factory=list)
    said: bool = True
    """Whether its response is stored, where it can be resumed."""


class ProgressWriter:
    """Buffers text, and writes the parts of all streams together, in one commit every so often, however many streams there are.

    A response that begins, and the first text of a generation, do not wait for their turn: a call whose response is not stored
    cannot be taken up after a crash, and somebody may be waiting for the text. No text is stored without its response; a reply
    that comes first stores neither. lost is called with each attempt that turned out to be somebody else's. every: seconds
    from one write to the next.
    """

    def __init__(
        self, record: Callable[[Sequence[JsonObject]], Awaitable[set[AttemptId]]], lost: Callable[[AttemptId], None],
        *, every: float = 0.25,
    ) -> None:  # fmt: skip
        self._record = record
        self._lost = lost
        self._every = every
        self._first = asyncio.Event()
        self._streams: dict[AttemptId, _Stream] = {}
        self._written = asyncio.Lock()

    async def started(
        self, attempt: AttemptId, *, call: int, generation: int, model: str, response_id: str, resumable: bool,
        begins: int = 0, inherited: str = "", sequence_number: int | None = None,
    ) -> None:  # fmt: skip
        """Begins a generation, or goes on with it in another response. What it inherits is stored before this returns."""
        before = self._streams.get(attempt)
        stream = _Stream(
            call=call, generation=generation, model=model, response_id=response_id, resumable=resumable,
            begins=begins, sequence_number=sequence_number, said=not resumable,
        )  # fmt: skip
        if before is not None and before.generation == generation:
            stream.offset, stream.pending = before.offset, before.pending
        self._streams[attempt] = stream
        if inherited:
            stream.said = True
            if attempt not in await self._record([_item(attempt, stream, inherited) | {"inherited": True}]):
                self._lost(attempt)
            stream.offset += len(inherited)
        elif resumable:
            self._first.set()

    def delta(self, attempt: AttemptId, text: str, sequence_number: int | None) -> None:
        stream = self._streams[attempt]
        if not stream.offset and not stream.pending:
            self._first.set()
        stream.pending.append(text)
        if sequence_number is not None:
            stream.sequence_number = sequence_number

    def forget(self, attempt: AttemptId) -> None:
        """The attempt is over: what is still pending stands in its reply."""
        self._streams.pop(attempt, None)

    async def run(self) -> None:
        """Writes forever."""
        clock = asyncio.get_running_loop().time
        due = clock() + self._every
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._first.wait()
                    # what else begins just now goes along
                    await asyncio.sleep(FIRST_WAITS)
            self._first.clear()
            turn = clock() >= due
            if turn:
                due = clock() + self._every
            try:
                await self.flush([one for one, stream in self._streams.items() if turn or not stream.offset or not stream.said])
            except (DatabaseDown, RefusedError) as error:
                log.warning("progress could not be stored: %s", error)
                await asyncio.sleep(self._every)

    async def flush(self, attempts: Sequence[AttemptId]) -> None:
        """Writes what is pending of these attempts, in one commit."""
        async with self._written:
            items: dict[AttemptId, JsonObject] = {}
            for attempt in attempts:
                stream = self._streams.get(attempt)
                if stream is not None and (stream.pending or not stream.said):
                    text = "".join(stream.pending)
                    stream.pending.clear()
                    items[attempt] = _item(attempt, stream, text)
                    stream.offset += len(text)
                    stream.said = True
            if not items:
                return
            try:
                held = await self._record(list(items.values()))
                _tell(items)
            except AtlasError:
                # nothing of it was stored: it goes with the next write
                for attempt, item in items.items():
                    stream = self._streams.get(attempt)
                    if stream is not None and stream.generation == item["generation"]:
                        stream.said = not stream.resumable
                        if item["text"]:
                            stream.pending.insert(0, item["text"])
                            stream.offset -= len(item["text"])
                raise
        for attempt in items.keys() - held:
            if attempt in self._streams:
                self._lost(attempt)


def _item(attempt: AttemptId, stream: _Stream, text: str) -> JsonObject:
    return {
        "attempt_id": str(attempt),
        "call": stream.call,
        "generation": stream.generation,
        "response_id": stream.response_id,
        "resumable": stream.resumable,
        "sequence_number": stream.sequence_number,
        "response_offset": stream.begins,
        "offset": stream.offset,
        "text": text,
        "model": stream.model,
    }


def _tell(items: Mapping[AttemptId, JsonObject]) -> None:
    """A line a part, without its text: how one sees in a log that replies flow. Of many streams, one line for all."""
    if len(items) > MOST_LINES:
        characters = sum(len(item["text"]) for item in items.values())
        log.info("architect_out: %d characters of %d attempts", characters, len(items))
        return
    for attempt, item in ((one, item) for one, item in items.items() if item["text"]):
        log.info("architect_out: attempt %s, generation %d, %d characters at %d",
                 attempt, item["generation"], len(item["text"]), item["offset"])  # fmt: skip
