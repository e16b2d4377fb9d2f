"""Workers and the schema are upgraded apart: which protocol each speaks, and what to do where they do not meet.

A schema serves its own protocol and that of the release before it: the migrations of a release come first, and its workers
follow one by one. Its SQL: migrations/*_protocol.sql.
"""

from __future__ import annotations

import asyncpg

from atlas import __version__
from atlas.errors import SchemaMismatch

PROTOCOL = 2
"""What this version speaks. A release that changes how a worker calls the SQL functions counts it up."""


async def check_protocol(connection: asyncpg.Connection) -> None:
    """Raises SchemaMismatch for a database that does not serve this version. Changes nothing."""
    try:
        served = await connection.fetchval("select atlas.protocols()")
    except (asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError) as error:
        raise SchemaMismatch("the database has no schema of Atlas yet, or one before 0.4", "run `atlas migrate`") from error
    speaks, oldest, newest = f"Atlas {__version__} speaks protocol {PROTOCOL}", served.lower, served.upper - 1
    if newest < PROTOCOL:
        raise SchemaMismatch(
            f"{speaks}, and the database serves {oldest} to {newest} so far",
            "run `atlas migrate` of this version first",
        )
    if oldest > PROTOCOL:
        raise SchemaMismatch(
            f"{speaks}, and the database no longer serves it ({oldest} to {newest})",
            "install a newer Atlas, the version that migrated the database",
        )
