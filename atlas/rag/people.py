"""The index as people reach it: over REST, under their login, in projects of theirs. Words alone: vectors are an operator's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from atlas.llm.tokens import Count
from atlas.rag.reading import ReadingProcess
from atlas.rag.store import as_chunks, chunk_of
from atlas.settings import Settings
from atlas.supabase.tasks import RestTasks, connect
from atlas.task import Chunk, JsonObject

if TYPE_CHECKING:
    from atlas.rag.chunk import Piece
    from atlas.rag.index import Indexer


class PeopleStore:
    """Documents of a person's projects: what Indexer and `atlas index` ask of a store."""

    def __init__(self, people: RestTasks) -> None:
        self._people = people

    async def project(self, name: str) -> UUID | None:
        return await self._people.project(name)

    async def known_documents(self, project: UUID | None, sources: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        # REST answers with a thousand rows at most, and does not say so
        for start in range(0, len(sources), 500):
            asked = list(sources[start : start + 500])
            for row in await self._people.call("known_documents", p_project=_text(project), p_sources=asked):
                found[row["source"]] = bytes.fromhex(row["content_sha256"].removeprefix("\\x"))
        return found

    async def put_document(
        self, project: UUID | None, source: str, *, title: str, kind: str, digest: bytes, pieces: Sequence[Piece],
        commit: str | None = None, repository: str | None = None, item: tuple[UUID, UUID, int] | None = None,
    ) -> None:  # fmt: skip
        """item is of the service's jobs, and None here."""
        await self._people.call(
            "index_document", p_project=_text(project), p_source=source, p_title=title, p_kind=kind,
            p_sha256=f"\\x{digest.hex()}", p_chunks=as_chunks(pieces), p_commit=commit, p_repository=repository,
        )  # fmt: skip

    async def stale_documents(self, project: UUID | None, under: Sequence[str], keep: Sequence[str]) -> list[str]:
        # one array: of rows REST would answer with the first thousand
        found = await self._people.call("stale_documents", p_project=_text(project), p_under=list(under), p_keep=list(keep))
        return [str(source) for source in found]

    async def drop_documents(self, project: UUID | None, sources: Sequence[str]) -> int:
        return int(await self._people.call("drop_documents", p_project=_text(project), p_sources=list(sources)))

    async def forget_repository(self, project: UUID | None, name: str) -> int:
        """Drops what is under a name. Which repositories are indexed anew at night is an operator's."""
        dropped = 0
        while found := await self.stale_documents(project, [name], []):
            dropped += await self.drop_documents(project, found)
        return dropped

    async def list_repositories(self) -> list[JsonObject]:
        return list(await self._people.call("list_repositories"))

    async def record_repository(self, name: str, ref: str | None, project: UUID | None) -> None:
        """Nothing: see forget_repository."""

    async def collect_passages(self) -> int:
        """Nothing: texts that nobody refers to are removed by an operator's run."""
        return 0


class PeopleKnowledge:
    """What `atlas index` and `atlas search` need of retrieval, under a login."""

    def __init__(self, people: RestTasks, reading: ReadingProcess) -> None:
        self.store = PeopleStore(people)
        self._people = people
        self._reading = reading

    async def vectors(self) -> None:
        """None: words only."""
        return

    async def indexer(self, project: UUID | None, count: Count) -> Indexer:
        from atlas.rag.index import Indexer  # imported here: a search does without the readers

        return Indexer(self.store, reading=self._reading, project=project, count=count, vectors=None)

    async def search(self, text: str, *, top_k: int, collapse: bool, project: UUID | None) -> tuple[Chunk, ...]:
        """Chunks that the person may read, best first."""
        rows = await self._people.call(
            "search_knowledge", p_query=text, p_top_k=top_k, p_project=_text(project), p_collapse=collapse
        )
        return tuple(chunk_of({**row, "sha256": row["sha256"].removeprefix("\\x")}) for row in rows)


@asynccontextmanager
async def people_knowledge(settings: Settings) -> AsyncIterator[PeopleKnowledge]:
    """Retrieval under the login of SUPABASE_URL. Raises UsageError where nobody is logged in."""
    reading = ReadingProcess()
    try:
        async with connect(settings) as people:
            yield PeopleKnowledge(people, reading)
    finally:
        await reading.close()


def _text(project: UUID | None) -> str | None:
    return None if project is None else str(project)
