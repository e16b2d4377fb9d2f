"""What the core asks of the world outside. Adapters implement these; tests of a port run over every adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import date
from typing import Literal, Protocol
from uuid import UUID

from atlas.models import Model
from atlas.task import AttemptId, Chunk, JsonObject, Usage


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
    """The provider has begun a response. resumable: it can be taken up again by its id."""

    response_id: str
    resumable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """More text. sequence_number: where to take the stream up."""

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
    """Calls models. Every method raises atlas.model_errors.ModelError, and nothing else, for what upstream does."""

    def generate(self, call: ModelCall) -> AsyncIterator[ModelEvent]:
        """Events of a new response; the last one is Finished."""

    def resume(self, response_id: str, after: int | None) -> AsyncIterator[ModelEvent]:
        """Events of a response that was begun before, after a sequence number (None: from its start)."""

    async def cancel(self, response_id: str) -> Usage | None:
        """Cancels a response and answers with its usage, None where the provider does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """Passages, best first, and what the reply should say of the search."""

    chunks: Sequence[Chunk] = ()
    warnings: tuple[str, ...] = ()


class Retriever(Protocol):
    """Finds passages that a task's owner may read."""

    async def search(self, query: str, *, task_id: UUID) -> Retrieved:
        """Raises AtlasError where nothing can be found out."""


class Progress(Protocol):
    """Takes what a running reply leaves behind."""

    async def started(
        self, attempt: AttemptId, *, call: int, generation: int, model: str, response_id: str, resumable: bool
    ) -> None:
        """A response was begun (or taken up): stored before this returns."""

    def delta(self, attempt: AttemptId, text: str, sequence_number: int | None) -> None:
        """More text of the current generation: stored soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a running reply. offset: Unicode code points of its generation before it; seq rises within an attempt."""

    attempt: int
    generation: int
    seq: int
    offset: int
    text: str


class Live(Protocol):
    """Deltas as they are sent."""

    joined: bool

    async def next(self, seconds: float) -> Part | None:
        """The next part; None when the tables are to be looked at, or nothing came for so long."""


Wake = Callable[[str, bool], None]
"""Called with the source of a hint, and whether somebody asked for a cancellation. Sets an event, nothing more."""


class WakeUps(Protocol):
    """A source of hints that there may be work."""

    name: str

    async def run(self, wake: Wake) -> None:
        """Calls wake for every hint, for ever; survives a lost connection."""


class Tasks(Protocol):
    """Tasks as people see them: atlas.reads.Reads over Postgres, atlas.adapters.rest.RestReads over REST.

    Raises NotFoundError and UsageError for names that fit nothing, or too much.
    """

    async def find(self, text: str, *, state: str | None = None) -> UUID:
        """The task of an id, a unique prefix of one (at least 4 characters), or `last`."""

    async def tasks(self, *, limit: int, state: str | None, sender: str | None, project: str | None) -> list[JsonObject]:
        """The latest tasks, newest first."""

    async def project(self, name: str) -> UUID:
        """The id of a project, by its id or name."""

    async def task(self, task_id: UUID) -> JsonObject:
        """A task with its question, reply, attempts, calls and audit."""

    async def state(self, task_id: UUID) -> JsonObject:
        """Where a task stands, and why it waits."""

    async def parts_after(self, task_id: UUID, attempt: int, generation: int, offset: int) -> list[Part]:
        """Parts of its reply that come after a place, in order."""

    async def submit(self, message: Mapping[str, object]) -> JsonObject:
        """Sends a message: {task_id, state, created}."""

    async def cancel(self, task_id: UUID) -> str:
        """Asks for a task's end; answers the state it is in now."""

    async def spend(self, by: str, *, since: date | None, until: date | None) -> list[JsonObject]:
        """Settled calls summed up by day, model, sender or project; days are UTC."""

    def live(self, task_id: UUID) -> AbstractAsyncContextManager[Live | None]:
        """Deltas as they are sent; None where the tables are looked at instead."""
