"""The values that move through Atlas: a claimed task, a model call, its usage, a reply. Frozen, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NewType
from uuid import UUID

TaskId = NewType("TaskId", UUID)
AttemptId = NewType("AttemptId", UUID)

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call. output includes reasoning; input includes cached, and what was written to the cache.

    known: as atlas.spend.known has it; held: the call was sent, and nobody knows yet what became of it. tier: the service tier
    that the response reports.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    tier: str | None = None
    known: Literal["reported", "estimated", "none", "held"] = "reported"

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """Of two calls of one reply together."""
        return replace(
            self,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )

    def as_json(self) -> JsonObject:
        """As atlas.settle_spends in SQL reads it."""
        counted = {
            "input_tokens": self.input_tokens, "output_tokens": self.output_tokens, "cached_tokens": self.cached_tokens,
            "cache_write_tokens": self.cache_write_tokens, "reasoning_tokens": self.reasoning_tokens, "known": self.known,
        }  # fmt: skip
        return counted if self.tier is None else counted | {"tier": self.tier}


NOTHING_USED = Usage(input_tokens=0, output_tokens=0, known="none")
HELD = Usage(input_tokens=0, output_tokens=0, known="held")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """A response that an earlier attempt had begun, with its reservation.

    text: what was stored of the reply. response_offset: where in it the response's own text begins. age_seconds: since it was
    reserved.
    """

    spend_id: int
    model: str
    response_id: str
    reserved_tokens: int
    sequence_number: int | None
    text: str
    response_offset: int = 0
    age_seconds: float = 0.0
    completion_window: str = "soonest"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedTask:
    """A task that this worker holds by a lease.

    label_key: random, and the same for each attempt: the labels of sources come from it, so that nobody who writes the question
    can know them.
    """

    task_id: TaskId
    attempt_id: AttemptId
    attempt: int
    kind: Literal["chat", "control"]
    message: JsonObject
    message_task_id: UUID
    sender_key: str
    project_id: UUID
    parent_id: UUID | None
    queued_at: datetime
    lease_expires_at: datetime
    cancel_requested: bool
    label_key: UUID
    per_run: int | None = None
    per_run_scope: str | None = None
    """Whose limit in the database that is; None where it is a worker's setting."""
    inherited: Inherited | None = None

    @property
    def question(self) -> str:
        return str(self.message["content"])

    @property
    def metadata(self) -> JsonObject:
        found = self.message.get("metadata")
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Where an attempt stands: whether its lease holds, whether somebody asked to cancel its task, and whether another call of
    its task is answered already."""

    held: bool
    cancelled: bool
    adopted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A retrieved passage.

    similarity: by similarity_kind a cosine, or the share of the question's words that it holds, each by its weight: 0 to 1.
    """

    chunk_id: int
    source: str
    title: str
    heading: str
    start_line: int
    end_line: int
    text: str
    tokens: int
    score: float
    similarity: float | None = None
    similarity_kind: str = "cosine"
    kind: str = "text"
    commit: str | None = None
    sha256: str = ""

    @property
    def place(self) -> str:
        """Where it stands: path or URL, commit, and lines (pages of a PDF, cells of a notebook)."""
        source = f"{self.source}@{self.commit[:12]}" if self.commit else self.source
        unit = {"pdf": "page", "notebook": "cell"}.get(self.kind)
        if unit is None:
            return f"{source}:{self.start_line}-{self.end_line}"
        last = f"-{self.end_line}" if self.end_line > self.start_line else ""
        return f"{source}#{unit}={self.start_line}{last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """Passages, best first, and what the reply should say of the search."""

    chunks: Sequence[Chunk] = ()
    warnings: tuple[str, ...] = ()
    fell_back: Literal["stale", "partial", "nothing"] | None = None
    """What is found where the search is away, or went without a part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """An earlier question of the thread and its reply."""

    question: str
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledCall:
    """What a call has cost. call: its number in the attempt. usd: None where its model has no price. known: as in spend."""

    call: int
    usd: Decimal | None
    known: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionBack:
    """What the architect has to know before it answers: what ask_back takes."""

    attempt_id: AttemptId
    content: str
    metadata: JsonObject
    usages: dict[str, JsonObject] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A finished reply, ready to be stored: what complete_tasks takes."""

    attempt_id: AttemptId
    content: str
    metadata: JsonObject
    model: str | None
    usages: dict[str, JsonObject] = field(default_factory=dict)
    msg_type: Literal["spec", "control"] = "spec"

    def as_json(self) -> JsonObject:
        return {
            "attempt_id": str(self.attempt_id),
            "content": self.content,
            "metadata": self.metadata,
            "model": self.model,
            "response_id": next((usage.get("response_id") for usage in self.usages.values()), None),
            "usages": self.usages,
            "msg_type": self.msg_type,
        }
