"""The arithmetic of one run's tokens: how much may go in, how much may come out. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from atlas.llm.models import REASONING_FLOOR, Model
from atlas.llm.tokens import with_margin

LEAST_OUTPUT = 256
"""Fewer output tokens are no answer: the model is passed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Shares of a run's budget, in tokens: at most half for input, a third of the whole for sources."""

    per_run: int

    @property
    def input(self) -> int:
        return self.per_run // 2

    @property
    def sources(self) -> int:
        return self.per_run // 3


def how_to_raise(scope: str | None) -> str:
    """What raises a run's budget: the setting that is in force. scope: whose limit in the database it is, if any."""
    if scope is None:
        return "raise TOKEN_BUDGET_PER_RUN"
    return f"raise it with `atlas budget set --scope {scope} --per-run N`, which overrides TOKEN_BUDGET_PER_RUN"


def output_limit(model: Model, *, per_run: int, used: int, input_tokens: int) -> int:
    """max_output_tokens of a call: what is left of the run, within the model's own limits. 0: the model does not fit.

    used: tokens that earlier calls of the run hold. input_tokens: counted, without the margin.
    """
    reserved_input = with_margin(input_tokens)
    left = min(per_run - used - reserved_input, model.max_output, model.context - reserved_input)
    floor = REASONING_FLOOR if model.reasoning else LEAST_OUTPUT
    return left if left >= floor else 0
