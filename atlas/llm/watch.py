"""Whether the models answer: probes that cost nothing, while a breaker is open, once a day, and for /healthz."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal, Protocol

from atlas.llm.book import ModelBook
from atlas.llm.errors import ModelError, ModelMissing
from atlas.llm.port import Generator

log = logging.getLogger("atlas.llm.watch")

_PATIENCE = 3.0
"""Seconds for a probe: one that hangs would keep the next one back."""

KEPT = 30.0
"""Seconds for which /healthz believes a probe: it makes at most one in this time."""


class ProbeRows(Protocol):
    """Where the fleet's probes are shared."""

    async def take_probes(self) -> list[str]:
        """The models whose breaker is open and whose probe is due: the caller probes them now."""

    async def record_probe(self, name: str, *, ok: bool, error: str | None = None, shutdown_at: date | None = None) -> None:
        """What a probe found."""

    async def record_model(
        self, name: str, outcome: Literal["ok", "failed", "missing"], error: str | None = None, *, trial: bool = False
    ) -> str:
        """Shares what was learned of a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether some model of the chain answers: which, or why none does, since when."""

    ok: bool
    model: str | None
    since: datetime
    said: str


class ModelWatch:
    """Probes the models of a chain."""

    def __init__(
        self, rows: ProbeRows, generator: Generator, book: ModelBook, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rows = rows
        self._generator = generator
        self._book = book
        self._clock = clock
        self._probed_at = float("-inf")
        self._health: Health | None = None
        self._probing = asyncio.Lock()
        self._read_on: date | None = None

    async def probe_open(self) -> None:
        """Probes the models whose breaker is open and whose turn it is."""
        for name in await self._rows.take_probes():
            await self._probe(name)
            self._book.forget()

    async def read_lifecycle(self, today: date) -> None:
        """Asks once a day when each model of the chain shuts down."""
        if self._read_on == today:
            return
        chain, _ = await self._book.current()
        for model in chain.models:
            await self._probe(model.name)
        self._read_on = today
        self._book.forget()

    async def health(self) -> Health:
        """Whether some model of the chain answers, by a probe that is at most 30 s old."""
        async with self._probing:
            if self._health is None or self._clock() - self._probed_at > KEPT:
                found = await self._look()
                before = self._health
                if before is not None and (before.ok, before.model) == (found.ok, found.model):
                    found = Health(ok=found.ok, model=found.model, since=before.since, said=found.said)
                self._probed_at, self._health = self._clock(), found
            return self._health

    async def _look(self) -> Health:
        chain, _ = await self._book.current()
        now = datetime.now(UTC)
        failures = []
        for model in chain.models:
            try:
                async with asyncio.timeout(5):
                    await self._generator.probe(model.name)
            except (ModelError, TimeoutError) as error:
                failures.append(f"{model.name}: {error or 'no answer within 5 s'}")
            else:
                return Health(ok=True, model=model.name, since=now, said=f"{model.name} answers")
        said = "; ".join(failures) or "no model is left in the chain: " + "; ".join(passed.line for passed in chain.passed)
        return Health(ok=False, model=chain.models[0].name if chain.models else None, since=now, said=said)

    async def _probe(self, name: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                shutdown_at = await self._generator.probe(name)
        except ModelMissing as error:
            await self._rows.record_model(name, "missing", str(error)[:500])
        except (ModelError, TimeoutError) as error:
            log.info("%s does not answer: %s", name, error)
            await self._rows.record_probe(name, ok=False, error=str(error)[:500] or f"no answer within {_PATIENCE:g} s")
        else:
            await self._rows.record_probe(name, ok=True, shutdown_at=shutdown_at)
