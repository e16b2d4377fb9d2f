"""Fills an embedding index: what has a vector is never embedded again, and what was embedded is stored before anything else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from uuid import UUID

from atlas.rag.chunk import Piece
from atlas.rag.ports import Embedder, checked
from atlas.rag.store import EmbeddingIndex, Store, embedded_text
from atlas.task import JsonObject

LEASE = 60.0
"""Seconds for which a process has the right to fill an embedding index; extended with each batch."""
TOGETHER = 256
"""Texts that are sorted by length before they are cut into batches: a model pads the texts of a batch to the longest."""


def passage_hash(heading: str, text: str) -> bytes:
    """The hash by which a passage is known: the same as rag.passage_hash."""
    return hashlib.sha256(f"{heading}\n\n{text}".encode()).digest()


class Vectors:
    """One embedder and its embedding index."""

    def __init__(self, store: Store, embedder: Embedder, index: EmbeddingIndex) -> None:
        self._store = store
        self._embedder = embedder
        self.index = index

    async def fill(self, pieces: Sequence[Piece]) -> int:
        """Embeds the pieces that have no vector yet; answers how many tokens that took. Raises what embedders raise."""
        wanted = {passage_hash(piece.heading, piece.text): piece for piece in pieces}
        known = await self._store.known_vectors(self.index.id, list(wanted))
        missing = sorted((piece for digest, piece in wanted.items() if digest not in known), key=lambda piece: piece.tokens)
        tokens = 0
        for start in range(0, len(missing), self._embedder.batch):
            batch = missing[start : start + self._embedder.batch]
            tokens += await self._put([{"heading": p.heading, "text": p.text, "tokens": p.tokens} for p in batch])
        return tokens

    async def has_gaps(self) -> bool:
        """Whether passages in use have no vector: they were indexed without this embedder."""
        return bool(await self._store.missing_vectors(self.index.id, 0, 1))

    async def count_missing(self) -> int:
        """How many passages in use have no vector."""
        return await self._store.count_missing(self.index.id)

    async def build(self, owner: UUID, advance: Callable[[int, int], None] = lambda _texts, _tokens: None) -> bool:
        """Embeds all that is missing, and lets the embedding index serve if it does not. False: another process is at it."""
        while True:
            if not await self._store.claim_index(self.index.id, owner, LEASE):
                return False
            after = 0
            while window := await self._store.missing_vectors(self.index.id, after, TOGETHER):
                after = window[-1][0]
                items = sorted((item for _, item in window), key=lambda item: int(item["tokens"]))
                for start in range(0, len(items), self._embedder.batch):
                    batch = items[start : start + self._embedder.batch]
                    advance(len(batch), await self._put(batch))
                    if not await self._store.claim_index(self.index.id, owner, LEASE):
                        return False
            if await self._store.serve_index(self.index.id):
                return True

    async def _put(self, passages: list[JsonObject]) -> int:
        texts = [embedded_text(item["heading"], item["text"]) for item in passages]
        found = checked(self._embedder, texts, await self._embedder.embed(texts))
        await self._store.put_vectors(self.index.id, passages, found.vectors)
        tokens = found.tokens or sum(item["tokens"] for item in passages)
        await self._store.record_usage(self.index.id, "index", len(texts), tokens)
        return tokens
