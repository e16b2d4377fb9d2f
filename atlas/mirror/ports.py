"""What the mirror asks of the world outside: the outbox, and whoever is sent to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from atlas.mirror.events import Destination, Event, Settlement
from atlas.task import JsonObject


class Target(Protocol):
    """Sends to one destination. Raises DeliveryError and nothing else."""

    limit: int
    """How many events of one task one call may carry."""
    timeout: float
    """Seconds that one call may take at most."""
    room: int
    """How many events may be under way at once: no call waits for a connection."""

    async def send(self, events: Sequence[Event]) -> None:
        """Returns when all of them are confirmed. Where it raises, none counts as sent."""

    async def close(self) -> None:
        """Closes its connections."""


class Outbox(Protocol):
    """The outbox: claims rows under a lease, settles them. Raises DatabaseDown and RefusedError."""

    async def list_destinations(self) -> list[Destination]:
        """atlas.list_destinations in SQL."""

    async def provide_topic(self, target: str) -> None:
        """Makes the destination `pubsub` with this topic, unless it is there."""

    async def pending(self) -> list[JsonObject]:
        """How many events have yet to leave, and since when, by destination: `outbox` of atlas.queue_metrics in SQL."""

    async def adopt_outbox(self) -> int:
        """Gives rows that were kept for want of a destination to those that are there now."""

    async def claim_outbox(self, lease_owner: UUID, destination: UUID, limit: int, lease: float) -> list[Event]:
        """Leases rows, oldest first. lease: seconds."""

    async def settle_outbox(self, lease_owner: UUID, settlements: Sequence[Settlement]) -> int:
        """Settles many in one commit; answers how many rows were sent or rejected under this lease."""

    async def record_destination(
        self, destination: UUID, *, ok: bool, error: str | None = None, seconds: float = 0
    ) -> datetime | None:
        """Notes a success or a failure; answers until when the breaker is open now."""

    async def trim_outbox(self, keep_days: float) -> int:
        """atlas.trim_outbox in SQL."""

    async def trim_inbound(self) -> int:
        """atlas.trim_inbound in SQL."""

    async def trim_messages(self) -> int:
        """Forgets old Realtime messages where nobody else does."""

    async def report_progress(self, every: float) -> int:
        """Emits signs of progress of tasks that a router waits for, each at most once in so many seconds."""

    async def raise_notifications(self) -> int:
        """atlas.raise_notifications in SQL."""
