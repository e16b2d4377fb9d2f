"""What answering a question asks of the world outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from atlas.llm.book import Entrance
from atlas.llm.errors import ModelError
from atlas.llm.models import Chain, Model
from atlas.task import AttemptId, Exchange, JsonObject, Retrieved, TaskId, Usage


class Retriever(Protocol):
    """Finds passages that a task's owner may read."""

    async def search(self, query: str, *, task_id: UUID) -> Retrieved:
        """Raises AtlasError where nothing can be found out."""


class Progress(Protocol):
    """Takes what a running reply leaves behind."""

    async def started(
        self, attempt: AttemptId, *, call: int, generation: int, model: str, response_id: str, resumable: bool,
        begins: int = 0, inherited: str = "", sequence_number: int | None = None,
    ) -> None:  # fmt: skip
        """A response was begun, or resumed: stored before this returns.

        begins: where in the reply its text begins. inherited: what readers have of the reply already.
        """

    def delta(self, attempt: AttemptId, text: str, sequence_number: int | None) -> None:
        """More text of the current generation: stored soon."""

    async def flush(self, attempts: Sequence[AttemptId]) -> None:
        """Stores what is pending of them now."""


class Money(Protocol):
    """Moves money before and after a call."""

    async def reserve(self, request: JsonObject) -> JsonObject:
        """A request and an answer of atlas.reserve_tokens."""

    async def settle(self, spend_id: int, attempt: AttemptId, usage: Usage | None, model: str, response: str | None) -> None:
        """Settles a call that does not end its task; usage None: not known, so all of it counts."""


class Prompts(Protocol):
    """Keeps what models are asked."""

    async def keep(self, prompt: JsonObject) -> None:
        """Stored before this returns: an item of atlas.keep_prompts in SQL."""


class Thread(Protocol):
    """Looks up earlier exchanges."""

    async def get_thread(self, task: UUID, asking: TaskId) -> tuple[Exchange, UUID | None] | None:
        """An earlier question of the same project with its reply, and the question before it; None where there is none that the
        asking task's sender may read."""


class Decisions(Protocol):
    """Looks up what is decided, and what was replied."""

    async def get_reply(self, task: UUID, asking: TaskId) -> JsonObject | None:
        """A reply with its question and metadata; None where there is none that the asking task's sender may read."""

    async def get_prompt(self, task: UUID, asking: TaskId) -> JsonObject | None:
        """What was asked for such a reply; None where nothing is kept of it."""

    async def read_first(self, task: TaskId) -> JsonObject:
        """What is decided, or proposed just now, that a task's question speaks of: atlas.read_first in SQL."""


class Models(Protocol):
    """The models as they stand: atlas.llm.book.ModelBook."""

    async def current(self) -> tuple[Chain, dict[str, Model]]:
        """The chain that can be called now, and all models by name."""

    async def enter(self, model: Model) -> Entrance:
        """Whether a call may be made to a model just now: what its breaker says."""

    async def may_try(self, model: Model) -> bool:
        """Whether a call may be prepared: its breaker is not open."""

    async def closed(self, model: Model) -> bool:
        """Whether its breaker is closed."""

    async def learned(self, model: Model, error: ModelError | None, *, trial: bool = False) -> None:
        """Shares a success, or a failure, with the fleet. trial: of the call that was tried."""


class Diagrams(Protocol):
    """Parses diagrams: atlas.diagrams.mermaid.MermaidProcess."""

    async def errors(self, sources: Sequence[str]) -> list[str | None]:
        """What is wrong with each, None where it parses. Raises UncheckedDiagrams."""


class Rates(Protocol):
    """The provider's rate limits: atlas.llm.rates.RateBuckets."""

    async def draw(self, model: str, tokens: int) -> None:
        """Waits until a call of so many tokens keeps within the limits. Raises RateLimited where that takes too long."""

    async def record(self, model: str, limits: list[JsonObject], retry_after: float | None = None) -> None:
        """Passes on what a response says of the limits."""
