"""The embed-worker: claims jobs from rag.embed_job, indexes their documents or repositories, and builds new embedding_indexes.

A process that dies loses nothing: its lease ends, and another one goes on where it was. What was embedded is stored at once,
so that only the batch that was under way is embedded again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import cast
from uuid import UUID

from atlas.backoff import half_jitter, jittered, pause_after
from atlas.errors import AtlasError, DatabaseDown, LeaseLost, RefusedError, SettingsError, WrongState
from atlas.rag.document import KINDS, Kind, Unreadable, kind_of
from atlas.rag.files import File, find_files, secret_in
from atlas.rag.index import Indexer
from atlas.rag.ports import EmbedderDown, EmbedderRefused
from atlas.rag.repository import CloneFailed, CloneLimits, check_allowed, cloned
from atlas.rag.store import Job, Store
from atlas.rag.vectors import Vectors

log = logging.getLogger("atlas.rag.jobs")

MOST_ATTEMPTS = 20
"""Of one job, before it fails for good: an embedder that is away for hours is waited for."""


class JobRefused(AtlasError):
    """A job is given up."""


class Jobs:
    """Works on jobs until it is cancelled. indexer makes one for a project; vectors the configured index's, None for none."""

    def __init__(
        self,
        store: Store,
        *,
        owner: UUID,
        indexer: Callable[[UUID | None], Awaitable[Indexer]],
        vectors: Callable[[], Awaitable[Vectors | None]],
        allow: Sequence[str],
        limits: CloneLimits | None = None,
        lease: float = 60.0,
        pause: float = 1.0,
        counted: Callable[[str], None] = lambda _state: None,
    ) -> None:
        self._store = store
        self._owner = owner
        self._indexer = indexer
        self._vectors = vectors
        self._allow = allow
        self._limits = limits
        self._lease = lease
        self._pause = pause
        self._counted = counted
        self._progress = 0

    async def run(self) -> None:
        """For ever; what is away is waited for."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work())
            group.create_task(self._build())

    async def once(self) -> bool:
        """One job, if one is due; whether there was one."""
        job = await self._store.claim_job(self._owner, self._lease)
        if job is None:
            return False
        self._progress = 0
        keeping = asyncio.create_task(self._keep(job))
        work = asyncio.create_task(self._do(job))
        try:
            await asyncio.wait({keeping, work}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                log.warning("job %s: its lease is lost, another process has it", job.id)
                return True
            await work
        finally:
            for task in (keeping, work):
                task.cancel()
            await asyncio.wait({keeping, work})
        return True

    async def _work(self) -> None:
        while True:
            try:
                if await self.once():
                    continue
            except AtlasError as error:
                log.warning("jobs: %s", error)
            await asyncio.sleep(jittered(self._pause))

    async def _build(self) -> None:
        """Fills an embedding index that is being built, beside the jobs."""
        while True:
            try:
                vectors = await self._vectors()
                if vectors is not None and (vectors.index.state == "building" or await vectors.has_gaps()):
                    built = await vectors.build(self._owner)
                    if built:
                        log.info("%s %s is complete, and serves", vectors.index.embedder, vectors.index.model)
            except AtlasError as error:
                log.warning("vectors: %s", error)
            except Exception:  # the jobs go on without it
                log.exception("vectors cannot be built")
            await asyncio.sleep(10 * self._pause)

    async def _keep(self, job: Job) -> None:
        """Extends the lease; ends when it is lost."""
        while True:
            await asyncio.sleep(self._lease / 4)
            try:
                done = self._progress if job.repository is not None else None
                await self._store.extend_job(job.id, self._owner, self._lease, done=done)
            except LeaseLost:
                return
            except AtlasError as error:
                log.warning("job %s: %s", job.id, error)

    async def _do(self, job: Job) -> None:
        try:
            if job.attempts > MOST_ATTEMPTS:
                # a document that ends every process that reads it
                raise JobRefused(f"it was begun {job.attempts - 1} times, and never ended")
            if job.repository is None:
                skipped = await self._documents(job)
            else:
                skipped = await self._repository(job, job.repository)
        except LeaseLost:
            log.warning("job %s: its lease is lost, another process has it", job.id)
        except (EmbedderDown, DatabaseDown, CloneFailed) as error:
            await self._later(job, error)
        except (EmbedderRefused, SettingsError, WrongState) as error:
            # a key or a dimension that is wrong is set right by somebody: the job waits for it
            await self._later(job, error)
        except AtlasError as error:
            await self._end(job, "failed", str(error))
        except Exception as error:  # a defect that one job meets must not end the others
            log.exception("job %s met a defect", job.id)
            await self._end(job, "failed", f"a defect: {error.__class__.__name__} (the log of this process has more)")
        else:
            await self._end(job, "completed", None, skipped)

    async def _later(self, job: Job, error: AtlasError) -> None:
        most = 3 if isinstance(error, CloneFailed) else MOST_ATTEMPTS
        if job.attempts >= most:
            await self._end(job, "failed", str(error))
            return
        wait = pause_after(half_jitter(2, 300), job.attempts)
        log.warning("job %s goes on in %.0f s: %s", job.id, wait, error)
        with suppress(LeaseLost):
            await self._store.end_job(job.id, self._owner, "queued", error=error.line[:1000], wait=wait)
        self._counted("postponed")

    async def _end(self, job: Job, state: str, error: str | None, skipped: Sequence[str] = ()) -> None:
        log.log(logging.WARNING if error else logging.INFO, "job %s %s%s", job.id, state, f": {error}" if error else "")
        with suppress(LeaseLost):
            await self._store.end_job(job.id, self._owner, state, error=error, errors=skipped)
        self._counted(state)

    async def _documents(self, job: Job) -> list[str]:
        """What is skipped is said with its item, in one transaction: nothing is left to say."""
        indexer = await self._indexer(job.project)
        while (item := await self._store.next_item(job.id)) is not None:
            source, seq, text = item["source"], item["seq"], item["text"].encode()
            kind = cast("Kind", item["kind"]) if item["kind"] in KINDS else kind_of(source) or "text"
            why = secret_in(text, kind)
            if why is None:
                known = await self._store.known_documents(job.project, [source])
                unchanged = indexer.report.unchanged
                try:
                    await indexer.put(source, text, kind, known=known.get(source), item=(job.id, self._owner, seq))
                except Unreadable as error:
                    why = str(error)
                except (LeaseLost, WrongState):
                    raise
                except RefusedError as error:
                    why = f"Postgres does not take it ({error})"
                except EmbedderRefused as error:
                    if job.attempts < 3:
                        raise
                    # the others were taken: it is this one
                    why = f"the embedder does not take it ({error})"
                else:
                    if indexer.report.redacted:
                        log.warning("job %s: redacted %s", job.id, indexer.report.redacted.pop())
                    if indexer.report.unchanged == unchanged:
                        continue
            await self._store.finish_item(job.id, self._owner, seq, None if why is None else f"{source}: {why}")
        return []

    async def _repository(self, job: Job, url: str) -> list[str]:
        """Answers what was skipped, and why."""

        def advance(_file: File) -> None:
            self._progress += 1

        check_allowed(url, self._allow)
        async with cloned(url, job.ref, limits=self._limits) as checkout:
            found = await asyncio.to_thread(find_files, [checkout.folder], named=checkout.name)
            total = len(found.files)
            await self._store.extend_job(job.id, self._owner, self._lease, total=total, done=0)
            indexer = await self._indexer(job.project)
            report = await indexer.files(found.files, under=found.under, commit=checkout.commit, advance=advance)
            # a job makes the index what the repository is at that commit
            await indexer.drop_stale()
        await self._store.extend_job(job.id, self._owner, self._lease, total=total, done=total)
        log.info("%s at %s: %d files, %d indexed, %d unchanged, %d dropped", checkout.name, checkout.commit[:12],
                 report.files, report.indexed, report.unchanged, report.dropped)  # fmt: skip
        redacted = [f"redacted {line}" for line in report.redacted]
        return report.skipped + found.skipped + redacted
