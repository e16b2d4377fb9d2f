"""What Atlas asks of a language model. atlas.llm.openai_responses and atlas.llm.offline implement it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import date
from typing import Literal, Protocol

from atlas.llm.models import Model
from atlas.llm.tokens import MESSAGE_OVERHEAD, Count
from atlas.task import Chunk, JsonObject, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One call: instructions, then the turns of the conversation, oldest first."""

    model: Model
    instructions: str
    turns: tuple[tuple[Literal["user", "assistant"], str], ...]
    max_output_tokens: int
    question: str = ""
    sources: tuple[Chunk, ...] = ()
    labels: tuple[str, ...] = ()
    """How the reply cites the sources, one each."""
    cache_key: str = ""
    """Calls with the same key share what the provider caches: the project."""
    schema: JsonObject | None = None
    """The JSON Schema that the reply has to follow; without one it is text."""
    kind: str = ""
    """The kind of reply that it asks for."""
    opening: str = ""
    """What the reply begins with, before what the model writes."""
    completion_window: str = "soonest"
    metadata: dict[str, str] = field(default_factory=dict)
    """What the provider keeps with the response, and its webhook names: task, attempt and call."""

    def input_tokens(self, count: Count) -> int:
        """What is sent, as count counts it."""
        return count(self.instructions) + sum(count(text) + MESSAGE_OVERHEAD for _, text in self.turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """The provider's rate limits of a model: [{"unit": requests|tokens, "per_minute", "remaining"}]."""

    rows: tuple[JsonObject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The provider has begun a response. resumable: it can be resumed by its id."""

    response_id: str
    resumable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """More text. sequence_number: where to resume the stream."""

    text: str
    sequence_number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All of the text so far, of a response that is polled."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The response is over. usage None: the provider did not say. truncated: it hit max_output_tokens."""

    usage: Usage | None
    truncated: bool = False
    refused: bool = False


ModelEvent = RateLimits | Started | Delta | Snapshot | Finished


class Generator(Protocol):
    """Calls models. Every method raises atlas.llm.errors.ModelError, and nothing else, for what upstream does."""

    def generate(self, call: ModelCall) -> AsyncIterator[ModelEvent]:
        """Events of a new response; the last one is Finished."""

    def resume(
        self, response_id: str, after: int | None, *, age: float = 0.0, window: str = "soonest"
    ) -> AsyncIterator[ModelEvent]:
        """Events of a response that was begun age seconds ago, after a sequence number; without one it is polled."""

    async def cancel(self, response_id: str) -> Usage | None:
        """Cancels a response and answers with its usage, None where the provider does not say."""

    async def count(self, call: ModelCall) -> int | None:
        """The tokens of a call's input, as the provider counts them, free; None where it cannot be asked."""

    async def probe(self, model: str) -> date | None:
        """Asks for a model, free. Answers with the day on which it shuts down, where one is announced."""
