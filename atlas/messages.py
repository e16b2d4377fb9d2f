"""The bus contract as pydantic models: what `atlas schema` prints, and what docs/event_examples are tested against.

The database's check (atlas.check_message) is the stand-in; this is its published form.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from atlas.ids import new_id

Status = Literal["queued", "in_progress", "needs_input", "completed", "failed", "cancelled", "dead_lettered", "ok"]


class ChunkInfo(BaseModel):
    """A reply in parts."""

    seq: int = Field(ge=0)
    of: int | None = None
    final: bool = False


class Problem(BaseModel):
    """Why a task ended without a reply."""

    code: str
    message: str


class CitedSource(BaseModel):
    """A passage that was given to the model."""

    id: str
    path: str
    title: str
    cited: bool


class ReadFirst(BaseModel):
    """How a question stands to what is decided."""

    verdict: Literal["decided", "changes", "overlaps", "new", "unknown"]
    decisions: list[int] | None = None
    drafts: list[UUID] | None = None
    opening: str | None = Field(None, description="the line of the reply that says so")


class Record(BaseModel):
    """What an ADR would bind."""

    constraints: list[str]
    paths: list[str]
    checks: list[str]


class ClaimCounts(BaseModel):
    """Sentences of an ADR's Context and Decision. unsupported: cited, and the source does not hold it."""

    cited: int
    inferred: int
    assumed: int
    unmarked: int
    unsupported: list[dict[str, Any]]


class Metadata(BaseModel):
    """Everything beside the text. Fields of schema version 2 are optional."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"patternProperties": {"^x_": {}}, "additionalProperties": False}
    )

    tokens: int | None = None
    model: str | None = None
    parent_id: UUID | None = None
    status: Status | None = None
    schema_ver: Literal[1, 2] = 1
    chunk: ChunkInfo | None = None
    sources: list[CitedSource] | None = None
    usage: dict[str, Any] | None = None
    error: Problem | None = None
    priority: int | None = Field(None, ge=-100, le=100, description="service role only; higher goes first")
    reply_to: str | None = Field(None, description="service role only; an address of a router")
    sender_key: str | None = Field(None, description="service role only; whose turn and budget it is")
    run_after: datetime | None = None
    completion_window: Literal["soonest", "2h", "8h"] | None = Field(
        None, description="2h and 8h are cheaper: the reply is not streamed, and comes within that time"
    )
    kind: str | None = Field(
        None,
        description="of a question: adr, answer, comparison, review or plan, else Atlas chooses; of a reply: that, or refusal, "
        "passages, decided (the decision itself: no model was called)",
    )
    ask: dict[str, Any] | None = Field(None, description="of a reply that is needs_input: the question back, {text, choices}")
    kind_chosen: str | None = Field(None, description="why Atlas chose this kind")
    revises: UUID | None = Field(None, description="the task whose reply this one revises, section by section")
    replays: UUID | None = Field(
        None, description="the task whose prompt is asked again, by the model that `model` names, if any"
    )
    sections: list[str] | None = Field(None, description="of a revision: the sections that were written anew")
    anew: bool | None = Field(None, description="answer also what is decided already")
    prompts: str | None = Field(None, description="the version of the prompts")
    read_first: ReadFirst | None = None
    record: Record | None = None
    claims: ClaimCounts | None = None
    work_items: list[dict[str, Any]] | None = Field(None, description="of a plan: docs/schemas/plan.json")
    warnings: list[str] | None = None
    traceparent: str | None = None
    project: str | None = Field(None, description="id or name of one of the sender's projects")
    truncated: bool | None = None


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    task_id: UUID
    role: str = Field(min_length=1, description="architect; messages of another role are kept and not queued")
    content: str
    metadata: Metadata | None = None


class Chat(_Message):
    """A question to Atlas."""

    msg_type: Literal["chat"]
    content: str = Field(min_length=1)


class Spec(_Message):
    """What Atlas answers: a Markdown ADR, empty while it is in progress or when it failed."""

    msg_type: Literal["spec"]


class Control(_Message):
    """A command, as JSON in content: flush_cache, heartbeat, set_budget, escalate, cancel, pause, resume."""

    msg_type: Literal["control"]


Message = TypeAdapter[Chat | Spec | Control](Annotated[Chat | Spec | Control, Field(discriminator="msg_type")])


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a message."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Atlas bus message",
        **Message.json_schema(),
    }


def chat(question: str, *, task_id: UUID | None = None, **metadata: object) -> dict[str, Any]:
    """A question as it is inserted; metadata that is None is left out."""
    known = {key: value for key, value in metadata.items() if value is not None}
    two = set(known) - {"parent_id", "model", "tokens", "status"}
    return {
        "task_id": str(task_id or new_id()),
        "role": "architect",
        "msg_type": "chat",
        "content": question,
        "metadata": {"schema_ver": 2 if two else 1, **known},
    }


def control(content: str, *, task_id: UUID | None = None) -> dict[str, Any]:
    """A control message with the JSON of its command."""
    return {
        "task_id": str(task_id or new_id()),
        "role": "architect",
        "msg_type": "control",
        "content": content,
        "metadata": {"schema_ver": 1},
    }
