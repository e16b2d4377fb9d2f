"""What many tasks ask of the database at once, in one commit: reservations and prompts."""

from __future__ import annotations

from atlas.batch import Batcher
from atlas.database.queue import PostgresQueue
from atlas.metrics.worker import Metrics
from atlas.task import AttemptId, JsonObject, Usage


class BatchedMoney:
    """atlas.architect.ports.Money: reservations of many tasks in one commit."""

    def __init__(self, queue: PostgresQueue, metrics: Metrics) -> None:
        self._queue = queue
        self._metrics = metrics
        self._reserve: Batcher[JsonObject, JsonObject] = Batcher(queue.reserve_tokens)

    async def reserve(self, request: JsonObject) -> JsonObject:
        return await self._reserve.submit(request)

    async def settle(self, spend_id: int, attempt: AttemptId, usage: Usage | None, model: str, response: str | None) -> None:
        await self._queue.record_usage(spend_id, attempt, usage, response)
        self._metrics.settled(model, usage)


class BatchedPrompts:
    """atlas.architect.ports.Prompts: prompts of many calls in one commit."""

    def __init__(self, queue: PostgresQueue) -> None:
        self._keep: Batcher[JsonObject, None] = Batcher(queue.keep_prompts)

    async def keep(self, prompt: JsonObject) -> None:
        await self._keep.submit(prompt)
