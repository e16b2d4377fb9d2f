"""What is read of a response: text as Postgres can hold it, put together from deltas."""

from __future__ import annotations

from dataclasses import dataclass, field

from atlas.llm.port import Delta
from atlas.record.plan import PlanText
from atlas.text import clean


@dataclass(slots=True)
class Reading:
    """How far a reply is read, and the response that writes it now. Mutable."""

    parts: list[str] = field(default_factory=list)
    last: int | None = None
    """Where its stream can be resumed."""
    begins: int = 0
    """Where in the reply the response's own text begins."""
    generation: int | None = None
    age: float = 0.0
    """Seconds since the response was asked for, when this reading began."""
    window: str = "soonest"
    inherited: str = ""
    """What an earlier attempt stored of the reply: readers have it already."""
    fresh: bool = False
    """The response is a call of this attempt, not one that is taken up."""
    trial: bool = False
    """It is the call that is tried while a breaker is half open."""
    began: bool = False
    resumable: bool = False
    response: str | None = None
    """The provider's id of it, where it can be asked for again."""
    shape: PlanText | None = None
    """Makes the Markdown that readers get, of a reply that is JSON."""
    half: str = ""
    """The first half of a surrogate pair that came alone: its other half comes with the next delta."""

    def add(self, delta: Delta) -> str:
        """Takes a delta, and answers with the text that it makes whole."""
        text = self.half + delta.text
        self.half = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self.half = text[:-1], text[-1]
        if delta.sequence_number is not None:
            self.last = delta.sequence_number
        return self._keep(clean(text))

    def whole(self, text: str) -> str:
        """All of the text so far, as readers get it."""
        text = clean(text)
        return self.shape.take(text) if self.shape else text

    def add_shown(self, text: str) -> str:
        """Takes text as readers get it."""
        if text:
            self.parts.append(text)
        return text

    def end(self) -> str:
        """What the end adds to what readers have."""
        if self.shape is None:
            return ""
        have, whole = "".join(self.parts)[self.begins :], self.shape.end()
        if whole.startswith(have):
            return self.add_shown(whole[len(have) :])
        # JSON that names a field twice: the reply is what the whole says
        self.parts = ["".join(self.parts)[: self.begins], whole]
        return ""

    def _keep(self, text: str) -> str:
        return self.add_shown(self.shape.add(text) if self.shape and text else text)
