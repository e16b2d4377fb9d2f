"""Connections to Postgres that survive it: a pool whose calls are tried again until Postgres is back.

A lost connection is a pause. The SQL functions are idempotent by attempt, so a call whose answer was lost can be made again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import orjson
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay

from atlas.backoff import full_jitter
from atlas.database.protocol import check_protocol
from atlas.errors import SQLSTATES, AtlasError, DatabaseDown, RefusedError, SchemaMismatch
from atlas.task import JsonObject

log = logging.getLogger("atlas.postgres")
Result = TypeVar("Result")

SUPAVISOR_PORT = 6543
"""Where Supabase's pooler serves its transaction mode."""

CONNECTION_LOST = (
    ConnectionError,
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # its own protocol is out of step: the connection was cut in the middle of something
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)
TRY_AGAIN = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidAuthorizationSpecificationError,
)
"""The server's trouble, not the call's: a failover, a full disk, a time-out, a password that is being rotated."""


POOLED = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)
"""What prepared statements meet behind a transaction pooler, where the next transaction has another server connection."""


RETRIED = (*CONNECTION_LOST, *TRY_AGAIN, *POOLED, TimeoutError)


class UniqueViolated(RefusedError):
    """The row is there already."""


UNKNOWN_TO_IT = {"3F000", "42P01", "42703", "42704", "42883"}
"""SQLSTATEs of a schema, table, column, type and function that the database does not have."""


def translate(error: asyncpg.PostgresError) -> AtlasError:
    """The error of the tree for an SQLSTATE of the migrations; RefusedError for any other."""
    if error.sqlstate in UNKNOWN_TO_IT:
        return SchemaMismatch(f"the database's schema is that of another version of Atlas ({error})", "ask `atlas doctor`")
    kind = UniqueViolated if error.sqlstate == "23505" else SQLSTATES.get(error.sqlstate or "", RefusedError)
    return kind(str(getattr(error, "message", None) or error), str(getattr(error, "hint", None) or ""))


async def set_codecs(connection: asyncpg.Connection) -> None:
    """JSON travels as Python values."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=_encoded, decoder=_decoded, schema="pg_catalog")


def _decoded(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # a number that no double holds, or deep nesting
        return json.loads(text)


def _encoded(value: object) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # what is not Unicode, or too large for 64 bits: Postgres says what is wrong with it
        return json.dumps(value)


async def _keep(_connection: asyncpg.Connection) -> None:
    """Nothing that a call does here outlives its transaction, which asyncpg rolls back itself: a connection is returned without
    the round trip that resets it."""


Password = Callable[[], str | None] | None
"""Says the password of now, where it is another one than that of the URL."""


class Pool:
    """Calls over a pool of connections. Raises the errors of atlas.errors."""

    def __init__(self, url: str, *, size: int, patience: float, password: Password = None) -> None:
        self._url = url
        self._password = password
        self._size = size
        self._patience = patience
        self._away = False
        self._waiting = 0
        self.pooled = urlsplit(url).port == SUPAVISOR_PORT
        """Behind a transaction pooler: no prepared statement is named. asyncpg holds each call's parse, bind and execute
        together until their one Sync, so that they meet on one server connection."""
        self._pool: asyncpg.Pool

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str, *, size: int = 8, patience: float = 600.0, password: Password = None
    ) -> AsyncIterator[Pool]:  # fmt: skip
        """Opens the pool. password: asked for at each new connection.

        Raises DatabaseDown when Postgres does not answer now, SchemaMismatch when its schema does not serve this version.
        """
        pool = cls(url, size=size, patience=patience, password=password)
        try:
            try:
                pool._pool = await pool._open_checked()
            except POOLED:
                pool.pooled = True
                pool._pool = await pool._open_checked()
        except (*CONNECTION_LOST, asyncpg.PostgresError, TimeoutError) as error:
            raise DatabaseDown(f"Postgres cannot be reached ({error})", "check DATABASE_URL, or run `atlas up`") from error
        try:
            yield pool
        finally:
            pool._pool.terminate()

    async def _open_checked(self) -> asyncpg.Pool:
        opened = await self._open()
        try:
            async with opened.acquire() as connection:
                await check_protocol(connection)
        except BaseException:
            opened.terminate()
            raise
        return opened

    async def _open(self) -> asyncpg.Pool:
        return await asyncpg.create_pool(
            self._url, min_size=1, max_size=self._size, init=set_codecs, reset=_keep, password=self._password,
            server_settings={"application_name": "atlas"}, command_timeout=60, timeout=10,
            statement_cache_size=0 if self.pooled else 1024,
        )  # fmt: skip

    async def _adapt(self, stale: asyncpg.Pool) -> None:
        """Prepares nothing from now on."""
        if self._pool is stale:
            self.pooled = True
            log.warning("prepared statements get lost here (a transaction pooler?): none are used from now on")
            self._pool = await self._open()
            stale.terminate()

    async def call(self, work: Callable[[asyncpg.Connection], Awaitable[Result]]) -> Result:
        try:
            try:
                return await self._once(work)
            except RETRIED as error:
                # what fails is rare: the machinery of retries is set up for it alone
                return await self._again(work, error)
        except (*CONNECTION_LOST, *TRY_AGAIN, TimeoutError) as error:
            raise DatabaseDown(f"Postgres is away ({error})", "the worker goes on when it is back") from error
        except asyncpg.PostgresError as error:
            raise translate(error) from error

    async def _once(self, work: Callable[[asyncpg.Connection], Awaitable[Result]]) -> Result:
        pool = self._pool
        try:
            self._waiting += 1
            try:
                connection = await pool.acquire()
            finally:
                self._waiting -= 1
            try:
                result = await work(connection)
            finally:
                await pool.release(connection)
        except POOLED:
            await self._adapt(pool)
            raise
        if self._away:
            self._away = False
            log.warning("Postgres is back")
        return result

    async def _again(self, work: Callable[[asyncpg.Connection], Awaitable[Result]], failure: Exception) -> Result:
        """What failed, until it works or patience ends."""
        failures: list[Exception] = [failure]

        async def again() -> Result:
            if failures:
                # the first failure counts as an attempt: it is waited for before the next one
                raise failures.pop()
            return await self._once(work)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(RETRIED), wait=full_jitter(0.05, 2), stop=stop_after_delay(self._patience),
            before_sleep=self._say_away, reraise=True,
        )  # fmt: skip
        return await retrying(again)

    def _say_away(self, state: RetryCallState) -> None:
        if not self._away and state.outcome is not None:
            self._away = True
            log.warning("Postgres is away (%s): trying again", state.outcome.exception())

    @property
    def size(self) -> int:
        """How many connections it opens at most."""
        return self._size

    def counts(self) -> tuple[int, int, int]:
        """Connections in use, those that are free, and calls that wait for one."""
        # a call that is let in at once waits for no time
        idle = self._pool.get_idle_size()
        return self._pool.get_size() - idle, idle, self._waiting

    def hurry(self, seconds: float = 2.0) -> None:
        """From now on a lost connection is waited for so long at most: the process is about to end."""
        self._patience = seconds

    async def ping(self) -> None:
        """One round trip to a function of ours: Postgres is there, migrated, and lets us in."""
        await self.value("select atlas.today()")

    async def value(self, query: str, *arguments: object) -> Any:
        """The first column of the first row of one call."""
        return await self.call(lambda connection: connection.fetchval(query, *arguments))

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """All rows of one call."""
        return await self.call(lambda connection: connection.fetch(query, *arguments))

    async def rows_as(self, role: str, claims: JsonObject, query: str, *arguments: object) -> list[JsonObject]:
        """All rows of one call as PostgREST would make it for a token's claims: row level security decides."""

        async def work(connection: asyncpg.Connection) -> list[JsonObject]:
            async with connection.transaction():
                await connection.execute(f"set local role {role}")
                await connection.execute("select set_config('request.jwt.claims', $1, true)", json.dumps(claims))
                return [dict(row) for row in await connection.fetch(query, *arguments)]

        return await self.call(work)
