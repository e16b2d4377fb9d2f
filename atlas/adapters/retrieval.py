"""Retrieval in process: full-text search in the same Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from atlas.adapters.postgres import Bus
from atlas.batch import Batcher
from atlas.task import Chunk

_LONGEST_QUERY = 8_000
"""Characters of a question that are searched for: the rest of a very long one adds noise and cost."""


class PostgresRetriever:
    """Finds passages with rag.search, for many tasks in one round trip."""

    def __init__(self, bus: Bus, *, top_k: int, collapse: bool) -> None:
        self._top_k = top_k
        self._batch: Batcher[tuple[str, UUID], list[Chunk]] = Batcher(
            lambda queries: bus.search(queries, top_k=top_k, collapse=collapse)
        )

    async def search(self, query: str, *, project_id: UUID) -> Sequence[Chunk]:
        if self._top_k == 0:
            return ()
        return await self._batch.submit((query[:_LONGEST_QUERY], project_id))
