"""What running replies leave behind: parts, response ids, sequence numbers, of all streams in one commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from atlas.batch import Batcher
from atlas.errors import AtlasError, DatabaseDown, RefusedError
from atlas.task import AttemptId, JsonObject

log = logging.getLogger("atlas.progress")


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


class ProgressWriter:
    """Buffers text, and writes the parts of all streams together every so often.

    The interval grows with the number of streams of the whole fleet: each part is a Realtime message, and a subscriber is cut
    off at 100 a second. lost is called with each attempt that turned out to be somebody else's. count answers how many
    streams the fleet has.
    """

    def __init__(
        self,
        record: Callable[[Sequence[JsonObject]], Awaitable[set[AttemptId]]],
        lost: Callable[[AttemptId], None],
        count: Callable[[], Awaitable[int]],
        *,
        shortest: float = 0.1,
        parts_a_second: float = 75.0,
    ) -> None:
        self._record = record
        self._lost = lost
        self._count = count
        self._shortest = shortest
        self._rate = parts_a_second
        self._streams: dict[AttemptId, _Stream] = {}
        self._written = asyncio.Lock()
        self._begun: Batcher[JsonObject, bool] = Batcher(self._record_begun)

    async def started(
        self, attempt: AttemptId, *, call: int, generation: int, model: str, response_id: str, resumable: bool,
        begins: int = 0, inherited: str = "", sequence_number: int | None = None,
    ) -> None:  # fmt: skip
        """Begins a generation, or goes on with it in another response. A response that can be resumed is stored before this
        returns: a crash from here on is resumed."""
        before = self._streams.get(attempt)
        stream = _Stream(
            call=call, generation=generation, model=model, response_id=response_id, resumable=resumable,
            begins=begins, sequence_number=sequence_number,
        )  # fmt: skip
        if before is not None and before.generation == generation:
            stream.offset, stream.pending = before.offset, before.pending
        self._streams[attempt] = stream
        if resumable and not await self._begun.submit(_item(attempt, stream, inherited) | {"inherited": bool(inherited)}):
            self._lost(attempt)
        stream.offset += len(inherited)

    async def _record_begun(self, items: Sequence[JsonObject]) -> list[bool]:
        held = await self._record(items)
        return [AttemptId(UUID(item["attempt_id"])) in held for item in items]

    def delta(self, attempt: AttemptId, text: str, sequence_number: int | None) -> None:
        stream = self._streams[attempt]
        stream.pending.append(text)
        if sequence_number is not None:
            stream.sequence_number = sequence_number

    def forget(self, attempt: AttemptId) -> None:
        """The attempt is over: what is still pending stands in its reply."""
        self._streams.pop(attempt, None)

    async def run(self) -> None:
        """Writes for ever."""
        interval = self._shortest
        while True:
            await asyncio.sleep(interval)
            try:
                interval = await self.interval()
                await self.flush(list(self._streams))
            except (DatabaseDown, RefusedError) as error:
                log.warning("progress could not be stored: %s", error)

    async def interval(self) -> float:
        """Seconds from this write to the next."""
        streams = max(len(self._streams), await self._count()) if self._streams else 0
        return max(self._shortest, streams / self._rate)

    async def flush(self, attempts: Sequence[AttemptId]) -> None:
        """Writes what is pending of these attempts, in one commit."""
        async with self._written:
            items: dict[AttemptId, JsonObject] = {}
            for attempt in attempts:
                stream = self._streams.get(attempt)
                if stream is not None and stream.pending:
                    text = "".join(stream.pending)
                    stream.pending.clear()
                    items[attempt] = _item(attempt, stream, text)
                    stream.offset += len(text)
            if not items:
                return
            try:
                held = await self._record(list(items.values()))
            except AtlasError:
                # nothing of it was stored: it goes with the next write
                for attempt, item in items.items():
                    stream = self._streams.get(attempt)
                    if stream is not None and stream.generation == item["generation"]:
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
