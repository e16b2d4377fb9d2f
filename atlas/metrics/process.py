"""What every process of Atlas measures of itself: its version, its event loop, its connections to Postgres, memory and CPU."""

from __future__ import annotations

import asyncio
import platform
from functools import partial
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector, generate_latest

from atlas import __version__

LOOK_EVERY = 0.25
"""Seconds between two looks at how late the loop is."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Connections(Protocol):
    """A pool of connections to Postgres, as it stands."""

    def counts(self) -> tuple[int, int, int]:
        """Connections in use, those that are free, and calls that wait for one."""

    @property
    def size(self) -> int:
        """How many connections it opens at most."""


def _count(pool: Connections, number: int) -> float:
    return pool.counts()[number]


class LabelValues:
    """Keeps a label bounded: the first values that come are kept, and all after them are "other"."""

    def __init__(self, most: int = 100) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        if value not in self._known:
            if len(self._known) >= self._most:
                return "other"
            self._known.add(value)
        return value


class ProcessMetrics:
    """Part of each registry."""

    def __init__(self, registry: CollectorRegistry, component: str) -> None:
        """component: worker, mirror or rag."""
        self._registry = registry
        ProcessCollector(registry=registry)
        self.info = Gauge(
            "atlas_info", "1, with the version of Atlas and of Python", ["component", "version", "python"], registry=registry
        )
        self.info.labels(component=component, version=__version__, python=platform.python_version()).set(1)
        self.loop_lag = Histogram(
            "atlas_loop_lag_seconds", "How late the event loop is; all that runs on it is as late",
            buckets=(0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5), registry=registry,
        )  # fmt: skip
        self.connections = Gauge(
            "atlas_pool_connections", "Connections to Postgres (used, idle), and calls that wait for one (waiting)", ["state"],
            registry=registry,
        )  # fmt: skip
        self.connections_limit = Gauge(
            "atlas_pool_connections_limit", "Connections to Postgres that this process opens at most", registry=registry
        )

    def watch_pool(self, pool: Connections) -> None:
        """Reports this pool from now on."""
        for number, state in enumerate(("used", "idle", "waiting")):
            self.connections.labels(state=state).set_function(partial(_count, pool, number))
        self.connections_limit.set(pool.size)

    async def watch_loop(self) -> None:
        """Measures how late the loop is, until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOK_EVERY
            await asyncio.sleep(LOOK_EVERY)
            self.loop_lag.observe(max(0.0, loop.time() - due))

    def text(self) -> bytes:
        """The exposition for /metrics, of the whole registry."""
        return generate_latest(self._registry)
