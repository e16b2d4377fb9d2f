"""Wires a worker together, from the outside in, and runs all of it in one TaskGroup."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from atlas import __version__
from atlas.architect.answer import Architect
from atlas.architect.calls import Calls
from atlas.architect.generation import Generation
from atlas.database.audit import seal_audit
from atlas.database.batched import BatchedMoney, BatchedPrompts
from atlas.database.outbox import PostgresOutbox
from atlas.database.pool import Pool
from atlas.database.queue import PostgresQueue
from atlas.diagrams.mermaid import MermaidProcess
from atlas.errors import AtlasError, SettingsError
from atlas.extras import missing
from atlas.llm.book import ModelBook
from atlas.llm.offline import OfflineGenerator
from atlas.llm.port import Generator
from atlas.llm.rates import RateBuckets
from atlas.llm.replay import Either, ReplayGenerator, read_replay
from atlas.llm.tokens import Vocabularies
from atlas.llm.watch import ModelWatch
from atlas.metrics.mirror import MirrorMetrics
from atlas.metrics.worker import Metrics
from atlas.mirror.events import Destination
from atlas.mirror.mirror import Mirror
from atlas.mirror.ports import Target
from atlas.rag.wiring import retriever_of
from atlas.rotation import CurrentSettings
from atlas.settings import Settings
from atlas.supabase.keys import role_of
from atlas.task import JsonObject
from atlas.tracing.port import Tracer, Untraced
from atlas.wake_ups.listen import ListenWakeUps
from atlas.wake_ups.port import WakeUps
from atlas.wake_ups.sweep import SweepWakeUps
from atlas.webhooks import Allowed, read_secrets
from atlas.worker.attempt import Attempts
from atlas.worker.claims import Worker
from atlas.worker.control import Controller, Server
from atlas.worker.housekeeping import Housekeeping
from atlas.worker.leases import Leases
from atlas.worker.limits import Limits
from atlas.worker.progress import ProgressWriter
from atlas.worker.wake_signal import WakeSignal

if TYPE_CHECKING:
    from atlas.wake_ups.realtime import RealtimeWakeUps

log = logging.getLogger("atlas.service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A worker with all that runs beside it."""

    current: CurrentSettings
    """The settings, whose secrets may be renewed."""
    settings: Settings
    pool: Pool
    queue: PostgresQueue
    worker: Worker
    metrics: Metrics
    watch: ModelWatch
    housekeeping: Housekeeping
    book: ModelBook
    progress: ProgressWriter
    wake_ups: Sequence[WakeUps]
    vocabularies: Vocabularies
    mirror: Mirror
    retrieval: str
    """How it searches what the team knows."""
    claims: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is claiming."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Works until stopping is set, then drains. Raises what kills the worker."""
        await self.queue.register_worker(
            self.worker.worker_id, name=f"{socket.gethostname()}:{os.getpid()}", version=__version__,
            concurrency=self.settings.atlas_concurrency, models=self.settings.chain,
        )  # fmt: skip
        limits = {
            "per_run": self.settings.token_budget_per_run,
            "daily": self.settings.daily_token_budget,
            "usd_daily": self.settings.daily_usd_budget,
        }
        await self.queue.set_budget("global", limits, set_by="settings")
        rules = {
            "hold_seconds": self.settings.atlas_hold_seconds,
            "held_retry_seconds": self.settings.atlas_held_retry_seconds,
            "hold_unknown": self.settings.atlas_hold_unknown,
            "sender_daily_share": self.settings.sender_daily_share,
        }
        await self.queue.set_spend_rules(rules)
        _, known = await self.book.current()
        for vocabulary in {known[name].vocabulary for name in self.settings.chain if name in known} - {None}:
            await asyncio.to_thread(self.vocabularies.counter(vocabulary), "")
        async with asyncio.TaskGroup() as tasks, asyncio.TaskGroup() as helpers:
            jobs = [
                helpers.create_task(self.progress.run(), name="progress"),
                helpers.create_task(self.worker.leases.keep(), name="leases"),
                helpers.create_task(self.worker.leases.watch(), name="lease watch"),
                helpers.create_task(self.metrics.process.watch_loop(), name="loop watch"),
                *(
                    helpers.create_task(self.housekeeping.every(work, seconds), name=work.__name__)
                    for work, seconds in (*self.housekeeping.rounds(), (self._seal, 60.0))
                ),
            ]
            claiming = [
                helpers.create_task(self.worker.run(tasks), name="claims"),
                *(helpers.create_task(source.run(self.worker.wake), name=source.name) for source in self.wake_ups),
            ]
            if self.settings.atlas_mirror:
                jobs.append(helpers.create_task(self.mirror.run(), name="mirror"))
            log.info("worker %s: %d slots, models %s", self.worker.worker_id, self.settings.atlas_concurrency,
                     " > ".join(self.settings.chain))  # fmt: skip
            self.claims.set()
            await stopping.wait()
            for job in claiming:
                job.cancel()
            self.queue.hurry()
            await self.worker.drain()
            for job in jobs:
                job.cancel()

    async def _seal(self) -> None:
        for key in self.current.settings.audit_keys[:1]:
            await seal_audit(self.pool, key)

    async def ready(self) -> bool:
        """Whether Postgres answers within two seconds."""
        try:
            async with asyncio.timeout(2):
                await self.queue.ping()
        except (AtlasError, TimeoutError):
            return False
        return True


@asynccontextmanager
async def build(
    settings: Settings, url: str, *, generator: Generator | None = None, worker_id: UUID | None = None
) -> AsyncIterator[Service]:
    """A service over its connections. url: Postgres, as atlas_worker. generator replaces the one that the settings ask for."""
    current = CurrentSettings(settings)
    metrics = Metrics()
    vocabularies = Vocabularies()
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(Pool.connect(url, password=current.password_of(url)))
        metrics.process.watch_pool(pool)
        metrics.slots.set(settings.atlas_concurrency)
        metrics.slow_after.set(settings.atlas_slow_run_seconds)
        queue = PostgresQueue(pool)
        writer = generator if generator is not None else await stack.enter_async_context(generator_of(current))
        retriever = await stack.enter_async_context(retriever_of(current, pool))
        book = ModelBook(queue, settings.chain, metrics)
        watch = ModelWatch(queue, writer, book)
        tracer = await stack.enter_async_context(tracer_of(settings))
        mirror = mirror_of(current, pool, metrics.mirror, tracer)
        current.when_renewed(mirror.renew)

        limits = Limits(
            concurrency=settings.atlas_concurrency, lease=settings.atlas_lease_seconds, per_run=settings.token_budget_per_run
        )
        leases = Leases(queue, worker_id := worker_id or uuid4(), metrics, lease=limits.lease)
        progress = ProgressWriter(partial(queue.record_progress, rate=settings.atlas_realtime_rate), leases.lost)
        calls = Calls(
            generator=writer, money=BatchedMoney(queue, metrics), prompts=BatchedPrompts(queue), progress=progress, models=book,
            rates=RateBuckets(queue), metrics=metrics, tier=settings.openai_service_tier,
        )  # fmt: skip
        generation = Generation(
            calls=calls, generator=writer, progress=progress, models=book, vocabularies=vocabularies, metrics=metrics
        )
        architect = Architect(
            generation=generation, retriever=retriever, thread=queue, decisions=queue, models=book, diagrams=MermaidProcess(),
            vocabularies=vocabularies, metrics=metrics,
        )  # fmt: skip
        control = Controller(queue, Server(version=__version__, models=settings.chain, started=time.monotonic()), metrics)
        attempts = Attempts(
            queue=queue, architect=architect, generator=writer, control=control, progress=progress, leases=leases,
            metrics=metrics, tracer=tracer, replied=mirror.wake,
        )  # fmt: skip

        sweep = SweepWakeUps()
        realtime = realtime_wake_ups(current, metrics)
        sources = [
            source for source in (sweep, realtime, ListenWakeUps(url, password=current.password_of(url))) if source is not None
        ]
        missed = [sweep.missed] if realtime is None else [sweep.missed, realtime.missed]
        worker = Worker(
            worker_id=worker_id, queue=queue, attempts=attempts, leases=leases, metrics=metrics, limits=limits,
            wake_signal=WakeSignal(metrics, missed), closed_door=book.closed_door,
        )  # fmt: skip

        def observed(found: JsonObject) -> None:
            worker.wake_signal.others = max(0, found["workers"] - 1)

        housekeeping = Housekeeping(
            queue, writer, watch, metrics, book.is_down, lease=settings.atlas_lease_seconds,
            hold=settings.atlas_hold_seconds, woken=lambda: worker.wake("release"), observed=observed,
        )  # fmt: skip
        yield Service(
            current=current, settings=settings, pool=pool, queue=queue, worker=worker, metrics=metrics, watch=watch,
            housekeeping=housekeeping, book=book, progress=progress,
            wake_ups=sources, vocabularies=vocabularies, mirror=mirror, retrieval=retriever.how,
        )  # fmt: skip


@asynccontextmanager
async def tracer_of(settings: Settings) -> AsyncIterator[Tracer]:
    """Who collects traces: nobody, unless OTEL_EXPORTER_OTLP_ENDPOINT is set. Raises MissingExtra."""
    if settings.otel_exporter_otlp_endpoint is None:
        yield Untraced()
        return
    # imported here: most workers have no collector, and no such package
    try:
        from atlas.tracing.otel import OtelTracer
    except ModuleNotFoundError as error:
        raise missing(error) or error from error

    tracer = OtelTracer(settings.otel_exporter_otlp_endpoint, settings.otel_headers)
    try:
        yield tracer
    finally:
        await asyncio.to_thread(tracer.close)


@asynccontextmanager
async def generator_of(current: CurrentSettings) -> AsyncIterator[Generator]:
    """Who writes: OpenAI where there is a key, else the offline architect; a replay where one is asked for."""
    settings = current.settings
    if settings.atlas_replay is not None:
        try:
            question, text = read_replay(settings.atlas_replay.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(
                [f"ATLAS_REPLAY={settings.atlas_replay} cannot be used ({error}): see examples/replies"]
            ) from None
        yield Either(ReplayGenerator(question, text, count=Vocabularies().counter("o200k_base")), OfflineGenerator())
        return
    if settings.openai_api_key is None:
        yield OfflineGenerator()
        return
    # imported here: it takes most of a second, which nobody without a key should wait for
    from openai import AsyncOpenAI, Timeout

    from atlas.llm.openai_responses import OpenAIGenerator
    from atlas.llm.transport import watched_client

    idle = settings.openai_stream_idle_seconds
    async with AsyncOpenAI(
        api_key=current.openai_key, base_url=settings.openai_base_url, max_retries=0,
        timeout=Timeout(idle, connect=10), http_client=watched_client(read=idle),
    ) as client:  # fmt: skip
        yield OpenAIGenerator(client, background=settings.openai_background, tier=settings.openai_service_tier, idle=idle)


def mirror_of(current: CurrentSettings, pool: Pool, metrics: MirrorMetrics, tracer: Tracer, *, alone: bool = False) -> Mirror:
    """The mirror that the settings ask for. alone: no worker runs in this process."""
    settings = current.settings
    allowed = Allowed(settings.atlas_webhook_allow)
    # an answer that takes longer than the lease would be another relay's to send again
    timeout = min(30.0, settings.atlas_lease_seconds / 2)

    async def target_of(destination: Destination) -> Target:
        if destination.kind == "pubsub":
            # imported here: it takes most of a second, and most stacks have no topic
            try:
                from atlas.mirror.pubsub import PubSubTarget
            except ModuleNotFoundError as error:
                raise missing(error) or error from error

            return PubSubTarget(destination.target, emulator=settings.pubsub_emulator_host, timeout=min(10.0, timeout))
        from atlas.mirror.webhook import WebhookTarget

        secret = current.settings.webhook_secrets.get(destination.secret_name or "")
        if secret is None:
            raise SettingsError(
                [f"{destination.secret_name} is not set for this mirror: set it, or {destination.secret_name}_FILE"]
            )
        keys = read_secrets(secret.get_secret_value())
        return WebhookTarget(destination.target, keys, allowed=allowed, timeout=timeout, now=time.time)

    return Mirror(
        outbox=PostgresOutbox(pool), target_of=target_of, metrics=metrics, tracer=tracer, lease=settings.atlas_lease_seconds,
        keep_days=settings.atlas_outbox_keep_days, topic=settings.topic, alone=alone,
    )  # fmt: skip


def realtime_wake_ups(current: CurrentSettings, metrics: Metrics) -> RealtimeWakeUps | None:
    """Wake-ups over Realtime, where SUPABASE_URL is set."""
    settings = current.settings
    if settings.supabase_url is None:
        return None
    # imported here: nobody without Supabase should wait for it
    from atlas.supabase.tokens import KeyTokens, MintedTokens, RenewedTokens, Tokens
    from atlas.wake_ups.realtime import RealtimeWakeUps

    key = settings.worker_key
    if key is None:
        raise SettingsError(
            ["SUPABASE_URL is set without a key for workers: set SUPABASE_SECRET_KEY or SUPABASE_SERVICE_ROLE_KEY"]
        )
    if (role := role_of(key)) not in ("service_role", None):
        raise SettingsError([f"the worker's Supabase key is one of {role}: set SUPABASE_SECRET_KEY to the secret one"])

    def tokens() -> Tokens:
        now, secret = current.settings.worker_key or key, current.settings.supabase_jwt_secret
        return MintedTokens(now, secret.get_secret_value()) if secret is not None else KeyTokens(now)

    metrics.entered_realtime("down")
    return RealtimeWakeUps(
        settings.supabase_url, RenewedTokens(tokens), entered=metrics.entered_realtime,
        troubled=lambda kind: metrics.realtime_troubles.labels(kind=kind).inc(),
    )  # fmt: skip
