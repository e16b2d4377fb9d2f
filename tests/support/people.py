"""Two people, and what they do under their logins."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg

from tests.support.core import Database

ANN, BOB, CY = (UUID(f"00000000-0000-4000-8000-00000000000{n}") for n in (1, 2, 3))


@asynccontextmanager
async def acting(database: Database, role: str, user: UUID | None = None) -> AsyncIterator[asyncpg.Connection]:
    """A connection as PostgREST makes it: the role, and the claims of the token."""
    async with database.connect() as connection:
        claims = {"role": role} | ({"sub": str(user)} if user else {})
        if role != "postgres":  # an operator's own connection has no token
            await connection.execute("select set_config('request.jwt.claims', $1, false)", json.dumps(claims))
        await connection.execute(f"set role {role}")
        yield connection
