"""The processes of the RAG service: `atlas rag serve` (HTTP and jobs) and `atlas rag worker` (jobs alone)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import httpx
import uvicorn
from fastapi import FastAPI

from atlas.database.pool import Pool
from atlas.errors import SettingsError
from atlas.llm.tokens import Count, Vocabularies
from atlas.metrics.rag import RagMetrics
from atlas.rag.index import Indexer
from atlas.rag.jobs import Jobs
from atlas.rag.service.api import create_app
from atlas.rag.service.gateway import LOOPBACK, Buckets, Gateway
from atlas.rag.vectors import Vectors
from atlas.rag.wiring import Knowledge, knowledge
from atlas.rotation import CurrentSettings, reads_again
from atlas.serving import PromptHeaders, SignalledServer, listen, pages_of
from atlas.settings import Settings
from atlas.supabase.keys import JWKS_PATH, Verifier
from atlas.tls import load_again, server_options

log = logging.getLogger("atlas.rag")

EMBED_ATTEMPTS = 4
"""Calls to an embedder that is away, before the job waits."""


def jobs_of(known: Knowledge, settings: Settings, metrics: RagMetrics, count: Count) -> Jobs:
    """The embed-worker over its parts."""

    async def indexer(project: UUID | None) -> Indexer:
        return await known.indexer(project, count, revive=False)

    async def vectors() -> Vectors | None:
        return await known.vectors(revive=False)

    return Jobs(
        known.store, owner=uuid4(), indexer=indexer, vectors=vectors, allow=settings.rag_git_allow,
        lease=float(settings.atlas_lease_seconds), counted=lambda state: metrics.jobs.labels(state=state).inc(),
    )  # fmt: skip


def gateway_of(current: CurrentSettings, client: httpx.AsyncClient) -> Gateway:
    """Who may call, as the settings say. Raises SettingsError for a service that is open to other machines."""
    settings = current.settings
    key = settings.rag_key
    if key is not None and len(key) < 16:
        raise SettingsError(["RAG_API_KEY is shorter than 16 characters: make one with `openssl rand -hex 32`"])
    secret = settings.supabase_jwt_secret
    verifier = None
    if secret is not None or settings.supabase_url is not None:

        async def fetch() -> dict[str, object]:
            found = await client.get(f"{settings.supabase_url}{JWKS_PATH}", timeout=5)
            found.raise_for_status()
            return dict(found.json())

        verifier = Verifier(
            secret=secret.get_secret_value() if secret is not None else None,
            fetch=fetch if settings.supabase_url is not None else None,
        )
    if key is None and verifier is None and settings.rag_http_host not in LOOPBACK:
        where = f"RAG_HTTP_HOST={settings.rag_http_host}"
        raise SettingsError([f"{where} would let anybody in: set RAG_API_KEY (or RAG_API_KEY_FILE), or listen on 127.0.0.1"])
    gateway = Gateway(key=key, verifier=verifier, buckets=Buckets(settings.rag_rate_limit))

    def renewed(_changed: Collection[str]) -> None:
        gateway.key = current.settings.rag_key or gateway.key

    current.when_renewed(renewed)
    return gateway


@asynccontextmanager
async def build(settings: Settings, url: str) -> AsyncIterator[FastAPI]:
    """The app over its connections; its lifespan runs the jobs."""
    metrics = RagMetrics()
    current = CurrentSettings(settings)
    count = Vocabularies().counter("o200k_base")
    async with (
        Pool.connect(url, patience=5.0, password=current.password_of(url)) as pool,
        httpx.AsyncClient() as client,
        # embedder and reranker together end before a worker has waited for its two seconds
        knowledge(settings, pool, patience=0.75) as known,
        knowledge(settings, pool, attempts=EMBED_ATTEMPTS) as patient,
    ):
        await known.vectors_if_any()
        await known.store.advance_epochs()
        metrics.process.watch_pool(pool)
        log.info("retrieval: %s", known.mode())
        jobs = jobs_of(patient, settings, metrics, count)

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            working = app.state.jobs = asyncio.create_task(jobs.run())
            watching = asyncio.create_task(metrics.process.watch_loop())
            try:
                with reads_again(current):
                    yield
            finally:
                working.cancel()
                watching.cancel()
                await asyncio.wait({working, watching})

        app = create_app(known, gateway=gateway_of(current, client), count=count, metrics=metrics, lifespan=lifespan)
        app.state.current = current
        yield app


class _AnnouncingServer(SignalledServer):
    """A server that says where it listens."""

    def __init__(self, config: uvicorn.Config, started: Callable[[str], None]) -> None:
        super().__init__(config)
        self._said = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._said(
                f"http{'s' if self.config.is_ssl else ''}://{self.config.host}:{self.servers[0].sockets[0].getsockname()[1]}"
            )


async def serve(settings: Settings, url: str, started: Callable[[str], None] = lambda _url: None) -> None:
    """Serves until a signal. Raises SettingsError, DatabaseDown, StackError."""
    async with build(settings, url) as app:
        with listen(settings.rag_http_host, settings.rag_http_port, "RAG_HTTP_PORT") as door:
            config = uvicorn.Config(
                app, host=settings.rag_http_host, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=5,
                log_level=logging.WARNING, timeout_keep_alive=30, http=PromptHeaders,
                **server_options(settings),
            )  # fmt: skip
            app.state.current.when_renewed(lambda _changed: load_again(config))
            await _AnnouncingServer(config, started).serve(sockets=[door])


async def work(settings: Settings, url: str) -> None:
    """Works on jobs until it is cancelled, with /livez and /metrics. Raises SettingsError, DatabaseDown."""
    metrics = RagMetrics()
    current = CurrentSettings(settings)
    with listen(settings.rag_http_host, settings.rag_http_port, "RAG_HTTP_PORT", or_any=True) as door:
        async with (
            Pool.connect(url, patience=30.0, password=current.password_of(url)) as pool,
            knowledge(settings, pool, attempts=EMBED_ATTEMPTS) as known,
        ):
            metrics.process.watch_pool(pool)
            await known.vectors_if_any()
            log.info("embed-worker, with /metrics on port %d: %s", door.getsockname()[1], known.mode())
            job = asyncio.create_task(jobs_of(known, settings, metrics, Vocabularies().counter("o200k_base")).run())
            async with pages_of(job, metrics.process, door, current):
                try:
                    await job
                finally:
                    job.cancel()
