"""Follows a task to its end: text as it is written, what happens in between, the final reply.

The tables are the truth. Deltas of Realtime, where they are heard, only make it quicker: one that does not join on sends the
reader to the tables, from the place where it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from atlas.task import JsonObject
from atlas.tasks.port import Part, Tasks

ENDED = frozenset({"completed", "failed", "cancelled", "dead_lettered"})
STOPPED = ENDED | {"needs_input"}
"""Nothing more comes by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoreText:
    """More text to show."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """A new generation differs from what was shown: begin anew with its text so far."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """The task's state, or what it waits for, changed. expected_at: until when the reply of a completion window comes."""

    state: str
    wait_reason: str | None
    run_after: datetime | None
    message: str | None
    expected_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The task is over; task is what Tasks.task says of it."""

    task: JsonObject


Event = MoreText | Restart | Changed | Ended


@dataclass(slots=True)
class Reader:
    """Puts parts together: within one generation no character twice and none missing. Mutable: how far it is."""

    attempt: int = 0
    generation: int = 0
    text: str = ""
    shown: str = ""
    events: list[MoreText | Restart] = field(default_factory=list)

    @property
    def offset(self) -> int:
        """What is written from here on has a larger offset."""
        return len(self.text) - 1

    def feed(self, part: Part) -> bool:
        """Takes a part. False: it does not join on, something before it is missing."""
        place = (part.attempt, part.generation)
        if place < (self.attempt, self.generation):
            return True  # of a generation that is void
        held = self.text if place == (self.attempt, self.generation) else ""
        if part.offset > len(held):
            return False
        if part.offset + len(part.text) <= len(held):
            return True  # had it before
        held = held[: part.offset]
        self.attempt, self.generation = place
        self._show(held + part.text)
        return True

    def finish(self, final: str) -> None:
        """Takes the final reply, whatever was shown of it: also one that is shorter."""
        self._show(final)
        if self.shown != final:
            self.events.append(Restart(text=final))
            self.shown = final

    def _show(self, text: str) -> None:
        """Shows what is new. A later attempt that repeats what was shown is shown from where it goes on."""
        self.text = text
        if self.shown.startswith(text):
            return
        if text.startswith(self.shown):
            self.events.append(MoreText(text=text[len(self.shown) :]))
        else:
            self.events.append(Restart(text=text))
        self.shown = text

    def take(self) -> list[MoreText | Restart]:
        """What is to be shown since the last call."""
        taken, self.events = self.events, []
        return taken


async def follow(reads: Tasks, task_id: UUID, *, poll: float = 0.1, live_poll: float = 0.6) -> AsyncIterator[Event]:
    """Events of a task until it has ended.

    poll, live_poll: seconds between looks at the tables, without deltas, and with them while nothing is heard; twice as long
    while the task waits.
    """
    reader = Reader()
    last: tuple[str, str | None] | None = None
    async with reads.live(task_id) as live:
        while True:
            # the state first: parts that are written after it was read are found by the next look, or by the final reply
            row = await reads.state(task_id)
            for part in await reads.parts_after(task_id, reader.attempt, reader.generation, reader.offset):
                reader.feed(part)
            if row["state"] in STOPPED:
                task = await reads.task(task_id)
                if row["state"] in ("completed", "needs_input"):
                    reader.finish(task["reply"] or "")
                for event in reader.take():
                    yield event
                yield Ended(task=task)
                return
            for event in reader.take():
                yield event
            if (row["state"], row["wait_reason"]) != last:
                last = (row["state"], row["wait_reason"])
                yield Changed(
                    state=row["state"], wait_reason=row["wait_reason"], run_after=row["run_after"],
                    message=row["error_message"], expected_at=row["expected_at"],
                )  # fmt: skip
            if live is None:
                await asyncio.sleep(poll)
                continue
            is_running = row["state"] == "running"
            longest = (live_poll if is_running else 2 * live_poll) if live.joined else 5 * poll
            # while a reply is written and nothing is heard, its text is read from the tables; its state now and then
            for _ in range(3 if is_running and live.joined else 1):
                try:
                    while (heard := await live.next(longest)) is not None and reader.feed(heard):
                        for event in reader.take():
                            yield event
                    break
                except TimeoutError:
                    for part in await reads.parts_after(task_id, reader.attempt, reader.generation, reader.offset):
                        reader.feed(part)
                    for event in reader.take():
                        yield event
