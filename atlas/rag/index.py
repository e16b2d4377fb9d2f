"""Indexes documents: what did not change costs nothing; a changed one is embedded first and then shown in one transaction."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from uuid import UUID

from atlas.errors import LeaseLost, RefusedError, WrongState
from atlas.llm.tokens import Count
from atlas.rag.chunk import LONGEST, Piece, cut
from atlas.rag.document import Kind, Unreadable, kind_of
from atlas.rag.files import UNREADABLE, File, read_file, redact_document, redact_keys
from atlas.rag.ports import Documents
from atlas.rag.reading import ReadingProcess
from atlas.rag.vectors import TOGETHER, Vectors

_READER = f"2:{LONGEST}"
"""Part of a document's hash: another way to read or cut reads all documents anew."""


@dataclass(slots=True)
class Report:
    """What indexing did. Mutable while it runs. embedded: tokens that the embedder took."""

    files: int = 0
    unchanged: int = 0
    indexed: int = 0
    chunks: int = 0
    tokens: int = 0
    embedded: int = 0
    dropped: int = 0
    skipped: list[str] = field(default_factory=list)
    redacted: list[str] = field(default_factory=list)
    """Documents with redacted lines."""
    stale: list[str] = field(default_factory=list)
    """Documents of the folders whose files were not found; they stay until they are dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A document that was read and cut, and is not shown yet."""

    source: str
    title: str
    kind: Kind
    digest: bytes
    pieces: list[Piece]
    commit: str | None
    repository: str | None


class Indexer:
    """Reads, cuts, embeds and shows documents of one project (None: shared ones)."""

    def __init__(
        self, store: Documents, *, reading: ReadingProcess, project: UUID | None, count: Count, vectors: Vectors | None
    ) -> None:
        self._store = store
        self._reading = reading
        self._project = project
        self._count = count
        self._vectors = vectors
        self.report = Report()

    async def put(
        self, source: str, data: bytes, kind: Kind, *, known: bytes | None = None, commit: str | None = None,
        repository: str | None = None, item: tuple[UUID, UUID, int] | None = None,
    ) -> None:  # fmt: skip
        """Indexes one document. known: the hash of what is indexed. Raises Unreadable, RefusedError, what embedders raise."""
        ready = await self._read(source, data, kind, known=known, commit=commit, repository=repository)
        if ready is not None:
            await self._embed([ready])
            await self._show(ready, item)

    async def files(
        self,
        files: Sequence[File],
        *,
        under: Sequence[str] = (),
        commit: str | None = None,
        advance: Callable[[File], None] = lambda _file: None,
    ) -> Report:
        """Indexes files that changed. under: the folders that they are all of; what else is indexed of these is stale."""
        report = self.report
        report.files += len(files)
        known = await self._store.known_documents(self._project, [file.source for file in files])
        kept = []
        waiting: list[_Ready] = []
        for file in files:
            advance(file)
            data, why = await asyncio.to_thread(read_file, file.path)
            if data is None:
                report.skipped.append(f"{file.source}: {why}")
                if why.startswith(UNREADABLE):
                    kept.append(file.source)
                continue
            kept.append(file.source)
            try:
                ready = await self._read(
                    file.source, data, kind_of(file.path.name) or "text", known=known.get(file.source), commit=commit,
                    repository=file.repository,
                )  # fmt: skip
            except Unreadable as error:
                report.skipped.append(f"{file.source}: {error}")
                # what it said before it broke is better than nothing
                continue
            if ready is not None:
                waiting.append(ready)
                if self._vectors is None or sum(len(one.pieces) for one in waiting) >= TOGETHER:
                    await self._show_all(waiting)
                    waiting = []
        await self._show_all(waiting)
        report.stale = await self._store.stale_documents(self._project, under, kept) if under else []
        return report

    async def _read(
        self, source: str, data: bytes, kind: Kind, *, known: bytes | None, commit: str | None, repository: str | None
    ) -> _Ready | None:
        """The document in pieces; None: it is indexed already."""
        digest = hashlib.sha256(f"{_READER}:{kind}\n".encode() + data).digest()
        if known == digest:
            self.report.unchanged += 1
            return None
        shown, before = redact_keys(data, kind)
        document, after = redact_document(await self._reading.read(shown, kind, PurePath(source).name), kind)
        if before + after:
            self.report.redacted.append(f"{source}: {before + after} lines of a private key")
        # in a thread: cutting a large document must not hold up the leases
        pieces = await asyncio.to_thread(cut, document, self._count)
        return _Ready(
            source=source, title=document.title, kind=kind, digest=digest, pieces=pieces, commit=commit, repository=repository
        )

    async def _embed(self, ready: Sequence[_Ready]) -> None:
        if self._vectors is not None:
            self.report.embedded += await self._vectors.fill([piece for one in ready for piece in one.pieces])

    async def _show(self, ready: _Ready, item: tuple[UUID, UUID, int] | None = None) -> None:
        await self._store.put_document(
            self._project, ready.source, title=ready.title, kind=ready.kind, digest=ready.digest, pieces=ready.pieces,
            commit=ready.commit, repository=ready.repository, item=item,
        )  # fmt: skip
        self.report.indexed += 1
        self.report.chunks += len(ready.pieces)
        self.report.tokens += sum(piece.tokens for piece in ready.pieces)

    async def _show_all(self, waiting: Sequence[_Ready]) -> None:
        embedded = True
        try:
            await self._embed(waiting)
        except (LeaseLost, WrongState):
            raise
        except RefusedError:
            # one of them is refused: each by itself says which
            embedded = False
        for ready in waiting:
            try:
                if not embedded:
                    await self._embed([ready])
                await self._show(ready)
            except (LeaseLost, WrongState):
                raise
            except RefusedError as error:
                self.report.skipped.append(f"{ready.source}: Postgres does not take it ({error})")

    async def drop_stale(self) -> None:
        """Drops what is stale."""
        self.report.dropped += await self._store.drop_documents(self._project, self.report.stale)
        self.report.stale = []
