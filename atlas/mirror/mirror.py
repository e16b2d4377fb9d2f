"""The mirror: a relay for each destination, and the housekeeping of the outbox."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence

from atlas.backoff import jittered
from atlas.errors import DatabaseDown, RefusedError, SettingsError
from atlas.metrics.mirror import MirrorMetrics
from atlas.mirror.events import Destination
from atlas.mirror.ports import Outbox, Target
from atlas.mirror.relay import Relay
from atlas.text import clean
from atlas.tracing.port import Tracer

log = logging.getLogger("atlas.mirror")


class Mirror:
    """A relay for each enabled destination, started and stopped as the rows of atlas.destination come and go."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        target_of: Callable[[Destination], Awaitable[Target]],
        metrics: MirrorMetrics,
        tracer: Tracer,
        lease: float,
        keep_days: float,
        topic: str | None = None,
        alone: bool = False,
        look_every: float = 5.0,
    ) -> None:
        self._outbox = outbox
        self._target_of = target_of
        self._metrics = metrics
        self._tracer = tracer
        self._lease = lease
        self._keep_days = keep_days
        self._topic = topic
        self._alone = alone
        self._look_every = look_every
        self._relays: dict[Destination, tuple[Relay, asyncio.Task[None]]] = {}
        self._unusable: dict[Destination, str] = {}
        self._renewed = False

    def renew(self, changed: Collection[str]) -> None:
        """Secrets have changed: where those of webhooks did, each relay is started anew with its own."""
        self._renewed = self._renewed or any(name.startswith("ATLAS_WEBHOOK_SECRET") for name in changed)

    def wake(self) -> None:
        """A reply was just committed."""
        for relay, _ in self._relays.values():
            relay.wake()

    async def run(self) -> None:
        """Mirrors until it is cancelled."""
        trimmed = time.monotonic() - 60  # soon, and not in the first moments of a start
        provided = self._topic is None
        try:
            while True:
                try:
                    if not provided and self._topic is not None:
                        await self._outbox.provide_topic(self._topic)
                        provided = True
                    while await self._outbox.adopt_outbox():
                        self.wake()
                    await self._follow(await self._outbox.list_destinations())
                    if time.monotonic() > trimmed + 65:
                        trimmed = time.monotonic()
                        await self._outbox.trim_outbox(self._keep_days)
                        await self._outbox.trim_inbound()
                        await self._outbox.trim_messages()
                    await self._outbox.report_progress(15)
                    await self._outbox.raise_notifications()
                    if self._alone:  # a worker sees the outbox with the queue
                        self._metrics.observe_outbox(await self._outbox.pending())
                except (DatabaseDown, RefusedError) as error:
                    self._metrics.errors.inc()
                    log.error("mirror: %s", error)
                await asyncio.sleep(jittered(self._look_every))
        finally:
            relays = [job for _, job in self._relays.values()]
            for job in relays:
                job.cancel()
            await asyncio.gather(*relays, return_exceptions=True)

    async def _follow(self, wanted: Sequence[Destination]) -> None:
        renewed, self._renewed = self._renewed, False
        for destination, (_, job) in list(self._relays.items()):
            if job.done() and not job.cancelled() and job.exception() is not None:
                log.error("the relay of %s ended, and is started again", destination.name, exc_info=job.exception())
            if destination not in wanted or job.done() or renewed:
                job.cancel()
                await asyncio.gather(job, return_exceptions=True)
                del self._relays[destination]
        for destination in wanted:
            if destination not in self._relays:
                await self._start(destination)

    async def _start(self, destination: Destination) -> None:
        try:
            target = await self._target_of(destination)
        except (SettingsError, ValueError, OSError) as error:
            # a row that somebody wrote in Studio must not end the mirror of the others
            if self._unusable.get(destination) != str(error):
                self._unusable[destination] = str(error)
                log.error("nothing is sent to %s: %s", destination.name, error)
                await self._outbox.record_destination(destination.id, ok=False, error=clean(str(error)))
            return
        self._unusable.pop(destination, None)
        relay = Relay(destination, target, self._outbox, self._metrics, tracer=self._tracer, lease=self._lease)
        job = asyncio.create_task(relay.run(), name=f"relay of {destination.name}")
        self._relays[destination] = (relay, job)
        log.info("mirroring to %s", destination.name)  # a webhook's path may be a secret
