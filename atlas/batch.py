"""Group commit: many tasks' calls of one kind in one transaction, so that no hot row is locked once a task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from atlas.errors import DatabaseDown

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Collects what arrives while a batch is under way, and sends it as the next one. limit: small enough that, of many tasks,
    one part is in Postgres while another is in Python. linger: seconds.

    run gets the items of a batch and answers in their order. Where it raises, the items are tried one by one, so that
    one bad item fails alone.
    """

    def __init__(
        self, run: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], *, limit: int = 20, linger: float = 0.002
    ) -> None:
        self._run = run
        self._limit = limit
        self._linger = linger
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._drain: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Answer:
        """The answer for one item. Cancelling the caller does not take back what was submitted."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._drain is None or self._drain.done():
            # in a context of its own: what it logs is about many tasks, and not about the one that woke it
            self._drain = asyncio.create_task(self._drain_all(), context=Context())
        return await asyncio.shield(future)

    async def _drain_all(self) -> None:
        size = 1
        while self._waiting:
            if size > 1 and len(self._waiting) < self._limit:
                # under load a moment's wait makes batches larger; a lone item never waits
                await asyncio.sleep(self._linger)
            size = len(self._waiting)
            batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
            await self._send(batch)

    async def _send(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._run([item for item, _ in batch])
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(answers)} answers to {len(batch)} items")
        except DatabaseDown as error:
            # not the fault of any one item
            for _, future in batch:
                _fail(future, error)
            return
        except Exception as error:  # noqa: BLE001  every error belongs to the items, and is raised where they wait
            if len(batch) == 1:
                _fail(batch[0][1], error)
                return
            for one in batch:
                await self._send([one])
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)


def _fail(future: asyncio.Future[Answer], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # read, so that a caller who left does not cause a warning
