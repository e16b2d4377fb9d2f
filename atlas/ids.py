"""Ids of tasks: how they are made, and how people name them."""

from __future__ import annotations

import secrets
import time
from uuid import UUID


def new_id(now_ms: int | None = None, random: bytes | None = None) -> UUID:
    """A UUIDv7: ids that are made together lie together in Postgres's indexes. now_ms: Unix milliseconds; random: ten bytes."""
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    tail = bytearray(secrets.token_bytes(10) if random is None else random)
    tail[0] = 0x70 | tail[0] & 0x0F
    tail[2] = 0x80 | tail[2] & 0x3F
    return UUID(bytes=now_ms.to_bytes(6, "big") + bytes(tail))


def short_id(task_id: object) -> str:
    """What people name a task by: its millisecond, and twelve random bits of those that were made in the same one."""
    return str(task_id)[:18]


def as_uuid(text: object) -> UUID | None:
    """The text as a UUID, None where it is not one."""
    try:
        return UUID(str(text))
    except ValueError:
        return None
