"""Which model is called: the chain of the settings, with those that are gone passed over for their successors. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from atlas.task import JsonObject

REASONING_FLOOR = 4_000
"""A reasoning model with fewer output tokens left is passed over: it would think and not write."""

LEAST_RESERVED = 4_000
"""What a first call reserves for its reply, at least."""

OFFLINE = "offline"
"""The row of atlas.model that stands for the passages alone."""

DEFAULT_CONTEXT = 128_000
DEFAULT_MAX_OUTPUT = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A row of atlas.model; the defaults are for a model that has none."""

    name: str
    shutdown_at: date | None = None
    successor: str | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    vocabulary: str | None = None
    reasoning: bool = False
    reasoning_effort: str | None = None
    streams: bool = True
    temperature: bool = False
    priced: bool = False
    breaker: Literal["closed", "open", "half_open"] = "closed"
    breaker_since: datetime | None = None
    last_error: str | None = None
    missing_since: datetime | None = None
    usual_output: int | None = None

    @property
    def is_offline(self) -> bool:
        """Whether it only stands in for a model: what it writes is free, and follows no form that could be checked."""
        return self.name == OFFLINE

    def gone(self, today: date) -> bool:
        """Past its shutdown date, or answered model_not_found."""
        return self.missing_since is not None or (self.shutdown_at is not None and self.shutdown_at <= today)

    @property
    def first_output(self) -> int:
        """Tokens that the first call of a run reserves for its reply.

        A reasoning model that was never measured gets all that is left: without room to write it would be paid for nothing.
        """
        if self.reasoning and self.usual_output is None:
            return self.max_output
        return max(LEAST_RESERVED if not self.reasoning else 2 * REASONING_FLOOR, self.usual_output or 0)

    @property
    def context(self) -> int:
        return self.context_tokens or DEFAULT_CONTEXT

    @property
    def max_output(self) -> int:
        return self.max_output_tokens or DEFAULT_MAX_OUTPUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A model of the chain that was passed over, and for whom."""

    name: str
    why: str
    successor: str | None

    @property
    def line(self) -> str:
        return f"{self.name} {self.why}: " + (f"{self.successor} is called instead" if self.successor else "no successor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The models to try, in order, without duplicates."""

    models: tuple[Model, ...]
    passed: tuple[Passed, ...]
    known: Mapping[str, Model] = field(default_factory=dict)

    def successor_of(self, model: Model, today: date) -> Model | None:
        """Who is called for a model that turned out to be missing; None where nobody is named."""
        if model.successor is None:
            return None
        found = resolve([model.successor], self.known, today).models
        return found[0] if found and found[0].name != model.name else None


def resolve(chain: Sequence[str], known: Mapping[str, Model], today: date) -> Chain:
    """The chain as it can be called today. A name without a row in atlas.model is kept, with default limits."""
    models: dict[str, Model] = {}
    passed: list[Passed] = []
    for name in chain:
        model: Model | None = known.get(name, Model(name=name))
        seen: set[str] = set()
        while model is not None and model.gone(today):
            seen.add(model.name)
            why = f"was shut down on {model.shutdown_at}" if not model.missing_since else "is not found upstream"
            following = model.successor if model.successor not in seen else None
            passed.append(Passed(name=model.name, why=why, successor=following))
            model = known.get(following, Model(name=following)) if following else None
        if model is not None:
            models.setdefault(model.name, model)
    return Chain(models=tuple(models.values()), passed=tuple(dict.fromkeys(passed)), known=known)


def larger(chain: Sequence[Model], than: Model) -> list[Model]:
    """The models of a chain with more room than one that overflowed."""
    return [model for model in chain if model.context > than.context]


def read_models(rows: list[JsonObject]) -> dict[str, Model]:
    """Models by name, from atlas.list_models()."""
    fields = set(Model.__dataclass_fields__)
    found = {}
    for row in rows:
        values = {name: value for name, value in row.items() if name in fields}
        if values.get("shutdown_at"):
            values["shutdown_at"] = date.fromisoformat(values["shutdown_at"])
        for name in ("breaker_since", "missing_since"):
            if values.get(name):
                values[name] = datetime.fromisoformat(values[name])
        found[row["name"]] = Model(**values)
    return found
