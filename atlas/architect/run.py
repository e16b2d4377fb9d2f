"""What an attempt has done so far, and what its calls gave."""

from __future__ import annotations

from dataclasses import dataclass

from atlas.llm.models import Model
from atlas.task import ClaimedTask, JsonObject, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedText:
    """A generated text and how it came about. usage: of all calls that wrote it."""

    text: str
    model: Model
    call: int
    usage: Usage | None
    truncated: bool
    refused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedCall:
    """A call that ended with a text, not settled yet."""

    call: int
    spend_id: int
    reserved_tokens: int
    usage: Usage | None
    model: str


@dataclass(slots=True)
class Run:
    """What an attempt has done so far. Mutable: the one place that counts its calls."""

    task: ClaimedTask
    per_run: int
    next_call: int = 0
    next_generation: int = 0
    counted_tokens: int = 0
    """Tokens that its calls have reserved or used."""
    open_response: str | None = None
    open_call: int | None = None
    finished: FinishedCall | None = None
    """The call that gave the text: settled when the attempt ends, or before the next call."""

    @property
    def usages(self) -> dict[str, JsonObject | None]:
        """What the end of the attempt settles; None: the provider did not say, and nobody will know."""
        if self.finished is None:
            return {}
        return {str(self.finished.call): self.finished.usage.as_json() if self.finished.usage else None}

    @property
    def completion_window(self) -> str:
        """Until when the reply was asked for: soonest, 2h or 8h."""
        return str(self.task.metadata.get("completion_window") or "soonest")
