"""The models as they stand: the chain of the settings, over what the fleet knows of each model."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from atlas.llm.errors import ModelError, ModelMissing
from atlas.llm.models import Chain, Model, resolve
from atlas.metrics import Metrics

log = logging.getLogger("atlas.llm.book")


class ModelRows(Protocol):
    """Where what is known of the models is kept."""

    async def list_models(self) -> dict[str, Model]:
        """All models by name."""

    async def record_model(self, name: str, *, ok: bool, error: str | None = None, missing: bool = False) -> None:
        """Shares what a call learned of a model with the fleet."""


class ModelBook:
    """The chain as it stands, read again every few seconds; says once what is passed over."""

    def __init__(self, source: ModelRows, chain: Sequence[str], metrics: Metrics, *, keep: float = 5.0) -> None:
        self._rows = source
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
            known = await self._rows.list_models()
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
        await self._rows.record_model(model.name, ok=error is None, error=str(error)[:500] if error else None, missing=missing)
        if missing:
            self._read_at = float("-inf")
