"""When the text of running replies is stored: the first at once, the rest in its turn, all streams together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

from atlas.errors import DatabaseDown
from atlas.task import AttemptId, JsonObject
from atlas.worker.progress import ProgressWriter


class Store:
    """What was stored, a list of texts a commit."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.stored = asyncio.Event()
        self.broken = 0

    async def record(self, items: Sequence[JsonObject]) -> set[AttemptId]:
        if self.broken:
            self.broken -= 1
            raise DatabaseDown("gone")
        texts = [item["text"] for item in items if item["text"]]
        if texts:
            self.commits.append(texts)
            self.stored.set()
        return {AttemptId(item["attempt_id"]) for item in items}

    async def next(self) -> list[str]:
        async with asyncio.timeout(5):
            await self.stored.wait()
        self.stored.clear()
        return self.commits[-1]


async def streams(progress: ProgressWriter, n: int) -> list[AttemptId]:
    attempts = [AttemptId(uuid4()) for _ in range(n)]
    for attempt in attempts:
        await progress.started(attempt, call=0, generation=0, model="m", response_id="r", resumable=False)
    return attempts


async def test_the_first_text_of_a_stream_does_not_wait_for_its_turn() -> None:
    store = Store()
    progress = ProgressWriter(store.record, lambda _: None, every=3600)
    writing = asyncio.create_task(progress.run())
    one, two = await streams(progress, 2)
    progress.delta(one, "One", None)
    assert await store.next() == ["One"]
    progress.delta(one, " more", None)
    progress.delta(two, "Two", None)
    assert await store.next() == ["Two"], "what goes on waits for its turn, an hour away"
    writing.cancel()


async def test_all_streams_are_stored_together_and_what_could_not_be_goes_with_the_next() -> None:
    store = Store()
    progress = ProgressWriter(store.record, lambda _: None, every=0.05)
    attempts = await streams(progress, 3)
    for attempt in attempts:
        progress.delta(attempt, "first", None)
    writing = asyncio.create_task(progress.run())
    assert await store.next() == ["first"] * 3
    store.broken = 2
    for attempt in attempts:
        progress.delta(attempt, " then", None)
    assert await store.next() == [" then"] * 3
    assert store.broken == 0
    writing.cancel()


async def test_a_response_is_stored_in_a_moment_and_no_text_without_it() -> None:
    """And neither, where the reply is there first: its end says all."""
    stored: list[JsonObject] = []

    async def record(items: Sequence[JsonObject]) -> set[AttemptId]:
        stored.extend(items)
        return {AttemptId(UUID(item["attempt_id"])) for item in items}

    progress = ProgressWriter(record, lambda _: None, every=3600)
    writing = asyncio.create_task(progress.run())
    silent, quick, flowing = (AttemptId(uuid4()) for _ in range(3))
    for attempt in (silent, quick, flowing):
        await progress.started(attempt, call=0, generation=0, model="m", response_id=f"resp_{attempt}", resumable=True)
    progress.delta(quick, "All of it", 1)
    progress.forget(quick)
    progress.delta(flowing, "First", 1)
    async with asyncio.timeout(5):
        while len(stored) < 2:
            await asyncio.sleep(0.005)
    assert {(item["attempt_id"], item["response_id"], item["text"]) for item in stored} == {
        (str(silent), f"resp_{silent}", ""), (str(flowing), f"resp_{flowing}", "First"),
    }  # fmt: skip
    writing.cancel()


async def test_a_response_that_could_not_be_stored_goes_with_the_next_write() -> None:
    seen: list[str] = []
    broken = True

    async def record(items: Sequence[JsonObject]) -> set[AttemptId]:
        nonlocal broken
        if broken:
            broken = False
            raise DatabaseDown("gone")
        seen.extend(item["response_id"] for item in items)
        return {AttemptId(UUID(item["attempt_id"])) for item in items}

    progress = ProgressWriter(record, lambda _: None, every=0.05)
    writing = asyncio.create_task(progress.run())
    await progress.started(AttemptId(uuid4()), call=0, generation=0, model="m", response_id="resp", resumable=True)
    async with asyncio.timeout(5):
        while not seen:
            await asyncio.sleep(0.005)
    assert seen == ["resp"]
    writing.cancel()


async def test_the_response_of_a_continuation_does_not_wait_for_its_turn() -> None:
    stored: list[tuple[str, str]] = []

    async def record(items: Sequence[JsonObject]) -> set[AttemptId]:
        stored.extend((item["response_id"], item["text"]) for item in items)
        return {AttemptId(UUID(item["attempt_id"])) for item in items}

    progress = ProgressWriter(record, lambda _: None, every=3600)
    writing = asyncio.create_task(progress.run())
    attempt = AttemptId(uuid4())
    for number in (1, 2):
        await progress.started(attempt, call=number, generation=0, model="m", response_id=f"resp_{number}", resumable=True)
        if number == 1:
            progress.delta(attempt, "First", 1)
        async with asyncio.timeout(5):
            while len(stored) < number:
                await asyncio.sleep(0.005)
    assert stored == [("resp_1", "First"), ("resp_2", "")]
    writing.cancel()
