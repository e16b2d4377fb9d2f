"""The models as they stand: the chain of the settings, over what the fleet knows of each model."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, Protocol

from atlas.llm.errors import ModelError, ModelMissing, RateLimited
from atlas.llm.models import Chain, Model, resolve
from atlas.metrics.worker import Metrics

log = logging.getLogger("atlas.llm.book")


Entrance = Literal["open", "trial", "shut"]
"""Whether a call may be made; trial: it is the one that is tried while a breaker is half open."""


class ModelRows(Protocol):
    """Where what is known of the models is kept."""

    async def list_models(self) -> dict[str, Model]:
        """All models by name."""

    async def record_model(
        self, name: str, outcome: Literal["ok", "failed", "missing"], error: str | None = None, *, trial: bool = False
    ) -> str:
        """Shares what a call learned of a model with the fleet; answers with the state of its breaker."""

    async def take_trial(self, name: str) -> bool:
        """Whether one call may be made to a model whose breaker is half open."""


class ModelBook:
    """The chain as it stands, read again every few seconds, and every second while a breaker is open. Postgres's clock judges
    the breakers; this one only decides how long what was read is kept. Says once what is passed over."""

    def __init__(self, source: ModelRows, chain: Sequence[str], metrics: Metrics, *, keep: float = 5.0) -> None:
        self._rows = source
        self._names = chain
        self._metrics = metrics
        self._keep = keep
        self._read_at = float("-inf")
        self._found: tuple[Chain, dict[str, Model]] | None = None
        self._said: set[str] = set()
        self._told: dict[str, float] = {}
        """When a success of a model was last shared."""
        self._reading = asyncio.Lock()

    async def current(self) -> tuple[Chain, dict[str, Model]]:
        """The chain as it stands now, and all models by name."""
        async with self._reading:
            return await self._current()

    async def _current(self) -> tuple[Chain, dict[str, Model]]:
        calm = self._found is None or all(model.breaker == "closed" for model in self._found[0].models)
        if self._found is None or time.monotonic() - self._read_at > (self._keep if calm else min(1.0, self._keep)):
            known = await self._rows.list_models()
            chain = resolve(self._names, known, datetime.now(UTC).date())
            self._read_at, self._found = time.monotonic(), (chain, known)
            shutdown = {model.name: model.shutdown_at for model in chain.models if model.shutdown_at is not None}
            self._metrics.observe_chain((passed.name for passed in chain.passed), shutdown)
            for passed in chain.passed:
                if passed.name not in self._said:
                    self._said.add(passed.name)
                    log.warning("%s", passed.line)
        return self._found

    def forget(self) -> None:
        """The next look reads again."""
        self._read_at = float("-inf")

    async def closed_door(self) -> str | None:
        """Why no model of the chain may be called now: every breaker is open. None while one may."""
        chain, _ = await self.current()
        if not chain.models or any(model.breaker != "open" for model in chain.models):
            return None
        return "no model answers: " + "; ".join(
            f"{model.name} since {model.breaker_since:%H:%M:%S} UTC ({model.last_error or 'no answer'})"
            if model.breaker_since else model.name for model in chain.models
        )  # fmt: skip

    async def is_down(self) -> bool:
        """Whether no model of the chain answers: not one breaker is closed. A half-open one tries a call now and then."""
        chain, _ = await self.current()
        return all(model.breaker != "closed" for model in chain.models)

    async def enter(self, model: Model) -> Entrance:
        """Whether a call may be made to a model just now: its breaker is closed, or this is the one call that is tried."""
        _, known = await self.current()
        found = known.get(model.name, model)
        if found.breaker == "closed":
            return "open"
        return "trial" if found.breaker == "half_open" and await self._rows.take_trial(model.name) else "shut"

    async def may_try(self, model: Model) -> bool:
        """Whether a call may be prepared: its breaker is not open."""
        _, known = await self.current()
        return known.get(model.name, model).breaker != "open"

    async def closed(self, model: Model) -> bool:
        """Whether its breaker is closed."""
        _, known = await self.current()
        return known.get(model.name, model).breaker == "closed"

    async def learned(self, model: Model, error: ModelError | None, *, trial: bool = False) -> None:
        """Shares a success (once a second; that of a tried call at once) or a failure with the fleet."""
        if error is None:
            now = time.monotonic()
            if not trial and now - self._told.get(model.name, float("-inf")) < 1.0:
                return
            self._told[model.name] = now
            await self._rows.record_model(model.name, "ok", trial=trial)
            if trial:
                self.forget()
        elif error.outage and not isinstance(error, RateLimited):
            missing = isinstance(error, ModelMissing)
            state = await self._rows.record_model(model.name, "missing" if missing else "failed", str(error)[:500])
            if missing or state != "closed":
                self.forget()
