"""Wires a worker together and runs all of it in one TaskGroup."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import httpx

from atlas import __version__
from atlas.adapters.offline import OfflineGenerator
from atlas.adapters.outbox import Outbox
from atlas.adapters.postgres import Bus
from atlas.adapters.retrieval import Cache, CachedRetriever, InProcess, RagService, Source
from atlas.adapters.wake import ListenWakeUps, SweepWakeUps
from atlas.architect import THREAD_DEPTH, Architect
from atlas.batch import Batcher
from atlas.control import Server
from atlas.errors import AtlasError, DatabaseDown, RefusedError, SettingsError
from atlas.generation import Generation, Money
from atlas.hints import Hints
from atlas.keys import role_of
from atlas.limits import Limits
from atlas.local.address import database_url
from atlas.metrics import Metrics
from atlas.mirror import Mirror
from atlas.model_errors import ModelError, ModelMissing
from atlas.models import Chain, Model, resolve
from atlas.outbox import Destination, Target
from atlas.ports import Generator, WakeUps
from atlas.progress import ProgressWriter
from atlas.rag.wiring import knowledge
from atlas.settings import Settings
from atlas.task import AttemptId, Exchange, JsonObject, Usage
from atlas.tokens import Vocabularies
from atlas.webhooks import Allowed, read_secrets
from atlas.worker import Worker

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from atlas.adapters.realtime import RealtimeWakeUps

log = logging.getLogger("atlas.service")


class ModelBook:
    """The chain as it stands, read again every few seconds; says once what is passed over."""

    def __init__(self, bus: Bus, chain: Sequence[str], metrics: Metrics, *, keep: float = 5.0) -> None:
        self._bus = bus
        self._names = chain
        self._metrics = metrics
        self._keep = keep
        self._read_at = float("-inf")
        self._found: tuple[Chain, dict[str, Model]] | None = None
        self._said: set[str] = set()
        self._failed: set[str] = set()
        self._reading = asyncio.Lock()

    async def current(self) -> tuple[Chain, dict[str, Model]]:
        """The chain that can be called now, and all models by name."""
        async with self._reading:
            return await self._current()

    async def _current(self) -> tuple[Chain, dict[str, Model]]:
        if self._found is None or time.monotonic() - self._read_at > self._keep:
            known = await self._bus.list_models()
            chain = resolve(self._names, known, datetime.now(UTC).date())
            self._read_at, self._found = time.monotonic(), (chain, known)
            for passed in chain.passed:
                self._metrics.passed_over.labels(model=passed.name).set(1)
                if passed.name not in self._said:
                    self._said.add(passed.name)
                    log.warning("%s", passed.line)
        return self._found

    async def learned(self, model: Model, error: ModelError | None) -> None:
        """Shares a success (where failures went before it) or a failure with the fleet."""
        if error is None and model.name not in self._failed and not model.open_until:
            return
        if error is not None and not error.outage:
            return
        if error is None:
            self._failed.discard(model.name)
        else:
            self._failed.add(model.name)
        missing = isinstance(error, ModelMissing)
        await self._bus.record_model(model.name, ok=error is None, error=str(error)[:500] if error else None, missing=missing)
        if missing:
            self._read_at = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A worker with all that runs beside it."""

    settings: Settings
    bus: Bus
    worker: Worker
    metrics: Metrics
    book: ModelBook
    progress: ProgressWriter
    wake_ups: Sequence[WakeUps]
    started: float
    vocabularies: Vocabularies
    mirror: Mirror
    retrieval: str
    """How it searches what the team knows."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Works until stopping is set, then drains. Raises what kills the worker."""
        await self.bus.register_worker(
            self.worker.worker_id, name=f"{socket.gethostname()}:{os.getpid()}", version=__version__,
            concurrency=self.settings.atlas_concurrency,
        )  # fmt: skip
        limits = {
            "per_run": self.settings.token_budget_per_run,
            "daily": self.settings.daily_token_budget,
            "usd_daily": self.settings.daily_usd_budget,
        }
        await self.bus.set_budget("global", limits, set_by="settings")
        _, known = await self.book.current()
        for vocabulary in {known[name].vocabulary for name in self.settings.chain if name in known} - {None}:
            await asyncio.to_thread(self.vocabularies.counter(vocabulary), "")
        async with asyncio.TaskGroup() as tasks, asyncio.TaskGroup() as helpers:
            jobs = [
                helpers.create_task(self.progress.run(), name="progress"),
                helpers.create_task(self.worker.leases.keep(), name="leases"),
                helpers.create_task(self.worker.leases.watch(), name="lease watch"),
                helpers.create_task(self._every(self._release_expired, self.settings.atlas_lease_seconds / 4), name="release"),
                helpers.create_task(self._every(self._observe, 5.0), name="metrics"),
                helpers.create_task(self._every(self._seal, 60.0), name="seal"),
            ]
            claiming = [
                helpers.create_task(self.worker.run(tasks), name="claims"),
                *(helpers.create_task(source.run(self.worker.wake), name=source.name) for source in self.wake_ups),
            ]
            if self.settings.atlas_mirror:
                jobs.append(helpers.create_task(self.mirror.run(), name="mirror"))
            log.info("worker %s: %d slots, models %s", self.worker.worker_id, self.settings.atlas_concurrency,
                     " > ".join(self.settings.chain))  # fmt: skip
            await stopping.wait()
            for job in claiming:
                job.cancel()
            self.bus.hurry()
            await self.worker.drain()
            for job in jobs:
                job.cancel()

    async def _every(self, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            try:
                await work()
            except (DatabaseDown, RefusedError) as error:
                self.metrics.housekeeping_errors.inc()
                log.error("%s: %s", work.__name__.strip("_"), error)
            await asyncio.sleep(seconds * random.uniform(0.75, 1.25))  # noqa: S311  workers must not march in step

    async def _release_expired(self) -> None:
        released = await self.bus.release_expired()
        if released:
            self.metrics.released.inc(released)
            log.warning("%d tasks of lost workers are back in the queue", released)
            self.worker.wake("release")

    async def _observe(self) -> None:
        found = await self.bus.queue_metrics()
        self.metrics.observe_queue(found)
        self.worker.hints.others = max(0, found["workers"] - 1)

    async def _seal(self) -> None:
        key = self.settings.atlas_audit_key
        if key is not None:
            await self.bus.seal_audit(key.get_secret_value().encode())

    async def ready(self) -> bool:
        """Whether Postgres answers within two seconds."""
        try:
            async with asyncio.timeout(2):
                await self.bus.ping()
        except (AtlasError, TimeoutError):
            return False
        return True


@asynccontextmanager
async def build(
    settings: Settings, *, generator: Generator | None = None, worker_id: UUID | None = None
) -> AsyncIterator[Service]:
    """A service over its connections. generator replaces the one that the settings ask for (benchmarks, tests)."""
    url = database_url(settings)
    started = time.monotonic()
    metrics = Metrics()
    vocabularies = Vocabularies()
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(Bus.connect(url))
        client: AsyncOpenAI | None = None
        if generator is None and settings.openai_api_key is not None:
            # imported here: it takes most of a second, which nobody without a key should wait for
            from openai import AsyncOpenAI, Timeout

            from atlas.adapters.openai_responses import OpenAIGenerator, warm_up

            await warm_up()

            client = AsyncOpenAI(
                api_key=settings.openai_api_key.get_secret_value(), base_url=settings.openai_base_url, max_retries=0,
                timeout=Timeout(600, connect=10),
            )  # fmt: skip
            generator = OpenAIGenerator(client, background=settings.openai_background)
        generator = generator or OfflineGenerator()
        book = ModelBook(bus, settings.chain, metrics)
        worker_ref: list[Worker] = []
        progress = ProgressWriter(
            bus.record_progress, lambda attempt: worker_ref[0].leases.stop([attempt], "lost"), bus.count_streams
        )
        # reservations of many tasks in one commit
        reserve: Batcher[JsonObject, JsonObject] = Batcher(lambda items: bus.reserve_tokens(list(items)))

        async def settle(spend_id: int, attempt: AttemptId, usage: Usage | None, model: str) -> None:
            await bus.record_usage(spend_id, attempt, usage)
            metrics.settled(model, usage)

        async def thread(parent: UUID, project: UUID) -> Sequence[Exchange]:
            return await _thread(bus, parent, project)

        retriever = await stack.enter_async_context(retriever_of(settings, bus))
        generation = Generation(
            generator=generator, money=Money(reserve=reserve.submit, settle=settle), progress=progress,
            learned=book.learned, vocabularies=vocabularies, metrics=metrics,
        )  # fmt: skip
        sweep = SweepWakeUps()
        sources: list[WakeUps] = [sweep]
        told = [sweep.missed]
        if (realtime := realtime_wake_ups(settings, metrics)) is not None:
            sources.append(realtime)
            told.append(realtime.missed)
        sources.append(ListenWakeUps(url))
        mirror = mirror_of(settings, bus, metrics)
        worker = Worker(
            worker_id=worker_id or uuid4(), bus=bus, generator=generator, progress=progress, metrics=metrics,
            architect=Architect(
                generation=generation, retriever=retriever, thread=thread, models=book.current, vocabularies=vocabularies
            ),
            limits=Limits(
                concurrency=settings.atlas_concurrency, lease=settings.atlas_lease_seconds,
                per_run=settings.token_budget_per_run,
            ),
            server=Server(version=__version__, models=settings.chain, started=started), hints=Hints(metrics, told),
            replied=mirror.hint,
        )  # fmt: skip
        worker_ref.append(worker)
        try:
            yield Service(
                settings=settings, bus=bus, worker=worker, metrics=metrics, book=book, progress=progress,
                wake_ups=sources, started=started, vocabularies=vocabularies, mirror=mirror,
                retrieval=retriever.how,
            )  # fmt: skip
        finally:
            if client is not None:
                await client.close()


@asynccontextmanager
async def retriever_of(settings: Settings, bus: Bus) -> AsyncIterator[CachedRetriever]:
    """Retrieval for a worker: through the RAG service where RAG_URL is set, else the same search in process."""
    top_k, collapse = settings.rag_top_k, settings.rag_collapse_by_file
    async with AsyncExitStack() as stack:
        source: Source
        if settings.rag_url is not None:
            key = settings.rag_api_key.get_secret_value() if settings.rag_api_key is not None else None
            source = RagService(
                await stack.enter_async_context(httpx.AsyncClient()),
                settings.rag_url,
                key=key,
                top_k=top_k,
                collapse=collapse,
                threshold=None,
            )
            how = f"the service at {settings.rag_url}"
        else:
            known = await stack.enter_async_context(knowledge(settings, bus))
            source = InProcess(known.searcher, top_k=top_k, collapse=collapse)
            how = known.mode()
        log.info("retrieval: %s", how)
        shape = {"top_k": top_k, "collapse": collapse, "threshold": settings.rag_relevancy_threshold, "how": how}
        yield CachedRetriever(source, Cache(bus, settings=json.dumps(shape, sort_keys=True)), top_k=top_k, how=how)


def mirror_of(settings: Settings, bus: Bus, metrics: Metrics) -> Mirror:
    """The mirror that the settings ask for."""
    allowed = Allowed(settings.atlas_webhook_allow)
    # an answer that takes longer than the lease would be another relay's to send again
    timeout = min(30.0, settings.atlas_lease_seconds / 2)

    async def target_of(destination: Destination) -> Target:
        if destination.kind == "pubsub":
            # imported here: it takes most of a second, and most stacks have no topic
            from atlas.adapters.pubsub import PubSubTarget

            return PubSubTarget(destination.target, emulator=settings.pubsub_emulator_host, timeout=min(10.0, timeout))
        from atlas.adapters.webhook import WebhookTarget

        secret = settings.webhook_secrets.get(destination.secret_name or "")
        if secret is None:
            raise SettingsError(
                [f"{destination.secret_name} is not set for this mirror: set it, or {destination.secret_name}_FILE"]
            )
        keys = read_secrets(secret.get_secret_value())
        return WebhookTarget(destination.target, keys, allowed=allowed, timeout=timeout, now=time.time)

    return Mirror(
        outbox=Outbox(bus), target_of=target_of, metrics=metrics, lease=settings.atlas_lease_seconds,
        keep_days=settings.atlas_outbox_keep_days, topic=settings.topic,
    )  # fmt: skip


def realtime_wake_ups(settings: Settings, metrics: Metrics) -> RealtimeWakeUps | None:
    """Wake-ups over Realtime, where SUPABASE_URL is set."""
    if settings.supabase_url is None:
        return None
    # imported here: nobody without Supabase should wait for it
    from atlas.adapters.realtime import RealtimeWakeUps
    from atlas.adapters.realtime_tokens import KeyTokens, MintedTokens

    key = settings.worker_key
    if key is None:
        raise SettingsError(
            ["SUPABASE_URL is set without a key for workers: set SUPABASE_SECRET_KEY or SUPABASE_SERVICE_ROLE_KEY"]
        )
    if (role := role_of(key)) not in ("service_role", None):
        raise SettingsError([f"the worker's Supabase key is one of {role}: set SUPABASE_SECRET_KEY to the secret one"])
    secret = settings.supabase_jwt_secret
    tokens = MintedTokens(key, secret.get_secret_value()) if secret is not None else KeyTokens(key)
    metrics.entered_realtime("down")
    return RealtimeWakeUps(
        settings.supabase_url, tokens, entered=metrics.entered_realtime,
        troubled=lambda kind: metrics.realtime_troubles.labels(kind=kind).inc(),
    )  # fmt: skip


async def _thread(bus: Bus, parent: UUID, project: UUID) -> list[Exchange]:
    """The earlier exchanges of a thread, oldest first."""
    found: list[Exchange] = []
    following: UUID | None = parent
    while following is not None and len(found) < THREAD_DEPTH:
        link = await bus.get_thread(following, project)
        if link is None:
            break
        exchange, following = link
        found.insert(0, exchange)
    return found
