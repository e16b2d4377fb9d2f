"""The outbox in Postgres: calls of the functions of migrations/*_destinations.sql, *_events.sql and *_relays.sql, by name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from atlas.database.pool import Pool
from atlas.mirror.events import Destination, Event, Settlement
from atlas.task import JsonObject


class PostgresOutbox:
    """atlas.mirror.ports.Outbox, over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list_destinations(self) -> list[Destination]:
        rows = await self._pool.rows("select * from atlas.list_destinations()")
        return [Destination(**dict(row)) for row in rows]

    async def provide_topic(self, target: str) -> None:
        """Makes the destination `pubsub` with this topic, unless it is there."""
        await self._pool.value("select atlas.provide_topic($1)", target)

    async def pending(self) -> list[JsonObject]:
        """How many events have yet to leave, and since when, by destination."""
        return list((await self._pool.value("select atlas.queue_metrics()"))["outbox"])

    async def adopt_outbox(self) -> int:
        """Gives rows that were kept for want of a destination to those that are there now."""
        return int(await self._pool.value("select atlas.adopt_outbox()"))

    async def claim_outbox(self, lease_owner: UUID, destination: UUID, limit: int, lease: float) -> list[Event]:
        """Leases rows, oldest first. lease: seconds."""
        rows = await self._pool.rows(
            "select * from atlas.claim_outbox($1, $2, $3, $4)", lease_owner, destination, limit, timedelta(seconds=lease)
        )
        return [Event(**dict(row)) for row in rows]

    async def settle_outbox(self, lease_owner: UUID, settlements: Sequence[Settlement]) -> int:
        """Settles many in one commit; answers how many rows were sent or rejected under this lease."""
        return int(
            await self._pool.value(
                "select atlas.settle_outbox($1, $2, $3, $4, $5)", lease_owner,
                [row for one in settlements for row in one.sent], [row for one in settlements for row in one.rejected],
                [row for one in settlements for row in one.failed], [row for one in settlements for row in one.released],
            )
        )  # fmt: skip

    async def record_destination(
        self, destination: UUID, *, ok: bool, error: str | None = None, seconds: float = 0
    ) -> datetime | None:
        """Notes a success or a failure; answers until when the breaker is open now."""
        found: datetime | None = await self._pool.value(
            "select atlas.record_destination($1, $2, $3, $4)", destination, ok, error, seconds
        )
        return found

    async def trim_outbox(self, keep_days: float) -> int:
        return int(await self._pool.value("select atlas.trim_outbox($1)", timedelta(days=keep_days)))

    async def trim_inbound(self) -> int:
        return int(await self._pool.value("select atlas.trim_inbound()"))

    async def trim_messages(self) -> int:
        """Forgets old Realtime messages where nobody else does."""
        return int(await self._pool.value("select atlas.trim_messages()"))

    async def report_progress(self, every: float) -> int:
        """Emits signs of progress of tasks that a router waits for, each at most once in so many seconds."""
        return int(await self._pool.value("select atlas.report_progress($1)", timedelta(seconds=every)))

    async def raise_notifications(self) -> int:
        return int(await self._pool.value("select atlas.raise_notifications()"))
