"""Queries as a user makes them."""

from __future__ import annotations

import json
from uuid import UUID

import asyncpg

from tests.support.core import Database


async def acting(database: Database, user: UUID, query: str, *arguments: object) -> list[asyncpg.Record]:
    """A query as PostgREST makes it for a user."""
    async with database.connect() as connection, connection.transaction():
        claims = json.dumps({"sub": str(user), "role": "authenticated"})
        await connection.execute("select set_config('request.jwt.claims', $1, true)", claims)
        await connection.execute("set local role authenticated")
        return list(await connection.fetch(query, *arguments))
