"""What happened in Postgres: committed rows of the publications, by logical decoding, for subscribers to be told of."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from atlas.database.pool import CONNECTION_LOST
from atlas.local.supabase.pgoutput import Change, Decoder, Relation, as_json
from atlas.local.supabase.row_filter import RowFilter
from atlas.supabase.keys import Claims

log = logging.getLogger("atlas.supabase")

MESSAGES = "supabase_realtime_messages_publication"
CHANGES = "supabase_realtime"


class Replication:
    """Polls a temporary slot. Where the connection is lost, changes until the next one are lost too, as with the real
    server when its slot's backend is killed."""

    def __init__(
        self, url: str, take: Callable[[Sequence[Change]], Awaitable[None]], *, fastest: float = 0.01, slowest: float = 0.05
    ) -> None:
        self._url = url
        self._take = take
        self._fastest = fastest
        self._slowest = slowest
        self.ready = asyncio.Event()
        self.problem = "no answer yet"

    async def run(self) -> None:
        """Reads forever."""
        while True:
            try:
                connection = await asyncpg.connect(
                    self._url, timeout=10, server_settings={"application_name": "atlas stand_in"}
                )
                try:
                    await self._read(connection)
                finally:
                    self.ready.clear()
                    connection.terminate()
            except (*CONNECTION_LOST, asyncpg.PostgresError, TimeoutError) as error:
                self.problem = str(error) or type(error).__name__
                log.warning("the stand-in reads no changes (%s): again soon", self.problem)
            await asyncio.sleep(0.2)

    async def _read(self, connection: asyncpg.Connection) -> None:
        # each look into the slot is two lines of Postgres's log, fifty times a second; errors are raised, and logged here
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute("set log_min_messages = fatal")
        slot = f"atlas_door_{await connection.fetchval('select pg_backend_pid()')}"
        await connection.execute(
            "do $$ begin if not exists (select from pg_publication where pubname = 'supabase_realtime_messages_publication') "
            "then create publication supabase_realtime_messages_publication for table realtime.messages; end if; end $$"
        )
        await connection.execute("select pg_create_logical_replication_slot($1, 'pgoutput', true)", slot)
        decoder = Decoder()
        query = await connection.prepare(
            "select data from pg_logical_slot_get_binary_changes($1, null, 2000, 'proto_version', '1', 'publication_names', $2)"
        )
        written = await connection.prepare("select pg_current_wal_flush_lsn()::text")
        self.ready.set()
        pause, seen = self._fastest, ""
        while True:
            # where nothing was written there is nothing to decode
            if (now := await written.fetchval()) == seen:
                pause = min(self._slowest, pause * 1.5)
                await asyncio.sleep(pause)
                continue
            rows = await query.fetch(slot, f"{CHANGES},{MESSAGES}")
            # 2,000 are one look's share: there may be more
            seen = now if len(rows) < 2000 else ""
            found = [change for row in rows if (change := decoder.feed(row["data"])) is not None]
            if found:
                await self._take(found)
            pause = self._fastest if found else min(self._slowest, pause * 1.5)
            await asyncio.sleep(pause)


class Visibility:
    """Who may see what: asks Postgres as the subscriber, under row level security, when the change is looked at."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._types: dict[int, str] = {}

    async def types(self, relation: Relation) -> dict[str, str]:
        """The type's name of each column."""
        missing = {oid for _, oid, _ in relation.columns} - self._types.keys()
        if missing:
            rows = await self._pool.fetch("select oid, typname from pg_type where oid = any ($1::oid[])", list(missing))
            self._types |= {row["oid"]: row["typname"] for row in rows}
        return {name: self._types[oid] for name, oid, _ in relation.columns}

    async def columns(self, relation: Relation, role: str) -> list[str]:
        """The columns that a role may select."""
        rows = await self._pool.fetch(
            "select c.name from unnest($1::text[]) with ordinality as c (name, n) "
            "where exists (select from pg_roles where rolname = $2) "
            "and has_column_privilege($2::name, to_regclass(format('%I.%I', $3::text, $4::text)), c.name, 'select') "
            "order by c.n",
            [name for name, _, _ in relation.columns], role, relation.schema, relation.table,
        )  # fmt: skip
        return [row["name"] for row in rows]

    async def sees(self, change: Change, claims: Claims) -> bool:
        """Whether the row of an insert or update is there for these claims now."""
        if not await self.secured(change.relation):
            return True
        keys = await self.keys(change.relation)
        types = await self.types(change.relation)
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            where = " and ".join(f"{_quoted(name)}::text is not distinct from ${n}" for n, name in enumerate(keys, 1))
            query = (
                f"select exists (select from {_quoted(change.relation.schema)}.{_quoted(change.relation.table)} where {where})"  # noqa: S608  quoted names
            )
            try:
                await act_as(connection, claims)
                return bool(await connection.fetchval(query, *(_plain(change.new[name], types[name]) for name in keys)))
            except (asyncpg.DataError, asyncpg.InsufficientPrivilegeError):
                return False  # a role that is not there, or a sub that is not a UUID, sees nothing

    async def published(self, schema: str, table: str) -> list[str] | None:
        """The columns of a table that the publication has; None where it has none of it."""
        rows = await self._pool.fetch(
            "select a.attname from pg_publication_tables p join pg_attribute a "
            "on a.attrelid = format('%I.%I', p.schemaname, p.tablename)::regclass and a.attnum > 0 "
            "where p.pubname = $1 and p.schemaname = $2 and ($3 = '*' or p.tablename = $3)",
            CHANGES, schema, table,
        )  # fmt: skip
        return [row["attname"] for row in rows] or None

    async def keys(self, relation: Relation) -> list[str]:
        """The primary key of a table, whatever its replica identity; all columns where it has none."""
        rows = await self._pool.fetch(
            "select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey) "
            "where i.indrelid = to_regclass(format('%I.%I', $1::text, $2::text)) and i.indisprimary",
            relation.schema, relation.table,
        )  # fmt: skip
        return [row["attname"] for row in rows] or [name for name, _, _ in relation.columns]

    async def secured(self, relation: Relation) -> bool:
        """Whether row level security is on."""
        return bool(
            await self._pool.fetchval(
                "select relrowsecurity from pg_class where oid = to_regclass(format('%I.%I', $1::text, $2::text))",
                relation.schema, relation.table,
            )
        )  # fmt: skip

    async def old_columns(self, relation: Relation) -> list[str]:
        """What old_record may show: the whole row where the replica identity has it, the key alone under row level security."""
        if await self.secured(relation):
            return await self.keys(relation)
        return [name for name, _, _ in relation.columns]

    async def passes(self, filters: Sequence[RowFilter], change: Change) -> bool:
        """Whether the row satisfies all filters, as Postgres compares values of the columns' types."""
        if not filters:
            return True
        row = change.new or change.old
        try:
            for one in filters:
                kind = await self._type_of(change.relation.schema, change.relation.table, one.column)
                if kind is None or not await self._pool.fetchval(one.query(kind), row.get(one.column), one.value):
                    return False
        except asyncpg.DataError:
            return False  # values of another shape than the filter's: it does not hold
        return True

    async def cannot_compare(self, one: RowFilter, schema: str, table: str) -> str | None:
        """Why Postgres cannot compare the filter's value with its column; None where it can."""
        try:
            kind = await self._type_of(schema, table, one.column)
            await self._pool.fetchval(one.cast(kind or "text"), one.value)
        except asyncpg.PostgresError as error:
            return f"ERROR {error.sqlstate} {error}"
        return None

    async def _type_of(self, schema: str, table: str, column: str) -> str | None:
        """The type of a column of a table; of any table of the schema for *."""
        found: str | None = await self._pool.fetchval(
            "select format_type(a.atttypid, a.atttypmod) from pg_attribute a join pg_class c on c.oid = a.attrelid "
            "join pg_namespace n on n.oid = c.relnamespace "
            "where n.nspname = $1 and ($2 = '*' or c.relname = $2) and a.attname = $3 and c.relkind in ('r', 'p') limit 1",
            schema, table, column,
        )  # fmt: skip
        return found

    async def messages_since(self, topic: str, *, since: float, limit: int) -> list[asyncpg.Record]:
        """Earlier broadcasts of SQL on a private topic, oldest first. since: Unix milliseconds."""
        return list(
            await self._pool.fetch(
                "select id, event, payload::text from realtime.messages where topic = $1 and extension = 'broadcast' "
                "and private and inserted_at >= to_timestamp($2::float8 / 1000) at time zone 'UTC' "
                "order by inserted_at limit $3",
                topic, float(since), limit,
            )
        )  # fmt: skip

    async def may_read(self, topic: str, claims: Claims) -> bool:
        """Whether the policies of realtime.messages open a private topic: a row is tried, read, and rolled back."""
        return await self._may(topic, claims, "select")

    async def may_write(self, topic: str, claims: Claims) -> bool:
        return await self._may(topic, claims, "insert")

    async def _may(self, topic: str, claims: Claims, verb: str) -> bool:
        insert = "insert into realtime.messages (topic, extension, event, private) values ($1, 'broadcast', 'try', true)"
        async with self._pool.acquire() as connection:
            trial = connection.transaction()
            await trial.start()
            try:
                await connection.execute("select set_config('realtime.topic', $1, true)", topic)
                if verb == "insert":
                    await act_as(connection, claims)
                    await connection.execute(insert, topic)
                    return True
                await connection.execute(insert, topic)
                await act_as(connection, claims)
                return bool(await connection.fetchval("select exists (select from realtime.messages where topic = $1)", topic))
            except asyncpg.PostgresError as error:
                # also a role that is not there, and a sub that is not a UUID: the policies' own casts fail
                if (error.sqlstate or "")[:2] in ("08", "53", "57", "58"):
                    raise
                return False
            finally:
                await trial.rollback()


async def act_as(connection: asyncpg.Connection, claims: Claims) -> None:
    """The rest of the transaction runs as these claims, as PostgREST does it."""
    await connection.execute(
        "select set_config('request.jwt.claims', $1, true), set_config('role', $2, true)",
        json.dumps(claims), str(claims["role"]),
    )  # fmt: skip


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _plain(value: str | None, type_name: str) -> str | None:
    return {"t": "true", "f": "false"}.get(value or "", value) if type_name == "bool" else value


def payload_of(
    change: Change, types: dict[str, str], visible: Sequence[str], old_columns: Sequence[str], *, unauthorized: bool,
    limit: int = 1_048_576,
) -> dict[str, Any]:  # fmt: skip
    """The `data` of a postgres_changes frame, its fields in the real server's order."""
    unauthorized = change.kind != "DELETE" and unauthorized
    errors = ["Error 401: Unauthorized"] if unauthorized else None
    data: dict[str, Any] = {"table": change.relation.table, "type": change.kind}
    record = _record(change.new, types, visible)
    if len(json.dumps(record, ensure_ascii=False).encode()) > limit:
        record = {name: value for name, value in record.items() if len(json.dumps(value)) <= 64}
        errors = ["Error 413: Payload Too Large"]
    if change.kind != "DELETE":
        data["record"] = record
    data["columns"] = [{"name": name, "type": types[name]} for name in types if not unauthorized]
    data["errors"] = errors
    data["schema"] = change.relation.schema
    moment = change.committed_at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{change.committed_at.microsecond // 1000:03d}Z"
    data["commit_timestamp"] = None if unauthorized else moment
    if change.kind != "INSERT" and not unauthorized:
        keys = [name for name, _, is_key in change.relation.columns if is_key]
        old = change.old or {name: change.new[name] for name in keys}
        data["old_record"] = _record(old, types, old_columns)
    return data


def _record(values: dict[str, str | None], types: dict[str, str], visible: Sequence[str]) -> dict[str, Any]:
    # in the order of jsonb: shorter names first, then by bytes
    names = sorted((name for name in values if name in visible), key=lambda name: (len(name), name.encode()))
    return {name: as_json(values[name], types[name]) for name in names}
