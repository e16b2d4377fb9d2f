"""The index in Postgres: calls of the SQL functions of schema rag, named as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from atlas.database.pool import Pool
from atlas.rag.chunk import Piece
from atlas.rag.ports import Embedder
from atlas.task import Chunk, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingIndex:
    """One embedder's model at one dimension."""

    id: int
    embedder: str
    model: str
    dimensions: int
    state: Literal["building", "serving"]
    threshold: float | None = None
    usd_per_million: float | None = None

    def fits(self, embedder: Embedder) -> bool:
        """Whether the embedder's vectors belong here."""
        return (self.embedder, self.model, self.dimensions) == (embedder.name, embedder.model, embedder.dimensions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that this process has claimed."""

    id: UUID
    project: UUID | None
    repository: str | None
    ref: str | None
    attempts: int


def embedded_text(heading: str, text: str) -> str:
    """What is embedded of a passage: it stands under its heading."""
    return f"{heading}\n\n{text}" if heading else text


def as_vector(vector: Sequence[float]) -> str:
    """A vector as Postgres reads it."""
    return "[" + ",".join(f"{number:.6g}" for number in vector) + "]"


class Store:
    """Documents, chunks, vectors and jobs. Raises the errors of atlas.errors."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    # --- documents ----------------------------------------------------------------------------------------------

    async def known_documents(self, project: UUID | None, sources: Sequence[str]) -> dict[str, bytes]:
        """The hash of each source that is indexed."""
        rows = await self._pool.rows("select * from rag.known_documents($1, $2)", project, list(sources))
        return {row["source"]: row["content_sha256"] for row in rows}

    async def put_document(
        self, project: UUID | None, source: str, *, title: str, kind: str, digest: bytes, pieces: Sequence[Piece],
        commit: str | None = None, repository: str | None = None, item: tuple[UUID, UUID, int] | None = None,
    ) -> None:  # fmt: skip
        """Shows a document's chunks instead of the old ones. item: (job, owner, seq), which is done in the same transaction."""
        put = "select rag.put_document($1, $2, $3, $4, $5, $6, $7, $8)"
        values = (project, source, title, kind, digest, as_chunks(pieces), commit, repository)
        if item is None:
            await self._pool.value(put, *values)
        else:
            # one statement: the lease is checked, the chunks are shown and the item is done together, or nothing is
            both = f"with put as ({put} as n) select rag.finish_item($9, $10, $11) from put where put.n >= 0"  # noqa: S608  constants
            await self._pool.value(both, *values, *item)

    async def stale_documents(self, project: UUID | None, under: Sequence[str], keep: Sequence[str]) -> list[str]:
        """Documents under these folders that are not among those that are kept."""
        rows = await self._pool.rows("select * from rag.stale_documents($1, $2, $3)", project, list(under), list(keep))
        return [row["source"] for row in rows]

    async def drop_documents(self, project: UUID | None, sources: Sequence[str]) -> int:
        """Drops documents."""
        return int(await self._pool.value("select rag.drop_documents($1, $2)", project, list(sources)))

    async def forget_repository(self, project: UUID | None, name: str) -> int:
        """Drops a repository, a folder or a document; it is not indexed anew at night."""
        return int(await self._pool.value("select rag.forget_repository($1, $2)", project, name))

    async def list_repositories(self) -> list[JsonObject]:
        """What is indexed, by project and repository."""
        return [dict(row) for row in await self._pool.rows("select * from atlas.list_repositories()")]

    async def collect_passages(self) -> int:
        """Removes texts that nothing refers to any more."""
        return int(await self._pool.value("select rag.collect_passages()"))

    async def project(self, name: str) -> UUID | None:
        """The id of a project, by its id or name; None where there is none."""
        found = await self._pool.value("select id from atlas.project where id::text = $1 or name = $1", name)
        return None if found is None else UUID(str(found))

    # --- vectors ------------------------------------------------------------------------------------------------

    async def embedding_indexes(self) -> list[EmbeddingIndex]:
        """The embedding_indexes that serve or are built."""
        return [EmbeddingIndex(**item) for item in await self._pool.value("select rag.embedding_indexes()")]

    async def open_index(self, embedder: Embedder, usd_per_million: float | None, *, revive: bool = True) -> EmbeddingIndex:
        """The index of an embedder; a new one is built beside the one that serves. Raises WrongState for a retired one where it
        may not be revived."""
        row = await self._pool.value(
            "select to_jsonb(rag.open_index($1, $2, $3, $4::float8::numeric, $5))",
            embedder.name, embedder.model, embedder.dimensions, usd_per_million, revive,
        )  # fmt: skip
        return EmbeddingIndex(**{name: row[name] for name in EmbeddingIndex.__slots__})

    async def known_vectors(self, index: int, hashes: Sequence[bytes]) -> set[bytes]:
        """Which texts have a vector."""
        rows = await self._pool.rows("select * from rag.known_vectors($1, $2)", index, list(hashes))
        return {row[0] for row in rows}

    async def missing_vectors(self, index: int, after: int, limit: int) -> list[tuple[int, JsonObject]]:
        """Passages in use without a vector, with their ids, in their order."""
        rows = await self._pool.rows("select * from rag.missing_vectors($1, $2, $3)", index, after, limit)
        return [(row["passage_id"], {"heading": row["heading"], "text": row["text"], "tokens": row["tokens"]}) for row in rows]

    async def refresh_all(self) -> int:
        """A job for each repository that was indexed before; answers how many."""
        return int(await self._pool.value("select rag.refresh_all()"))

    async def index_status(self) -> JsonObject:
        """What is indexed, by which embedder, what it cost, and which jobs wait."""
        return dict(await self._pool.value("select rag.index_status()"))

    async def advance_epochs(self) -> None:
        """What is cached is stale: searches have other settings now."""
        await self._pool.value("select rag.advance_epochs()")

    async def record_repository(self, url: str, ref: str | None, project: UUID | None) -> None:
        """Remembers a repository that was indexed by hand, so that the nightly refresh looks at it again."""
        await self._pool.value("select rag.record_repository($1, $2, $3)", url, ref, project)

    async def count_missing(self, index: int) -> int:
        """How many passages are to be embedded still."""
        return int(await self._pool.value("select count(*) from rag.missing_vectors($1, 0, 100000000)", index))

    async def put_vectors(self, index: int, passages: Sequence[JsonObject], vectors: Sequence[Sequence[float]]) -> None:
        """Stores texts with their vectors."""
        await self._pool.value(
            "select rag.put_vectors($1, $2, $3)", index, list(passages), [as_vector(vector) for vector in vectors]
        )

    async def claim_index(self, index: int, owner: UUID, lease: float) -> bool:
        """Whether this process may fill the embedding index now."""
        return bool(await self._pool.value("select rag.claim_index($1, $2, $3)", index, owner, timedelta(seconds=lease)))

    async def serve_index(self, index: int) -> bool:
        """Lets a complete embedding index serve; False: passages are still missing."""
        return bool(await self._pool.value("select rag.serve_index($1)", index))

    async def set_threshold(self, index: int, threshold: float) -> None:
        """Keeps a calibrated threshold; it overrides the setting."""
        await self._pool.value("select rag.set_threshold($1, $2)", index, threshold)

    async def set_ranking(self, *, words_threshold: float | None, vector_weight: float | None) -> None:
        """Keeps how search ranks; what is None stays."""
        await self._pool.value(
            "select rag.set_ranking(p_words_threshold => $1, p_vector_weight => $2)", words_threshold, vector_weight
        )

    async def record_usage(self, index: int, purpose: Literal["index", "query"], texts: int, tokens: int) -> None:
        """Accounts for what was embedded."""
        await self._pool.value("select rag.record_usage($1, $2, $3, $4)", index, purpose, texts, tokens)

    # --- search -------------------------------------------------------------------------------------------------

    async def search_task(
        self, task: UUID, query: str, *, top_k: int, collapse: bool, vector: Sequence[float] | None, index: int | None,
        threshold: float | None,
    ) -> list[Chunk]:  # fmt: skip
        """Passages for a task, of what its owner may read."""
        rows = await self._pool.rows(
            "select * from rag.search_task($1, $2, $3, $4, $5, $6, $7)",
            task, query, top_k, collapse, None if vector is None else as_vector(vector), index, threshold,
        )  # fmt: skip
        return [chunk_of(dict(row)) for row in rows]

    async def search(
        self, query: str, *, top_k: int, collapse: bool, vector: Sequence[float] | None, index: int | None,
        threshold: float | None, project: UUID | None = None, prefix: str | None = None, kind: str | None = None,
        claims: JsonObject | None = None,
    ) -> list[Chunk]:  # fmt: skip
        """Passages for the service role (of a project and shared ones), or with claims: for that user, under RLS."""
        rows = await self.rows_for(
            claims, "select * from rag.search($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            query, top_k, project, collapse, None if vector is None else as_vector(vector), index, threshold, prefix, kind,
        )  # fmt: skip
        return [chunk_of(row) for row in rows]

    async def rows_for(self, claims: JsonObject | None, query: str, *arguments: object) -> list[JsonObject]:
        """Rows as the service role sees them; with claims, as that user sees them."""
        if claims is None:
            return [dict(row) for row in await self._pool.rows(query, *arguments)]
        return await self._pool.rows_as("authenticated", claims, query, *arguments)

    async def value(self, query: str, *arguments: object) -> Any:
        """The first column of the first row of one call."""
        return await self._pool.value(query, *arguments)

    # --- jobs ---------------------------------------------------------------------------------------------------

    async def add_job(self, items: Sequence[JsonObject], project: UUID | None) -> UUID:
        """A job over documents {source, kind, text}."""
        return UUID(str(await self._pool.value("select rag.add_job($1, $2)", list(items), project)))

    async def claim_job(self, owner: UUID, lease: float) -> Job | None:
        """The next job that is due; None where there is none."""
        rows = await self._pool.rows("select * from rag.claim_job($1, $2)", owner, timedelta(seconds=lease))
        return next((
            Job(id=row["id"], project=row["project_id"], repository=row["repository"], ref=row["ref"], attempts=row["attempts"])
            for row in rows
        ), None)  # fmt: skip

    async def next_item(self, job: UUID) -> JsonObject | None:
        """The next document of a job that is not done."""
        rows = await self._pool.rows(
            "select seq, source, kind, text from rag.embed_item where job_id = $1 and not done order by seq limit 1", job
        )
        return dict(rows[0]) if rows else None

    async def finish_item(self, job: UUID, owner: UUID, seq: int, error: str | None) -> None:
        """A document of a job is done."""
        await self._pool.value("select rag.finish_item($1, $2, $3, $4)", job, owner, seq, error)

    async def extend_job(
        self, job: UUID, owner: UUID, lease: float, *, total: int | None = None, done: int | None = None
    ) -> None:
        """Extends the lease, and says how far it is. Raises LeaseLost."""
        await self._pool.value("select rag.extend_job($1, $2, $3, $4, $5)", job, owner, timedelta(seconds=lease), total, done)

    async def end_job(
        self, job: UUID, owner: UUID, state: str, *, error: str | None = None, wait: float | None = None,
        errors: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """completed, failed, or queued again after a wait in seconds. errors: what was skipped."""
        pause = None if wait is None else timedelta(seconds=wait)
        await self._pool.value(
            "select rag.end_job($1, $2, $3, $4, $5, $6)", job, owner, state, error, pause, list(errors[:200])
        )


def as_chunks(pieces: Sequence[Piece]) -> list[JsonObject]:
    """Pieces of a document as rag.put_document takes them."""
    return [
        {"seq": seq, "heading": piece.heading, "start_line": piece.start_line, "end_line": piece.end_line, "text": piece.text,
         "tokens": piece.tokens} for seq, piece in enumerate(pieces)
    ]  # fmt: skip


def chunk_of(row: JsonObject) -> Chunk:
    """A row of a search as a passage."""
    sha256 = row["sha256"]
    return Chunk(**{**row, "sha256": sha256.hex() if isinstance(sha256, bytes) else sha256})
