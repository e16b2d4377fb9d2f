"""One search: the question's vector from the embedder whose index serves, both ways in Postgres, a reranker if any.

Every part that is away is left out, and said: a search without vectors is a search by words.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from atlas.errors import WrongState
from atlas.rag.ports import Embedder, EmbedderDown, EmbedderRefused, Reranker, RerankerDown, checked
from atlas.rag.store import EmbeddingIndex, Store
from atlas.task import Chunk, JsonObject, Retrieved

log = logging.getLogger("atlas.rag")

LONGEST_QUERY = 8_000
"""Characters of a question that are searched for: the rest of a very long one adds noise and cost."""
_ACCOUNT_EVERY = 5.0
_LONGEST_EMBEDDED = 2_000
"""Characters of a question that are embedded: a vector of many topics is near to none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question and how to search for it. task: what its owner may read; else claims (a user's), else the service role with
    project. threshold None: what was calibrated, else the setting."""

    text: str
    top_k: int
    collapse: bool = True
    threshold: float | None = None
    task: UUID | None = None
    claims: JsonObject | None = None
    project: UUID | None = None
    prefix: str | None = None
    kind: str | None = None
    words: bool = True
    vectors: bool = True
    rerank: bool = True


class Searcher:
    """Searches the index. embedders gives the embedder of a index, None where the settings have none for it.

    patience: seconds that an embedder or a reranker may take. clock: seconds that only rise.
    """

    def __init__(
        self,
        store: Store,
        *,
        embedders: Callable[[EmbeddingIndex], Awaitable[Embedder | None]],
        reranker: Reranker | None = None,
        threshold: float,
        patience: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._embedders = embedders
        self._reranker = reranker
        self._threshold = threshold
        self._patience = patience
        self._clock = clock
        self._indexes: tuple[float, list[EmbeddingIndex]] | None = None
        self._used: dict[int, tuple[int, int]] = {}
        self._accounted = float("-inf")

    async def serving(self, *, fresh: bool = False) -> EmbeddingIndex | None:
        """The embedding index that serves, read again every few seconds."""
        if fresh or self._indexes is None or self._clock() - self._indexes[0] > 5:
            self._indexes = (self._clock(), await self._store.embedding_indexes())
        return next((index for index in self._indexes[1] if index.state == "serving"), None)

    async def search(self, query: Query) -> Retrieved:
        """Passages, best first. Raises the errors of the store; of the models, none."""
        warnings: list[str] = []
        index = await self.serving() if query.vectors else None
        vector = await self._vector(query.text, index, warnings) if index is not None else None
        try:
            chunks = await self._find(query, vector, index, warnings)
        except WrongState:
            # another embedding index began to serve meanwhile: its vectors are compared with each other only
            index = await self.serving(fresh=True)
            vector = await self._vector(query.text, index, warnings) if index is not None else None
            chunks = await self._find(query, vector, index, warnings)
        return Retrieved(chunks=chunks, warnings=tuple(warnings))

    async def _vector(self, text: str, index: EmbeddingIndex, warnings: list[str]) -> list[float] | None:
        embedder = await self._embedders(index)
        if embedder is None:
            warnings.append(
                f"the index is by {index.embedder} {index.model}, which is not configured here: only words were searched"
            )
            return None
        asked = [text[:_LONGEST_EMBEDDED]]
        try:
            async with asyncio.timeout(self._patience):
                found = checked(embedder, asked, await embedder.embed(asked))
        except (EmbedderDown, EmbedderRefused, TimeoutError) as error:
            log.warning("the question is not embedded: %s", error or "no answer in time")
            warnings.append("the embedder did not answer: only words were searched")
            return None
        texts, tokens = self._used.get(index.id, (0, 0))
        self._used[index.id] = (texts + 1, tokens + (found.tokens or len(text) // 4))
        if self._clock() - self._accounted > _ACCOUNT_EVERY:
            await self.account()
        return found.vectors[0]

    async def account(self) -> None:
        """Records what questions took. Every few seconds and not for each: the day's row is one for the whole fleet."""
        self._accounted = self._clock()
        used, self._used = self._used, {}
        for index, (texts, tokens) in used.items():
            await self._store.record_usage(index, "query", texts, tokens)

    async def _find(
        self, query: Query, vector: list[float] | None, index: EmbeddingIndex | None, warnings: list[str]
    ) -> list[Chunk]:
        threshold = query.threshold
        if threshold is None:
            threshold = index.threshold if index is not None and index.threshold is not None else self._threshold
        reranked = self._reranker is not None and query.rerank
        many = min(200, max(50, 3 * query.top_k)) if reranked else query.top_k
        # without vectors the share of the question's words is measured, which has a threshold of its own
        used = threshold if vector is not None else query.threshold
        chunks = await self._call(query, vector, index, many, used)
        if not chunks:
            nearest = await self._call(query, vector, index, 1, -1)
            if nearest and nearest[0].similarity is not None:
                best = nearest[0].similarity
                limit = "of words" if used is None else f"{used:g}"
                warnings.append(
                    f"the relevancy threshold {limit} dropped every passage (the best one has {best:.2f}): "
                    "measure one with `atlas rag calibrate`"
                )
        if reranked and chunks:
            chunks = await self._reranked(query.text, chunks, warnings)
        return chunks[: query.top_k]

    async def _call(
        self, query: Query, vector: list[float] | None, index: EmbeddingIndex | None, many: int, threshold: float | None
    ) -> list[Chunk]:
        number = index.id if index is not None and vector is not None else None
        text = query.text[:LONGEST_QUERY] if query.words else ""
        if query.task is not None:
            return await self._store.search_task(
                query.task, text, top_k=many, collapse=query.collapse, vector=vector, index=number, threshold=threshold
            )
        return await self._store.search(
            text, top_k=many, collapse=query.collapse, vector=vector, index=number, threshold=threshold, project=query.project,
            prefix=query.prefix, kind=query.kind, claims=query.claims,
        )  # fmt: skip

    async def _reranked(self, text: str, chunks: list[Chunk], warnings: list[str]) -> list[Chunk]:
        assert self._reranker is not None
        try:
            async with asyncio.timeout(self._patience):
                scores = await self._reranker.rerank(text[:_LONGEST_EMBEDDED], [chunk.text for chunk in chunks])
        except (RerankerDown, TimeoutError) as error:
            log.warning("not reranked: %s", error or "no answer in time")
            warnings.append("the reranker did not answer: the order is that of the search")
            return chunks
        ranked = sorted(zip(scores, range(len(chunks)), strict=True), key=lambda pair: (-pair[0], pair[1]))
        return [dataclasses.replace(chunks[index], score=score) for score, index in ranked]
