"""What people filter, sort and sum up, as statements of SQLAlchemy Core over the views of schema atlas."""

from __future__ import annotations

from datetime import date
from typing import Any
from uuid import UUID

import sqlalchemy as sa


def view(name: str, *columns: str, schema: str = "atlas") -> sa.TableClause:
    """A view or table of a schema, as far as it is read."""
    return sa.table(name, *(sa.column(column) for column in columns), schema=schema)


HISTORY = view(
    "task_history",
    "id", "title", "kind", "state", "wait_reason", "sender", "sender_key", "project_id", "parent_id", "model", "attempts",
    "failures", "tokens", "usd", "queued_at", "started_at", "finished_at", "took", "error_code", "error_message",
)  # fmt: skip
PROJECT = view("project", "id", "name", "created_at")
MEMBER = view("member", "project_id", "user_id")
DECISIONS = view(
    "decisions",
    "project", "number", "status", "title", "decided_at", "decided_by", "reason", "asked_by", "superseded_by", "superseded_at",
    "superseded_reason", "supersedes", "task_id", "project_id", "question", "constraints", "paths", "checks", "sources", "file",
)  # fmt: skip
DEVIATION = view(
    "deviation", "id", "project_id", "number", "item", "constraint_text", "reason", "commit", "reported_by", "reported_at"
)
DECISION = view("decision", "project_id", "number", "content")
COUNTS = (
    "calls", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "tokens", "usd",
    "unknown_calls", "held_calls", "held_tokens", "held_usd", "presumed_calls", "presumed_usd",
)  # fmt: skip
SPEND_KEYS = {"day": "day", "model": "model", "sender": "sender_key", "project": "project", "decision": "decision"}
"""What spend is summed up by, and the column of the view atlas.spend_by_<it>."""


def tasks(*, limit: int, state: str | None, sender: str | None, project: str | None, every: bool = False) -> sa.Select[Any]:
    """The latest questions, newest first; with every, control messages too. project: an id or a name."""
    query = sa.select(HISTORY).order_by(HISTORY.c.queued_at.desc()).limit(limit)
    if not every:
        query = query.where(HISTORY.c.kind == "chat")
    if state:
        query = query.where(HISTORY.c.state == state)
    if sender:
        query = query.where(HISTORY.c.sender_key == sender)
    if project:
        query = query.where(HISTORY.c.project_id.in_(project_ids(project)))
    return query


def decisions(project: UUID | None, status: str | None, number: int | None) -> sa.Select[Any]:
    """Decisions by project and number."""
    query = sa.select(DECISIONS).order_by(DECISIONS.c.project, DECISIONS.c.number)
    for column, value in ((DECISIONS.c.project_id, project), (DECISIONS.c.status, status), (DECISIONS.c.number, number)):
        if value is not None:
            query = query.where(column == value)
    return query


def record(project: UUID, number: int) -> sa.Select[Any]:
    """The text of a decision."""
    return sa.select(DECISION.c.content).where(DECISION.c.project_id == project, DECISION.c.number == number)


def deviations(project: UUID, number: int) -> sa.Select[Any]:
    """Deviations from a decision, oldest first."""
    query = sa.select(DEVIATION).where(DEVIATION.c.project_id == project, DEVIATION.c.number == number)
    return query.order_by(DEVIATION.c.id)


def project_ids(name: str) -> sa.Select[Any]:
    """The ids of projects with that id or name: one, or none."""
    return sa.select(PROJECT.c.id).where((sa.cast(PROJECT.c.id, sa.Text) == name) | (PROJECT.c.name == name))


def projects() -> sa.Select[Any]:
    """All projects with the number of their members."""
    members = sa.select(sa.func.count()).select_from(MEMBER).where(MEMBER.c.project_id == PROJECT.c.id).scalar_subquery()
    return sa.select(PROJECT.c.id, PROJECT.c.name, members.label("members"), PROJECT.c.created_at).order_by(PROJECT.c.name)


def spend(by: str, *, since: date | None, until: date | None) -> sa.Select[Any]:
    """Settled calls summed up by day, model, sender, project or decision; days are UTC, until is not included."""
    column = SPEND_KEYS[by]
    source = view(f"spend_by_{by}", *{"day", column}, *COUNTS)
    key = source.c[column].label(by)
    sums = (
        sa.func.coalesce(sa.func.sum(source.c[name]), 0).label("unknown" if name == "unknown_calls" else name)
        for name in COUNTS
    )
    query = sa.select(key, *sums).group_by(key).order_by(key)
    if since:
        query = query.where(source.c.day >= since)
    if until:
        query = query.where(source.c.day < until)
    return query


def replies(message_task_id: UUID) -> sa.Select[Any]:
    """Rows of architect_out for a message, in order."""
    source = view("architect_out", "id", "data", "created_at", "task_id", schema="public")
    return (
        sa.select(source.c.id, source.c.data, source.c.created_at)
        .where(source.c.task_id == message_task_id)
        .order_by(source.c.id)
    )
