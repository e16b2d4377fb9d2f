"""What leaves: an event for a destination, and what a destination may answer.

Its SQL: migrations/*_events.sql and *_relays.sql. Errors:

DeliveryError
├── Rejected      the destination will not have this event; three times, and it is a dead letter
├── Postponed     the destination asks to be given this event later; nothing is wrong with either
└── Unreachable   the destination is in trouble, not the event; it opens the destination's breaker
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from atlas.task import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A leased row of atlas.outbox. id: the row; event_id: the same for every destination and at every replay."""

    id: int
    event_id: UUID
    event_kind: str
    task_id: UUID | None
    ordering_key: str
    payload: JsonObject
    rejections: int
    sender_key: str
    created_at: datetime
    traceparent: str | None = None
    """The context that a receiver goes on with."""

    @property
    def type(self) -> str:
        """Its name for a receiver, such as spec.completed, control.completed or audit_seal."""
        if self.event_kind != "message":
            return self.event_kind
        status = (self.payload.get("metadata") or {}).get("status") or "none"
        return f"{self.payload.get('msg_type')}.{status}"

    @property
    def attributes(self) -> dict[str, str]:
        """What a subscriber can filter on. The sender is a hash: whoever knows the sender can tell, and nobody else."""
        metadata = self.payload.get("metadata") or {}
        found = {
            "event_id": str(self.event_id),
            "task_id": str(self.payload.get("task_id") or ""),
            "msg_type": str(self.payload.get("msg_type") or ""),
            "status": str(metadata.get("status") or ""),
            "schema_ver": str(metadata.get("schema_ver") or ""),
            "sender_hash": hashlib.sha256(self.sender_key.encode()).hexdigest()[:32],
        }
        if self.event_kind != "message":
            found |= {"kind": self.event_kind}
        if self.traceparent:
            # where Google's own subscribers look for it
            found |= {"googclient_traceparent": self.traceparent}
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A row of atlas.destination that is enabled."""

    id: UUID
    name: str
    kind: Literal["pubsub", "webhook"]
    target: str
    secret_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How leased rows ended: ids of rows, and for those that did not arrive what was said."""

    sent: list[int] = field(default_factory=list)
    rejected: list[JsonObject] = field(default_factory=list)
    failed: list[JsonObject] = field(default_factory=list)
    released: list[int] = field(default_factory=list)


class DeliveryError(Exception):
    """An event did not arrive."""


class Rejected(DeliveryError):
    """The destination refused this event."""


class Later(DeliveryError):
    """It counts against no row. retry_after: seconds that the destination asked for."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Postponed(Later):
    """This event has to wait, others need not."""


class Unreachable(Later):
    """The destination is away, slow, or refuses everything."""
