"""What Atlas asks of a language model. atlas.llm.openai_responses and atlas.llm.offline implement it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

from atlas.llm.models import Model
from atlas.task import Chunk, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One call: instructions, then the turns of the conversation, oldest first."""

    model: Model
    instructions: str
    turns: tuple[tuple[Literal["user", "assistant"], str], ...]
    max_output_tokens: int
    question: str = ""
    sources: tuple[Chunk, ...] = ()


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
class Finished:
    """The response is over. usage None: the provider did not say. truncated: it hit max_output_tokens."""

    usage: Usage | None
    truncated: bool = False
    refused: bool = False


ModelEvent = Started | Delta | Finished


class Generator(Protocol):
    """Calls models. Every method raises atlas.llm.errors.ModelError, and nothing else, for what upstream does."""

    def generate(self, call: ModelCall) -> AsyncIterator[ModelEvent]:
        """Events of a new response; the last one is Finished."""

    def resume(self, response_id: str, after: int | None) -> AsyncIterator[ModelEvent]:
        """Events of a response that was begun before, after a sequence number (None: from its start)."""

    async def cancel(self, response_id: str) -> Usage | None:
        """Cancels a response and answers with its usage, None where the provider does not say."""
