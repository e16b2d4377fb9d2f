"""The bus and the state in Postgres: calls of the SQL functions of migrations/, named as they are.

A lost connection is a pause: calls are tried again until Postgres is back. The functions are idempotent by attempt, so
a call whose answer was lost can be made again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_delay, wait_random_exponential

from atlas.errors import SQLSTATES, AtlasError, DatabaseDown, RefusedError
from atlas.models import Model, read_models
from atlas.task import AttemptId, Carried, ClaimedTask, Exchange, JsonObject, TaskId, Usage

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


class UniqueViolated(RefusedError):
    """The row is there already."""


def translate(error: asyncpg.PostgresError) -> AtlasError:
    """The error of the tree for an SQLSTATE of the migrations; RefusedError for any other."""
    kind = UniqueViolated if error.sqlstate == "23505" else SQLSTATES.get(error.sqlstate or "", RefusedError)
    return kind(str(getattr(error, "message", None) or error), str(getattr(error, "hint", None) or ""))


async def set_codecs(connection: asyncpg.Connection) -> None:
    """JSON travels as Python values."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


class Bus:
    """The SQL functions of schema atlas, for a worker. Raises the errors of atlas.errors."""

    def __init__(self, url: str, *, size: int, patience: float) -> None:
        self._url = url
        self._size = size
        self._patience = patience
        self._away = False
        self.pooled = urlsplit(url).port == SUPAVISOR_PORT
        """Behind a transaction pooler: no prepared statement is named. asyncpg holds each call's parse, bind and execute
        together until their one Sync, so that they meet on one server connection."""
        self._pool: asyncpg.Pool

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, *, size: int = 8, patience: float = 600.0) -> AsyncIterator[Bus]:
        """A bus over a pool of connections; raises DatabaseDown when Postgres does not answer now."""
        bus = cls(url, size=size, patience=patience)
        try:
            try:
                bus._pool = await bus._open()
            except POOLED:
                bus.pooled = True
                bus._pool = await bus._open()
        except (*CONNECTION_LOST, asyncpg.PostgresError, TimeoutError) as error:
            raise DatabaseDown(f"Postgres cannot be reached ({error})", "check DATABASE_URL, or run `atlas up`") from error
        try:
            yield bus
        finally:
            bus._pool.terminate()

    async def _open(self) -> asyncpg.Pool:
        return await asyncpg.create_pool(
            self._url, min_size=1, max_size=self._size, init=set_codecs, server_settings={"application_name": "atlas"},
            command_timeout=60, timeout=10, statement_cache_size=0 if self.pooled else 1024,
        )  # fmt: skip

    async def _adapt(self, stale: asyncpg.Pool) -> None:
        """Prepares nothing from now on."""
        if self._pool is stale:
            self.pooled = True
            log.warning("prepared statements get lost here (a transaction pooler?): none are used from now on")
            self._pool = await self._open()
            stale.terminate()

    async def _call(self, work: Callable[[asyncpg.Connection], Awaitable[Result]]) -> Result:
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, (*CONNECTION_LOST, *TRY_AGAIN, *POOLED, TimeoutError))),
            wait=wait_random_exponential(multiplier=0.05, max=2),
            stop=stop_after_delay(self._patience),
            before_sleep=self._say_away,
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    pool = self._pool
                    try:
                        async with pool.acquire() as connection:
                            result = await work(connection)
                    except POOLED:
                        await self._adapt(pool)
                        raise
                    if self._away:
                        self._away = False
                        log.warning("Postgres is back")
                    return result
        except (*CONNECTION_LOST, *TRY_AGAIN, TimeoutError) as error:
            raise DatabaseDown(f"Postgres is away ({error})", "the worker goes on when it is back") from error
        except asyncpg.PostgresError as error:
            raise translate(error) from error
        raise AssertionError("unreachable")

    def _say_away(self, state: RetryCallState) -> None:
        if not self._away and state.outcome is not None:
            self._away = True
            log.warning("Postgres is away (%s): trying again", state.outcome.exception())

    def hurry(self, seconds: float = 2.0) -> None:
        """From now on a lost connection is waited for so long at most: the process is about to end."""
        self._patience = seconds

    async def ping(self) -> None:
        """One round trip to a function of ours: Postgres is there, migrated, and lets us in."""
        await self.value("select atlas.today()")

    async def value(self, query: str, *arguments: object) -> Any:
        """The first column of the first row of one call."""
        return await self._call(lambda connection: connection.fetchval(query, *arguments))

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """All rows of one call."""
        return await self._call(lambda connection: connection.fetch(query, *arguments))

    async def rows_as(self, role: str, claims: JsonObject, query: str, *arguments: object) -> list[JsonObject]:
        """All rows of one call as PostgREST would make it for a token's claims: row level security decides."""

        async def work(connection: asyncpg.Connection) -> list[JsonObject]:
            async with connection.transaction():
                await connection.execute(f"set local role {role}")
                await connection.execute("select set_config('request.jwt.claims', $1, true)", json.dumps(claims))
                return [dict(row) for row in await connection.fetch(query, *arguments)]

        return await self._call(work)

    # --- the worker ---------------------------------------------------------------------------------------------

    async def register_worker(self, worker: UUID, *, name: str, version: str, concurrency: int) -> None:
        await self.value("select atlas.register_worker($1, $2, $3, $4)", worker, name, version, concurrency)

    async def mark_worker(self, worker: UUID, state: str) -> int:
        """Answers how many other workers there are."""
        return int(await self.value("select atlas.mark_worker($1, $2)", worker, state))

    async def has_work(self, *, chats: bool) -> bool:
        """Whether a claim would find something now."""
        return bool(await self.value("select atlas.has_work($1)", chats))

    async def next_due(self) -> float | None:
        """Seconds until the first waiting task is due; None where none waits."""
        found = await self.value("select atlas.next_due()")
        return None if found is None else float(found)

    async def count_streams(self) -> int:
        """How many attempts the whole fleet runs now."""
        return int(await self.value("select atlas.count_streams()"))

    async def claim_tasks(self, worker: UUID, *, chats: int, controls: int, lease: float) -> list[ClaimedTask]:
        rows = await self.rows(
            "select * from atlas.claim_tasks($1, $2, $3, $4)", worker, chats, controls, timedelta(seconds=lease)
        )
        return [_claimed(row) for row in rows]

    async def extend_leases(
        self, worker: UUID, attempts: Sequence[AttemptId], *, lease: float
    ) -> dict[AttemptId, tuple[bool, bool]]:
        """For each attempt: whether it is still held, and whether somebody asked to cancel it."""
        rows = await self.rows(
            "select * from atlas.extend_leases($1, $2, $3)", worker, list(attempts), timedelta(seconds=lease)
        )
        return {AttemptId(row["attempt_id"]): (row["held"], row["cancel_requested"]) for row in rows}

    async def release_expired(self) -> int:
        return int(await self.value("select atlas.release_expired()"))

    # --- the money ----------------------------------------------------------------------------------------------

    async def reserve_tokens(self, requests: Sequence[JsonObject]) -> list[JsonObject]:
        rows = await self.rows("select r from atlas.reserve_tokens($1) r", list(requests))
        return [row["r"] for row in rows]

    async def record_usage(self, spend_id: int, attempt: AttemptId, usage: Usage | None) -> None:
        item = {"spend_id": spend_id, "attempt_id": str(attempt), "usage": usage.as_json() if usage else None}
        await self.value("select atlas.record_usage($1)", [item])

    async def set_budget(self, scope: str, limits: JsonObject, *, set_by: str = "control") -> JsonObject:
        return dict(await self.value("select to_jsonb(atlas.set_budget($1, $2, $3))", scope, limits, set_by))

    # --- a running reply and its end ----------------------------------------------------------------------------

    async def record_progress(self, items: Sequence[JsonObject]) -> set[AttemptId]:
        """Stores parts and response ids; answers the attempts that are still held."""
        rows = await self.rows("select * from atlas.record_progress($1)", list(items))
        return {AttemptId(row["attempt_id"]) for row in rows}

    async def complete_tasks(self, items: Sequence[JsonObject]) -> set[AttemptId]:
        """Completes attempts; answers those that were not lost."""
        rows = await self.rows("select c from atlas.complete_tasks($1) c", list(items))
        return {AttemptId(row["c"]) for row in rows}

    async def fail_task(
        self,
        attempt: AttemptId,
        *,
        code: str,
        message: str,
        kind: str,
        retry_after: float | None = None,
        usages: JsonObject | None = None,
    ) -> str:
        """Says the state the task is in now."""
        wait = timedelta(seconds=retry_after) if retry_after is not None else None
        return str(
            await self.value("select atlas.fail_task($1, $2, $3, $4, $5, $6)", attempt, code, message[:2000], kind, wait,
                              usages or {})
        )  # fmt: skip

    async def cancel_task(self, task: TaskId, attempt: AttemptId | None = None, usages: JsonObject | None = None) -> str:
        """With an attempt: confirms that its call was stopped. Without: asks for it."""
        return str(await self.value("select atlas.cancel_task($1, $2, $3)", task, attempt, usages or {}))

    async def get_thread(self, task: UUID, project: UUID) -> tuple[Exchange, UUID | None] | None:
        """An earlier question of the project with its reply, and the question before it."""
        rows = await self.rows("select * from atlas.get_thread($1, $2)", task, project)
        if not rows:
            return None
        return Exchange(question=rows[0]["question"], reply=rows[0]["reply"]), rows[0]["parent_id"]

    # --- control ------------------------------------------------------------------------------------------------

    async def pause(self, reason: str | None) -> None:
        await self.value("select atlas.pause($1)", reason)

    async def resume(self) -> None:
        await self.value("select atlas.resume()")

    async def flush_cache(self) -> None:
        await self.value("select atlas.flush_cache()")

    async def queue_metrics(self) -> JsonObject:
        return dict(await self.value("select atlas.queue_metrics()"))

    # --- models -------------------------------------------------------------------------------------------------

    async def list_models(self) -> dict[str, Model]:
        return read_models(await self.value("select atlas.list_models()"))

    async def record_model(self, name: str, *, ok: bool, error: str | None = None, missing: bool = False) -> None:
        await self.value("select atlas.record_model($1, $2, $3, $4)", name, ok, error, missing)

    # --- audit --------------------------------------------------------------------------------------------------

    async def seal_audit(self, key: bytes) -> int:
        """Seals what is new in the audit; answers how many rows. The key never reaches Postgres."""

        async def work(connection: asyncpg.Connection) -> int:
            # one snapshot for the digest and the check of it
            async with connection.transaction(isolation="repeatable_read"):
                row = await connection.fetchrow("select upto::text, rows, digest, prev_mac from atlas.audit_digest()")
                if row is None:
                    return 0
                mac = audit_mac(key, row["upto"], row["rows"], row["digest"], row["prev_mac"])
                await connection.execute(
                    "select atlas.seal_audit($1::text::xid8, $2, $3, $4, $5)",
                    row["upto"], row["rows"], row["digest"], row["prev_mac"], mac,
                )  # fmt: skip
                return int(row["rows"])

        try:
            return await self._call(work)
        except UniqueViolated:
            return 0  # another worker sealed the same rows first


def audit_mac(key: bytes, upto: str, rows: int, digest: bytes, prev_mac: bytes | None) -> bytes:
    """The HMAC-SHA256 of a seal."""
    text = b"|".join((upto.encode(), str(rows).encode(), digest, prev_mac or b""))
    return hmac.new(key, text, hashlib.sha256).digest()


def _claimed(row: asyncpg.Record) -> ClaimedTask:
    values = dict(row)
    carried = values.pop("carried")
    return ClaimedTask(**values, carried=Carried(**carried) if carried else None)
