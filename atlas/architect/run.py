"""What an attempt has done so far, and what its calls gave."""

from __future__ import annotations

from dataclasses import dataclass, field

from atlas.llm.models import Model
from atlas.task import HELD, ClaimedTask, JsonObject, Usage
from atlas.tracing.port import UNTRACED, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedText:
    """A generated text and how it came about. usage: of all calls that wrote it."""

    text: str
    model: Model
    call: int
    usage: Usage | None
    truncated: bool
    refused: bool
    json: str | None = None
    """What the model wrote, where the text is made of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedCall:
    """A call that ended with a text, not settled yet."""

    call: int
    spend_id: int
    reserved_tokens: int
    usage: Usage | None
    model: str
    response: str | None = None


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
    open_model: str = "none"
    """The model of the call that is, or was last, under way."""
    finished: FinishedCall | None = None
    """The call that gave the text: settled when the attempt ends, or before the next call."""
    span: Span = UNTRACED
    """The attempt's, in which its calls have theirs."""
    calls: dict[int, Span] = field(default_factory=dict)
    """By the number of the call: stopped with it, and finished when its money is known."""

    @property
    def usages(self) -> dict[str, JsonObject]:
        """What the end of the attempt settles; without tokens: the provider did not say, and nobody will know. A response that
        is under way is named, since it may not be stored yet: it stays with the task."""
        usages: dict[str, JsonObject] = {}
        if (done := self.finished) is not None:
            usages[str(done.call)] = (done.usage.as_json() if done.usage else {}) | {"response_id": done.response}
        if self.open_response is not None and self.open_call is not None:
            usages[str(self.open_call)] = HELD.as_json() | {"response_id": self.open_response}
        return usages

    @property
    def completion_window(self) -> str:
        """Until when the reply was asked for: soonest, 2h or 8h."""
        return str(self.task.metadata.get("completion_window") or "soonest")
