"""Destinations, and tasks that end."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg

from tests.support.core import Json, ask, claim


async def destination(db: asyncpg.Connection, name: str = "topic", *, kind: str = "pubsub", where: Json | None = None,
                      since: str = "now") -> UUID:  # fmt: skip
    """A destination, of events from now on or since a time of Postgres's."""
    target = f"projects/p/topics/{name}" if kind == "pubsub" else f"https://{name}.example.com/hook"
    found: UUID = await db.fetchval(
        "insert into atlas.destination (name, kind, target, secret_name, filter, events_since) "
        "values ($1, $2, $3, $4, $5, $6::text::timestamptz) returning id",
        name, kind, target, "ATLAS_WEBHOOK_SECRET" if kind == "webhook" else None, where or {}, since,
    )  # fmt: skip
    return found


async def hook(db: asyncpg.Connection, url: str, **columns: Any) -> UUID:
    """A webhook, of all events that there are."""
    found: UUID = await db.fetchval(
        "insert into atlas.destination (name, kind, target, secret_name, filter, events_since) "
        "values ($1, 'webhook', $2, $3, $4, '-infinity') returning id",
        columns.get("name", "hook"), url, columns.get("secret_name", "ATLAS_WEBHOOK_SECRET"), columns.get("filter", {}),
    )  # fmt: skip
    return found


async def finish(db: asyncpg.Connection, count: int = 1, **metadata: Any) -> list[UUID]:
    """Questions, asked and answered: two events each."""
    tasks = [await ask(db, **metadata) for _ in range(count)]
    for task in await claim(db, count):
        await db.execute("select testing.complete_task($1, 'x')", task["attempt_id"])
    return tasks
