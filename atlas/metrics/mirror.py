"""What a mirror measures: a worker has one, `atlas mirror` is one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from atlas.metrics.process import LabelValues
from atlas.task import JsonObject


class MirrorMetrics:
    """In the registry of the process that it runs in."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._destination = LabelValues()
        self._mirrored = Counter(
            "atlas_mirrored", "Events of the outbox, by destination and result (sent, rejected, failed)",
            ["destination", "result"], registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "atlas_mirror_seconds", "Seconds from an event's commit until its destination acknowledges it",
            buckets=(0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600), registry=self.registry,
        )  # fmt: skip
        self.errors = Counter("atlas_mirror_errors", "Failed rounds of the mirror's housekeeping", registry=self.registry)
        self._pending = Gauge("atlas_outbox_pending", "Events that have yet to leave", ["destination"], registry=self.registry)
        self._age = Gauge(
            "atlas_outbox_age_seconds", "Age of the oldest event that has yet to leave", ["destination"], registry=self.registry
        )
        self._open = Gauge(
            "atlas_destination_open",
            "1 while the breaker of a destination is open (of those counted as other: how many are)",
            ["destination"],
            registry=self.registry,
        )

    def mirrored(self, destination: str, result: str, count: int = 1) -> None:
        """So many events of a destination came to this result."""
        self._mirrored.labels(destination=self._destination(destination), result=result).inc(count)

    def observe_outbox(self, rows: Iterable[JsonObject]) -> None:
        """Takes the rows of atlas.outbox_status as atlas.queue_metrics() has them."""
        for gauge in (self._pending, self._age, self._open):
            gauge.clear()  # a destination that is gone, or disabled, has no backlog
        oldest: dict[str, float] = defaultdict(float)
        for row in rows:
            name = self._destination(row["destination"])
            oldest[name] = max(oldest[name], row["oldest_seconds"])
            self._pending.labels(destination=name).inc(row["pending"])
            self._age.labels(destination=name).set(oldest[name])
            self._open.labels(destination=name).inc(1 if row["open"] else 0)
