"""Retrieval for the worker: from the cache in Postgres while the index is as it was, else from the search (in process, or
the RAG service). While the search is away: from the cache all the same, or nothing, and the reply says so."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

import httpx

from atlas.batch import Batcher
from atlas.breaker import Breaker
from atlas.database.pool import Pool
from atlas.errors import AtlasError, DatabaseDown
from atlas.rag.search import LONGEST_QUERY, Query, Searcher
from atlas.rag.store import chunk_of
from atlas.task import Chunk, JsonObject, Retrieved

log = logging.getLogger("atlas.retrieval")

STALE = "the knowledge service is away: these sources were found earlier"
NONE = "the knowledge service is away: this reply does not draw on what the team knows"


class SearchDown(AtlasError):
    """The search does not answer, or answers what cannot be used."""


class PassageSource(Protocol):
    """Where passages come from when the cache has none."""

    async def search(self, query: str, *, task_id: UUID) -> Retrieved:
        """Raises SearchDown and the errors of the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """What the cache says. epoch: the state of the index, empty: nothing was ever indexed. chunks None: nothing is kept."""

    epoch: str
    fresh: bool
    chunks: list[Chunk] | None


class Cache:
    """rag.cache, for many tasks in one round trip. settings: what else decides what a search finds."""

    def __init__(self, pool: Pool, *, settings: str) -> None:
        self._pool = pool
        self._settings = settings
        self._recall: Batcher[tuple[UUID, str], Recalled] = Batcher(self._recall_all)
        self._remember: Batcher[tuple[UUID, str, str, list[JsonObject]], None] = Batcher(self._remember_all)

    async def recall(self, task: UUID, query: str) -> Recalled:
        """What was found for this question, by somebody who may read the same."""
        return await self._recall.submit((task, query))

    async def remember(self, task: UUID, query: str, epoch: str, chunks: Sequence[Chunk]) -> None:
        """Keeps what was found, unless the index changed meanwhile."""
        items: list[JsonObject] = [
            {
                "chunk_id": chunk.chunk_id,
                "similarity": chunk.similarity,
                "similarity_kind": chunk.similarity_kind,
                "score": chunk.score,
            }
            for chunk in chunks
        ]
        await self._remember.submit((task, query, epoch, items))

    async def _recall_all(self, items: Sequence[tuple[UUID, str]]) -> list[Recalled]:
        rows = await self._pool.rows(
            "select * from rag.recall($1, $2, $3)",
            [task for task, _ in items], [query for _, query in items], self._settings,
        )  # fmt: skip
        return [
            Recalled(
                epoch=row["epoch"], fresh=row["found_at"] == row["epoch"],
                chunks=None if row["hits"] is None else [chunk_of(hit) for hit in row["hits"]],
            )
            for row in rows
        ]  # fmt: skip

    async def _remember_all(self, items: Sequence[tuple[UUID, str, str, list[JsonObject]]]) -> list[None]:
        # in one order everywhere: two workers that keep the same questions must not wait for each other in a circle
        ordered = sorted(items, key=lambda item: item[1])
        await self._pool.rows(
            "select rag.remember(q.task, q.query, $4, q.epoch, q.chunks::jsonb) "
            "from unnest($1::uuid[], $2::text[], $3::text[], $5::text[]) as q (task, query, epoch, chunks)",
            [item[0] for item in ordered], [item[1] for item in ordered], [item[2] for item in ordered], self._settings,
            [json.dumps(item[3]) for item in ordered],
        )  # fmt: skip
        return [None] * len(items)


class CachedRetriever:
    """The Retriever of a worker."""

    def __init__(self, source: PassageSource, cache: Cache, *, top_k: int, how: str = "") -> None:
        self.how = how
        """How it searches, in one line."""
        self._source = source
        self._cache = cache
        self._top_k = top_k

    async def search(self, query: str, *, task_id: UUID) -> Retrieved:
        """Passages for a task's question; never raises for a search that is away."""
        if self._top_k == 0:
            return Retrieved()
        query = query[:LONGEST_QUERY]
        known = await self._cache.recall(task_id, query)
        if not known.epoch:
            return Retrieved()
        if known.fresh and known.chunks is not None:
            return Retrieved(chunks=known.chunks)
        try:
            found = await self._source.search(query, task_id=task_id)
        except SearchDown as error:
            log.warning("the search is away: %s", error)
            if known.chunks:
                return Retrieved(chunks=known.chunks, warnings=(STALE,), fell_back="stale")
            return Retrieved(warnings=(NONE,), fell_back="nothing")
        if found.warnings:
            # half a search (by words, while the embedder is away) is not kept for later
            found = replace(found, fell_back="partial")
        else:
            try:
                await self._cache.remember(task_id, query, known.epoch, found.chunks)
            except DatabaseDown:
                raise
            except AtlasError as error:
                log.warning("what was found is not kept: %s", error)
        return found


class InProcess:
    """The same search as the service's, in this process."""

    def __init__(self, searcher: Searcher, *, top_k: int, collapse: bool) -> None:
        self._searcher = searcher
        self._top_k = top_k
        self._collapse = collapse

    async def search(self, query: str, *, task_id: UUID) -> Retrieved:
        """Raises the errors of the database."""
        return await self._searcher.search(Query(text=query, top_k=self._top_k, collapse=self._collapse, task=task_id))


def _chunk(item: JsonObject) -> Chunk:
    """A chunk of the service's answer, whose source names the place and whose path names the document."""
    return chunk_of({**{name: item[name] for name in Chunk.__slots__}, "source": item["path"]})


class RagService:
    """The RAG service at RAG_URL. patience: seconds for a call. A service that fails three times is left alone for a while."""

    def __init__(
        self, client: httpx.AsyncClient, url: str, *, key: str | None, top_k: int, collapse: bool, threshold: float | None,
        patience: float = 2.0, breaker: Breaker | None = None,
    ) -> None:  # fmt: skip
        self._client = client
        self._url = f"{url.rstrip('/')}/v1/query_chat"
        self.key = key
        """RAG_API_KEY, which may be renewed."""
        self._asked: JsonObject = {"top_k": top_k, "collapse_by_file": collapse}
        if threshold is not None:
            self._asked["relevancy_threshold"] = threshold
        self._patience = patience
        self.breaker = breaker or Breaker()

    async def search(self, query: str, *, task_id: UUID) -> Retrieved:
        """Raises SearchDown."""
        if not self.breaker.enter():
            raise SearchDown("it failed several times: it is left alone for a while")
        try:
            async with asyncio.timeout(self._patience):
                answer = await self._client.post(
                    self._url,
                    json={"query": query, "task_id": str(task_id), **self._asked},
                    headers={"authorization": f"Bearer {self.key}"} if self.key else {},
                )
            answer.raise_for_status()
            body = answer.json()
            found = Retrieved(
                chunks=[_chunk(item) for item in body["chunks"]],
                warnings=tuple(str(line) for line in body.get("warnings", ())),
            )
        except (httpx.HTTPError, TimeoutError, ValueError, KeyError, TypeError, AttributeError) as error:
            self.breaker.record(ok=False)
            raise SearchDown(f"{self._url}: {error.__class__.__name__} {str(error)[:200]}") from error
        self.breaker.record(ok=True)
        return found
