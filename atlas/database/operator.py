"""An operator's connection: somebody who may read everything. SQLAlchemy Core over asyncpg."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from atlas.database.pool import CONNECTION_LOST, translate
from atlas.errors import DatabaseDown
from atlas.tasks.values import Row


class Operator:
    """One connection, for one statement at a time. Raises the errors of atlas.errors.

    Whoever is cancelled leaves the statement to its end: one that is cut off takes the connection with it, and with that the
    statement of somebody else who waits for his turn.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[list[Row]]] = set()

    async def rows(self, statement: sa.Executable) -> list[Row]:
        """All rows of a statement."""
        running = asyncio.create_task(self._rows(statement))
        self._running.add(running)
        running.add_done_callback(self._ended)
        return await asyncio.shield(running)

    async def _rows(self, statement: sa.Executable) -> list[Row]:
        async with self._turn:
            result = await self._connection.execute(statement)
            return [dict(row._mapping) for row in result]

    def _ended(self, running: asyncio.Task[list[Row]]) -> None:
        self._running.discard(running)
        if not running.cancelled():
            running.exception()  # seen: who asked may be gone

    async def close(self, seconds: float = 1.0) -> None:
        """Waits for statements that were left, and cuts off those that take longer."""
        if self._running:
            await asyncio.wait({*self._running}, timeout=seconds)
        for running in {*self._running}:
            running.cancel()
        if self._running:
            await asyncio.wait({*self._running})

    async def first(self, statement: sa.Executable) -> Any:
        """The first column of the first row; None where there is no row."""
        rows = await self.rows(statement)
        return next(iter(rows[0].values())) if rows else None

    async def call(self, function: str, *arguments: object, schema: str = "atlas") -> Any:
        """What a function of a schema answers; a row of one that answers with rows."""
        return await self.first(sa.select(_called(schema, function, arguments)))

    async def call_rows(self, function: str, *arguments: object, schema: str = "atlas") -> list[Row]:
        """All rows that a function of a schema answers with, its columns by name."""
        source = _called(schema, function, arguments).alias("found")
        return await self.rows(sa.select(sa.literal_column("found.*")).select_from(source))


def _called(schema: str, function: str, arguments: tuple[object, ...]) -> sa.Function[Any]:
    return getattr(getattr(sa.func, schema), function)(*(_bound(one) for one in arguments))  # type: ignore[no-any-return]


def _bound(value: object) -> object:
    if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
        return sa.bindparam(None, value, type_=JSONB)
    if isinstance(value, list):
        kind = sa.Uuid if value and isinstance(value[0], UUID) else sa.BigInteger
        return sa.bindparam(None, value, type_=sa.ARRAY(kind))
    return value


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Operator]:
    """Raises DatabaseDown when Postgres does not answer, and the errors of atlas.errors for what it refuses."""

    # asyncpg reads the URL itself: SQLAlchemy's dialect does not know sslmode and its kin
    async def opened(**_: object) -> asyncpg.Connection:
        return await asyncpg.connect(url, timeout=10, statement_cache_size=0, server_settings={"application_name": "atlas cli"})

    # no statement has a name, so that a transaction pooler may stand between
    names = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": lambda: ""}
    engine = create_async_engine(
        "postgresql+asyncpg://",
        connect_args={"async_creator_fn": opened, **names},
        isolation_level="AUTOCOMMIT",
        pool_size=1,
    )
    try:
        try:
            connection = await engine.connect()
        except (*CONNECTION_LOST, TimeoutError, DBAPIError, asyncpg.PostgresError) as error:
            reason = f"Postgres cannot be reached ({_cause(error)})"
            raise DatabaseDown(reason, "check DATABASE_URL, or run `atlas up`") from error
        operator = Operator(connection)
        try:
            yield operator
        finally:
            await operator.close()
            await connection.close()
    except (InterfaceError, OperationalError, ConnectionResetError) as error:
        raise DatabaseDown(f"the connection to Postgres was lost ({_cause(error)})", "run it again") from error
    except DBAPIError as error:
        cause = _cause(error)
        if isinstance(cause, asyncpg.UndefinedTableError | asyncpg.UndefinedFunctionError | asyncpg.InvalidSchemaNameError):
            raise DatabaseDown("the database has no Atlas in it", "run `atlas migrate`") from error
        raise (translate(cause) if isinstance(cause, asyncpg.PostgresError) else error) from error
    finally:
        await engine.dispose()


def _cause(error: BaseException) -> BaseException:
    """The driver's own error beneath SQLAlchemy's."""
    below = getattr(error, "orig", None) or error
    return below.__cause__ if isinstance(below.__cause__, asyncpg.PostgresError) else below
