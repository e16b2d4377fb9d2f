"""What operators' commands read, as statements of SQLAlchemy Core."""

from __future__ import annotations

from datetime import date
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from atlas.tasks.statements import HISTORY, view

_WORKER = view("worker", "name", "version", "state", "concurrency", "models", "seen_at")
_LETTER = view("dead_letters", "id", "failures", "error_code", "error_message", "finished_at", "title")
_OUTBOX = view(
    "outbox", "id", "event_id", "task_id", "destination_id", "rejections", "last_error", "created_at", "state"
)  # fmt: skip
_DESTINATION = view("destination", "id", "name", "kind", "enabled", "secret_name")
_STATUS = view(
    "outbox_status", "destination", "kind", "enabled", "failures", "open_until", "last_error", "last_sent_at", "pending",
    "dead", "oldest",
)  # fmt: skip
_POST = view("post", "task_id", "part", "url")
_SPEND = view(
    "spend", "id", "task_id", "attempt_id", "corrects", "state", "known", "model", "day", "response_id",
    "reserved_tokens", "tokens",
)  # fmt: skip
_AUDIT = view("audit", "id", "xact", "task_id", "seq", "event", "actor", "at", "detail", "prev_hash", "hash")
_CONTROL = view("control", "keep_tasks", "keep_texts")
_SEAL = view("audit_checkpoint", "id", "upto", "rows", "digest", "prev_mac", "mac")


def workers_alive() -> sa.Select[Any]:
    """Workers that were seen in the last two minutes."""
    recent = _WORKER.c.seen_at > sa.func.now() - sa.text("interval '2 minutes'")
    return sa.select(_WORKER).where(_WORKER.c.state != "stopped", recent).order_by(_WORKER.c.name)


def open_calls(since: date) -> sa.Select[Any]:
    """Calls since a UTC day of which nobody knows what they used: held, unknown or presumed not made, and not corrected."""
    correction = _SPEND.alias("correction")
    corrected = sa.exists(sa.select(correction.c.id).where(correction.c.corrects == _SPEND.c.id))
    unsure = sa.or_(_SPEND.c.state == "held", _SPEND.c.known.in_(("unknown", "presumed_none")))
    return sa.select(_SPEND).where(_SPEND.c.day >= since, _SPEND.c.corrects.is_(None), unsure, ~corrected).order_by(_SPEND.c.id)


def booked_since(day: date) -> sa.Select[Any]:
    """Tokens that the books hold since a UTC day, by model."""
    return sa.select(_SPEND.c.model, sa.func.sum(_SPEND.c.tokens).label("tokens")).where(
        _SPEND.c.day >= day, _SPEND.c.state == "settled"
    ).group_by(_SPEND.c.model)  # fmt: skip


def dead_letters() -> sa.Select[Any]:
    """Tasks that failed for good, the latest first."""
    return sa.select(_LETTER).order_by(_LETTER.c.finished_at.desc())


def dead_rows() -> sa.Select[Any]:
    """Rows of the outbox that were refused for good."""
    joined = _OUTBOX.outerjoin(_DESTINATION, _DESTINATION.c.id == _OUTBOX.c.destination_id)
    columns = (_OUTBOX.c[name] for name in ("id", "event_id", "task_id", "rejections", "last_error", "created_at"))
    return (
        sa.select(*columns, _DESTINATION.c.name.label("destination"))
        .select_from(joined)
        .where(_OUTBOX.c.state == "dead")
        .order_by(_OUTBOX.c.id)
    )


def destinations_enabled() -> sa.Select[Any]:
    """How many destinations are enabled."""
    return sa.select(sa.func.count()).select_from(_DESTINATION).where(_DESTINATION.c.enabled)


def webhook_secrets() -> sa.Select[Any]:
    """The names of the secrets that enabled webhooks are signed with."""
    return sa.select(_DESTINATION.c.secret_name).distinct().where(_DESTINATION.c.enabled, _DESTINATION.c.kind == "webhook")


def outbox_status() -> sa.Select[Any]:
    """Each destination with its backlog, and whether its breaker is open."""
    return sa.select(_STATUS, (_STATUS.c.open_until > sa.func.now()).label("open"))


def event_state(event: UUID) -> sa.Select[Any]:
    """What became of an event."""
    return sa.select(_OUTBOX.c.state).where(_OUTBOX.c.event_id == event).limit(1)


def post_urls(task: UUID, part: str) -> sa.Select[Any]:
    """Where the posts of a task are. part: a pattern of LIKE."""
    return (
        sa.select(_POST.c.url)
        .where(_POST.c.task_id == task, _POST.c.part.like(part), _POST.c.url.is_not(None))
        .order_by(sa.func.length(_POST.c.part), _POST.c.part)
    )


def seals(upto: str | None = None) -> sa.Select[Any]:
    """The seals of the audit, in order; upto: of transactions below this one."""
    columns = (_SEAL.c[name] for name in ("id", "rows", "digest", "prev_mac", "mac"))
    query = sa.select(*columns, sa.cast(_SEAL.c.upto, sa.Text).label("upto")).order_by(_SEAL.c.id)
    return query if upto is None else query.where(_SEAL.c.upto <= _transaction(upto))


def ended_transactions() -> sa.Select[Any]:
    """All transactions below this one are over."""
    return sa.select(sa.cast(sa.func.atlas.ended_xacts(), sa.Text))


def count_audit(upto: str) -> sa.Select[Any]:
    """How many rows of the audit the transactions below this one wrote."""
    return sa.select(sa.func.count()).select_from(_AUDIT).where(_AUDIT.c.xact < _transaction(upto))


def audit_after(row: int, upto: str, limit: int) -> sa.Select[Any]:
    """The next rows of the audit, with the texts that were hashed."""
    texts = [sa.cast(_AUDIT.c[name], sa.Text).label(name) for name in ("xact", "detail")]
    at = sa.cast(sa.extract("epoch", sa.cast(_AUDIT.c.at, sa.DateTime(timezone=True))), sa.Text).label("at")
    plain = (_AUDIT.c[name] for name in ("id", "task_id", "seq", "event", "actor", "prev_hash", "hash"))
    after = sa.and_(_AUDIT.c.id > row, _AUDIT.c.xact < _transaction(upto))
    return sa.select(*plain, *texts, at).where(after).order_by(_AUDIT.c.id).limit(limit)


def _transaction(upto: str) -> sa.ColumnElement[Any]:
    return sa.text("cast(cast(:upto as text) as xid8)").bindparams(upto=upto)  # type: ignore[return-value]


def chain_ends() -> sa.Select[Any]:
    """The last row of each task's chain: task, its number, its hash; and whether the task is still to end."""
    last = sa.select(_AUDIT.c.task_id, _AUDIT.c.seq, _AUDIT.c.hash).where(_AUDIT.c.task_id.is_not(None))
    last = last.distinct(_AUDIT.c.task_id).order_by(_AUDIT.c.task_id, _AUDIT.c.seq.desc())
    ends = last.subquery()
    still = sa.exists().where(HISTORY.c.id == ends.c.task_id, HISTORY.c.state.in_(("queued", "running")))
    return sa.select(ends, still.label("open"))


def worst_cost(model: str, input_tokens: int, output_tokens: int, tier: str) -> sa.Select[Any]:
    """The most that a call may cost today, in US dollars; null where the model has no price."""
    price = sa.func.atlas.price_on(model, sa.func.atlas.today())
    factor = sa.func.atlas.price_factor_of(tier, "soonest")
    return sa.select(sa.func.atlas.worst_cost(price, input_tokens, output_tokens, factor))


def retention() -> sa.Select[Any]:
    """How long tasks and their texts are kept."""
    return sa.select(_CONTROL)
