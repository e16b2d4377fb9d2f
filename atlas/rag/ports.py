"""What retrieval asks of others: vectors and an order of models, documents of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from atlas.errors import AtlasError

if TYPE_CHECKING:
    from atlas.rag.chunk import Piece


class EmbedderDown(AtlasError):
    """The embedder does not answer now; what was asked can be asked again."""

    exit_code = 3


class EmbedderRefused(AtlasError):
    """The embedder does not take it, or answers what cannot be used: a key, a model or a dimension is wrong."""

    exit_code = 2


class RerankerDown(AtlasError):
    """The reranker does not answer, or answers what cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Vectors in the order of the texts, and how many tokens they had (0: not said)."""

    vectors: list[list[float]]
    tokens: int = 0


class Embedder(Protocol):
    """Turns texts into vectors of one model and dimension."""

    name: str
    model: str
    dimensions: int
    batch: int
    """Texts of a call, at most."""

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Raises EmbedderDown and EmbedderRefused."""


class Reranker(Protocol):
    """Puts passages in the order of how well they answer a question."""

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score for each text, in their order; higher is better. Raises RerankerDown."""


class Documents(Protocol):
    """What indexing asks of a store. project None: documents that everybody shares."""

    async def known_documents(self, project: UUID | None, sources: Sequence[str]) -> dict[str, bytes]:
        """The hash of each source that is indexed."""

    async def put_document(
        self, project: UUID | None, source: str, *, title: str, kind: str, digest: bytes, pieces: Sequence[Piece],
        commit: str | None = None, repository: str | None = None, item: tuple[UUID, UUID, int] | None = None,
    ) -> None:  # fmt: skip
        """Shows a document's chunks instead of the old ones. item: (job, owner, seq), which is done with it."""

    async def stale_documents(self, project: UUID | None, under: Sequence[str], keep: Sequence[str]) -> list[str]:
        """Documents under these folders that are not among those that are kept."""

    async def drop_documents(self, project: UUID | None, sources: Sequence[str]) -> int:
        """Drops documents; answers how many there were."""


def checked(embedder: Embedder, texts: Sequence[str], found: Embedded) -> Embedded:
    """The answer of an embedder, if it can be stored: as many vectors as texts, of its dimension, finite and not zero."""
    if len(found.vectors) != len(texts):
        raise EmbedderRefused(
            f"{embedder.model} answered {len(found.vectors)} vectors to {len(texts)} texts", "check its server"
        )
    for vector in found.vectors:
        if len(vector) != embedder.dimensions:
            raise EmbedderRefused(
                f"{embedder.model} answers vectors of {len(vector)} dimensions, and {embedder.dimensions} are expected",
                f"set RAG_EMBED_DIMENSIONS={len(vector)}",
            )
        try:
            usable = any(vector) and all(abs(number) < 65504 for number in vector)
        except TypeError:
            usable = False
        if not usable:
            raise EmbedderRefused(f"{embedder.model} answered a vector that is zero, or no finite numbers", "check its server")
    return found
