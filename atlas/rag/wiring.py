"""Puts retrieval together as the settings ask for it: for a worker, for the service, for a command."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from atlas.database.pool import Pool
from atlas.errors import AtlasError, SettingsError
from atlas.llm.tokens import Count
from atlas.rag.ports import Embedder, EmbedderDown, EmbedderRefused, Reranker
from atlas.rag.reading import ReadingProcess
from atlas.rag.retrieval import Cache, CachedRetriever, InProcess, PassageSource, RagService
from atlas.rag.search import Searcher
from atlas.rag.store import EmbeddingIndex, Store
from atlas.rag.vectors import Vectors
from atlas.rotation import CurrentSettings
from atlas.settings import Settings
from atlas.tls import client_context, show_again

if TYPE_CHECKING:
    from atlas.rag.index import Indexer

log = logging.getLogger("atlas.rag")

DEFAULT_MODELS = {"openai": "text-embedding-3-small", "supabase": "gte-small"}
USD_PER_MILLION = {"text-embedding-3-small": 0.02, "text-embedding-3-large": 0.13, "text-embedding-ada-002": 0.10}
"""OpenAI's list prices, as of 2026-11. RAG_EMBED_USD_PER_MILLION overrides them."""


class Embedders:
    """Makes embedders from the settings, each once. attempts: calls while a server is away, 1 where somebody waits."""

    def __init__(self, settings: Settings, *, attempts: int) -> None:
        self._settings = settings
        self._attempts = attempts
        self._made: dict[tuple[str, str, int | None], Embedder] = {}
        self._clients: list[Any] = []
        self._one_at_a_time = asyncio.Lock()

    async def configured(self) -> Embedder | None:
        """The embedder that the settings name; None: full text alone. Raises SettingsError, and what embedders raise."""
        name = self._settings.rag_embedder
        if name == "none":
            return None
        return await self._make(name, self._settings.rag_embed_model, self._settings.rag_embed_dimensions)

    async def of(self, index: EmbeddingIndex) -> Embedder | None:
        """The embedder of an embedding index; None where the settings are for another one."""
        if index.embedder != self._settings.rag_embedder:
            return None
        try:
            embedder = await self._make(index.embedder, index.model, index.dimensions)
        except (SettingsError, EmbedderDown, EmbedderRefused) as error:
            log.warning("%s %s cannot be used: %s", index.embedder, index.model, error)
            return None
        return embedder if index.fits(embedder) else None

    def price(self, embedder: Embedder) -> float | None:
        """US dollars per million tokens."""
        named = self._settings.rag_embed_usd_per_million
        if named is not None:
            return named
        if embedder.name == "openai" and self._settings.rag_embed_url is None:
            return USD_PER_MILLION.get(embedder.model)
        return 0.0 if embedder.name in ("local", "supabase") else None

    async def close(self) -> None:
        """Closes the connections."""
        for client in self._clients:
            await client.close()

    async def _make(self, name: str, model: str | None, dimensions: int | None) -> Embedder:
        model = model or DEFAULT_MODELS.get(name) or _local_default()
        async with self._one_at_a_time:
            key = (name, model, dimensions)
            if key not in self._made:
                made = await self._new(name, model, dimensions)
                # asked for by its size or without it: the same one, and a local model is loaded once
                self._made[key] = self._made[(name, model, made.dimensions)] = made
            return self._made[key]

    async def _new(self, name: str, model: str, dimensions: int | None) -> Embedder:
        if name == "local":
            from atlas.rag.models.local import LocalEmbedder

            return await asyncio.to_thread(LocalEmbedder, model)
        # imported here: it takes most of a second
        from openai import AsyncOpenAI, Timeout

        from atlas.rag.models.openai_embedder import DIMENSIONS, OpenAIEmbedder, measured

        url, secret = self._server(name)
        client = AsyncOpenAI(api_key=secret, base_url=url, max_retries=0, timeout=Timeout(60, connect=10))
        self._clients.append(client)
        usual = DIMENSIONS.get(model)
        if dimensions is None and usual is None:
            dimensions = await measured(client, name, model)
            usual = dimensions
        size = dimensions or usual
        assert size is not None
        asked = name == "openai" and usual is not None and size != usual
        return OpenAIEmbedder(client, name=name, model=model, dimensions=size, dimensions_asked=asked, attempts=self._attempts)

    def _server(self, name: str) -> tuple[str, str]:
        settings = self._settings
        if name == "supabase":
            if settings.supabase_url is None or settings.worker_key is None:
                raise SettingsError(
                    ["RAG_EMBEDDER=supabase needs SUPABASE_URL and SUPABASE_SECRET_KEY: set them, or choose another"]
                )
            return f"{settings.supabase_url}/functions/v1/embed", settings.worker_key
        key = settings.rag_embed_api_key or (settings.openai_api_key if settings.rag_embed_url is None else None)
        if key is None and settings.rag_embed_url is None:
            raise SettingsError(["RAG_EMBEDDER=openai needs OPENAI_API_KEY or RAG_EMBED_API_KEY: set one, or choose another"])
        return settings.rag_embed_url or settings.openai_base_url, key.get_secret_value() if key is not None else "none"


def _local_default() -> str:
    from atlas.rag.models.local import DEFAULT_MODEL

    return DEFAULT_MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """All of retrieval over one database."""

    store: Store
    searcher: Searcher
    embedders: Embedders
    reranker: Reranker | None
    settings: Settings
    reading: ReadingProcess

    async def vectors(self, *, revive: bool = True) -> Vectors | None:
        """What fills the configured embedder's index; None for full text alone. revive: also if another one took over."""
        embedder = await self.embedders.configured()
        if embedder is None:
            return None
        index = await self.store.open_index(embedder, self.embedders.price(embedder), revive=revive)
        return Vectors(self.store, embedder, index)

    async def vectors_if_any(self) -> None:
        """Opens the index at the start, so that wrong settings end the process and not its first job. An embedder that is away
        is waited for."""
        try:
            await self.vectors()
        except EmbedderDown as error:
            log.warning("the embedder is away: %s", error)

    async def indexer(self, project: UUID | None, count: Count, *, revive: bool = True) -> Indexer:
        """An indexer for documents of a project (None: shared ones)."""
        from atlas.rag.index import Indexer  # imported here: a search does without the readers

        vectors = await self.vectors(revive=revive)
        return Indexer(self.store, reading=self.reading, project=project, count=count, vectors=vectors)

    def mode(self) -> str:
        """How this searches, in one line."""
        if self.settings.rag_embedder == "none":
            return "full text alone (RAG_EMBEDDER is none)"
        model = self.settings.rag_embed_model or DEFAULT_MODELS.get(self.settings.rag_embedder, "its default model")
        return f"full text and vectors of {self.settings.rag_embedder} {model}" + (", reranked" if self.reranker else "")


@asynccontextmanager
async def retriever_of(current: CurrentSettings, pool: Pool) -> AsyncIterator[CachedRetriever]:
    """Retrieval for a worker: through the RAG service where RAG_URL is set, else the same search in process."""
    settings = current.settings
    top_k, collapse = settings.rag_top_k, settings.rag_collapse_by_file
    async with AsyncExitStack() as stack:
        source: PassageSource
        if settings.rag_url is not None:
            context = client_context(settings)
            source = service = RagService(
                await stack.enter_async_context(httpx.AsyncClient(verify=context)),
                settings.rag_url,
                key=settings.rag_key,
                top_k=top_k,
                collapse=collapse,
                threshold=None,
            )

            def renewed(_changed: Collection[str]) -> None:
                service.key = current.settings.rag_key
                show_again(context, settings)

            current.when_renewed(renewed)
            how = f"the service at {settings.rag_url}"
        else:
            known = await stack.enter_async_context(knowledge(settings, pool))
            source = InProcess(known.searcher, top_k=top_k, collapse=collapse)
            how = known.mode()
        log.info("retrieval: %s", how)
        shape = {"top_k": top_k, "collapse": collapse, "threshold": settings.rag_relevancy_threshold, "how": how}
        yield CachedRetriever(source, Cache(pool, settings=json.dumps(shape, sort_keys=True)), top_k=top_k, how=how)


@asynccontextmanager
async def knowledge(
    settings: Settings,
    pool: Pool,
    *,
    attempts: int = 1,
    patience: float = 2.0,
) -> AsyncIterator[Knowledge]:
    """Retrieval as the settings ask for it. attempts: calls to an embedder that is away; patience: seconds for a question's."""
    store = Store(pool)
    embedders = Embedders(settings, attempts=attempts)
    async with httpx.AsyncClient() as http:
        reranker = _reranker(settings, http)
        searcher = Searcher(
            store, embedders=embedders.of, reranker=reranker, threshold=settings.rag_relevancy_threshold, patience=patience
        )
        reading = ReadingProcess()
        try:
            yield Knowledge(
                store=store, searcher=searcher, embedders=embedders, reranker=reranker, settings=settings, reading=reading
            )
        finally:
            await reading.close()
            with suppress(AtlasError):
                await searcher.account()
            await embedders.close()


def _reranker(settings: Settings, client: httpx.AsyncClient) -> Reranker | None:
    if settings.rag_rerank_url is not None:
        from atlas.rag.models.http_reranker import HttpReranker

        key = settings.rag_rerank_api_key
        return HttpReranker(
            client, settings.rag_rerank_url, model=settings.rag_rerank_model, key=key.get_secret_value() if key else None
        )
    if settings.rag_rerank_model is not None:
        from atlas.rag.models.local import LocalReranker

        return LocalReranker(settings.rag_rerank_model)
    return None
