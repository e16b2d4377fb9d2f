"""The RAG service over HTTP: search, documents, jobs, sources. `/openapi.json` describes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import Field
from starlette.exceptions import HTTPException

from atlas import __version__
from atlas.errors import AtlasError, DatabaseDown, NotFoundError, RefusedError, SettingsError
from atlas.llm.tokens import Count
from atlas.metrics.process import CONTENT_TYPE
from atlas.metrics.rag import RagMetrics
from atlas.rag import search
from atlas.rag.document import Unreadable, kind_of
from atlas.rag.files import secret_in
from atlas.rag.ports import EmbedderDown, EmbedderRefused
from atlas.rag.service.bodies import (
    MOST_DOCUMENTS,
    Answer,
    FoundChunk,
    Item,
    JobState,
    NewDocument,
    Question,
    Refusal,
    SourceRow,
    StoredText,
    storable,
)
from atlas.rag.service.gateway import BodyLimit, Caller, CallLimit, CallRefused, Gateway
from atlas.rag.store import Store
from atlas.rag.vectors import passage_hash
from atlas.rag.wiring import Knowledge
from atlas.task import Chunk, JsonObject

MOST_BYTES = 8 * 1024 * 1024
MOST_CALLS = 256
"""At once, in one process."""


async def enter(request: Request) -> Caller:
    """Who calls. Raises CallRefused."""
    gateway: Gateway = request.app.state.gateway
    return await gateway.enter(request.headers.get("authorization"), request.headers.get("host", ""))


Known = Annotated[Caller, Depends(enter)]


def create_app(
    knowledge: Knowledge,
    *,
    gateway: Gateway,
    count: Count,
    metrics: RagMetrics,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> FastAPI:
    """The service over its parts."""
    described = {"model": Refusal, "description": "What is wrong, and what to do about it."}
    refused: dict[int | str, dict[str, Any]] = {"default": described, 422: described}
    app = FastAPI(
        title="Atlas RAG", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan, responses=refused
    )  # fmt: skip
    app.add_middleware(BodyLimit, most=MOST_BYTES)
    app.add_middleware(CallLimit, most=MOST_CALLS, free=frozenset({"/healthz", "/metrics"}))
    store = knowledge.store

    app.state.gateway = gateway

    @app.post("/v1/query_chat")
    async def query_chat(question: Question, caller: Known) -> Answer:
        """Ranked chunks for a question: by words and, where an embedder is configured, by meaning."""
        if question.task_id is not None:
            caller.must_be_service("task_id")
        with metrics.searches.time():
            found = await knowledge.searcher.search(
                search.Query(
                    text=question.query, top_k=question.top_k, collapse=question.collapse_by_file,
                    threshold=question.relevancy_threshold, task=question.task_id, claims=caller.claims,
                    project=question.project,
                    prefix=question.filter.source, kind=question.filter.kind,
                )
            )  # fmt: skip
        for _ in found.warnings:
            metrics.warnings.inc()
        return Answer(chunks=[_shown(chunk) for chunk in found.chunks], warnings=list(found.warnings))

    @app.post("/v1/embed_batch", status_code=202)
    async def embed_batch(
        items: Annotated[list[StoredText | Item], Field(min_length=1, max_length=MOST_DOCUMENTS)], caller: Known,
        project: UUID | None = None,
    ) -> dict[str, UUID]:  # fmt: skip
        """Texts, or documents {source, text, kind}, to index in the background. A bare text's source is its hash."""
        caller.must_be_service("embed_batch")
        await _project(store, project)
        return {"job_id": await store.add_job([_item(item) for item in items], project)}

    @app.get("/v1/jobs/{job_id}")
    async def job(job_id: UUID, caller: Known) -> JobState:
        """How far a job is."""
        rows = await store.rows_for(
            caller.claims, "select id, state, done, total, errors, last_error from rag.embed_job where id = $1", job_id
        )
        if not rows:
            raise CallRefused(404, "not_found", f"there is no job {job_id}", "embed_batch answers with the ids of jobs")
        return JobState(job_id=rows[0].pop("id"), **rows[0])

    @app.post("/v1/documents")
    async def put_document(document: NewDocument, caller: Known) -> JsonObject:
        """Indexes one document now; its old chunks serve until the new ones do."""
        caller.must_be_service("documents")
        await _project(store, document.project)
        data = document.data()
        kind = document.kind or kind_of(document.source) or ("pdf" if document.content_base64 else "text")
        if (why := secret_in(data, kind)) is not None:
            raise CallRefused(422, "secret", f"{document.source}: {why}", "remove it from the document")
        known = await store.known_documents(document.project, [document.source])
        indexer = await knowledge.indexer(document.project, count)
        try:
            await indexer.put(document.source, data, kind, known=known.get(document.source))
        except Unreadable as error:
            raise CallRefused(422, "unreadable", f"{document.source}: {error}", "send it as what it is") from None
        report = indexer.report
        return {"source": document.source, "changed": report.indexed == 1, "chunks": report.chunks, "tokens": report.tokens,
                "redacted": report.redacted}  # fmt: skip

    @app.delete("/v1/documents")
    async def drop_document(
        source: Annotated[str, Query(min_length=1, max_length=2000)], caller: Known, project: UUID | None = None
    ) -> dict[str, int]:
        """Drops a document, or all of a folder."""
        caller.must_be_service("documents")
        dropped = await store.forget_repository(project, _checked_text(source))
        if dropped == 0:
            raise CallRefused(404, "not_found", f"no document {source!r} is indexed", "GET /v1/sources lists them")
        return {"dropped": dropped}

    @app.get("/v1/sources")
    async def sources(
        caller: Known,
        prefix: Annotated[str, Query(max_length=2000)] = "",
        after: Annotated[str, Query(max_length=2000, description="the last source of the page before")] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[SourceRow]:
        """What is indexed, by source."""
        rows = await store.rows_for(
            caller.claims, "select source, title, kind, chunks, commit, project_id as project, indexed_at from rag.document "
            # a source of several projects is not torn apart by a page's end
            "where source ^@ $1 and source > $2 order by source fetch first $3 rows with ties",
            _checked_text(prefix), _checked_text(after), limit,
        )  # fmt: skip
        return [SourceRow(**row) for row in rows]

    @app.get("/healthz", include_in_schema=True)
    async def healthz() -> JSONResponse:
        """Healthy: Postgres answers. Says how it searches."""
        body: JsonObject = {"version": __version__, "retrieval": knowledge.mode()}
        try:
            async with asyncio.timeout(2):
                embedding_indexes = await store.embedding_indexes()
        except (AtlasError, TimeoutError):
            return JSONResponse({**body, "status": "unhealthy", "database": False}, status_code=503)
        jobs: asyncio.Task[None] | None = getattr(app.state, "jobs", None)
        if jobs is not None and jobs.done():
            return JSONResponse({**body, "status": "unhealthy", "database": True, "jobs": "ended"}, status_code=503)
        shown = [
            {"embedder": s.embedder, "model": s.model, "dimensions": s.dimensions, "state": s.state} for s in embedding_indexes
        ]
        return JSONResponse({**body, "status": "ok", "database": True, "embedding_indexes": shown})

    @app.get("/livez", include_in_schema=False)
    async def livez() -> PlainTextResponse:
        """Alive: its jobs have not ended. Whether Postgres answers is /healthz's to say."""
        jobs: asyncio.Task[None] | None = getattr(app.state, "jobs", None)
        dead = jobs is not None and jobs.done()
        return PlainTextResponse("dead" if dead else "ok", status_code=503 if dead else 200)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics_page() -> PlainTextResponse:
        """For Prometheus."""
        return PlainTextResponse(metrics.process.text(), media_type=CONTENT_TYPE)

    @app.middleware("http")
    async def counted(request: Request, call: Callable[[Request], Awaitable[Any]]) -> Any:
        answer = await call(request)
        route = request.scope.get("route")
        metrics.calls.labels(route=getattr(route, "path", "none"), status=str(answer.status_code)).inc()
        return answer

    _handlers(app)
    return app


def _handlers(app: FastAPI) -> None:
    """Every error in one shape: {"error": {"code", "message", "hint"}}."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.method == "POST" and kind != "application/json" and not kind.endswith("+json"):
            # a page in a browser may send other kinds here without asking; this one it may not
            return _error(
                415, "content_type", f"a body of {kind or 'no type'} is not read", "send content-type: application/json"
            )
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'][1:] if part not in ('str', 'Item')) or 'body'}: "
            f"{str(item['msg']).removeprefix('Value error, ')}"
            for item in error.errors()[:5]
        )
        return _error(422, "invalid", problems[:1000], "see /openapi.json")

    @app.exception_handler(HTTPException)
    async def plain(_request: Request, error: HTTPException) -> JSONResponse:
        said = "the body is not JSON in UTF-8" if error.status_code == 400 else str(error.detail)
        return _error(error.status_code, "http", said, "see /openapi.json")

    @app.exception_handler(AtlasError)
    async def ours(_request: Request, error: AtlasError) -> JSONResponse:
        match error:
            case CallRefused():
                headers = {"retry-after": str(max(1, round(error.wait)))} if error.wait is not None else {}
                if error.status == 401:
                    headers["www-authenticate"] = "Bearer"
                return _error(error.status, error.code, str(error), error.hint, headers)
            case DatabaseDown() | EmbedderDown():
                return _error(503, "away", str(error), error.hint or "try again", {"retry-after": "2"})
            case EmbedderRefused() | SettingsError():
                return _error(500, "embedder", str(error), error.hint)
            case NotFoundError():
                return _error(404, "not_found", str(error), error.hint)
            case RefusedError():
                return _error(422, "refused", str(error), error.hint)
        return _error(500, "internal", str(error), error.hint)


def _error(status: int, code: str, message: str, hint: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message, "hint": hint}}, status_code=status, headers=headers)


def _checked_text(text: str) -> str:
    try:
        return storable(text)
    except ValueError as error:
        raise CallRefused(422, "invalid", f"the source {error}") from None


async def _project(store: Store, project: UUID | None) -> None:
    if project is not None and await store.project(str(project)) is None:
        raise CallRefused(404, "not_found", f"there is no project {project}", "select id, name from atlas.project")


def _item(item: str | Item) -> JsonObject:
    if isinstance(item, Item):
        return {"source": item.source, "text": item.text, "kind": item.kind}
    return {"source": f"text:{passage_hash('', item).hex()[:32]}", "text": item, "kind": "text"}


def _shown(chunk: Chunk) -> FoundChunk:
    return FoundChunk(**{**asdict(chunk), "source": chunk.place, "path": chunk.source})
