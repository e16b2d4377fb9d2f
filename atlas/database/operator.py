"""What people read and do with an operator's connection: history, spend, replies; SQLAlchemy Core over asyncpg."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Any
from uuid import UUID

import asyncpg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from atlas.database.pool import CONNECTION_LOST, translate
from atlas.errors import DatabaseDown, NotFoundError, UsageError
from atlas.tasks.port import Part

Row = dict[str, Any]


def _view(name: str, *columns: str, schema: str = "atlas") -> sa.TableClause:
    return sa.table(name, *(sa.column(column) for column in columns), schema=schema)


HISTORY = _view(
    "task_history",
    "id", "title", "kind", "state", "wait_reason", "sender", "sender_key", "project_id", "parent_id", "model", "attempts",
    "failures", "tokens", "usd", "queued_at", "started_at", "finished_at", "took", "error_code", "error_message",
)  # fmt: skip
SPEND = _view(
    "spend", "id", "task_id", "attempt_id", "call", "state", "model", "day", "reserved_tokens", "reserved_usd", "input_tokens",
    "cached_tokens", "output_tokens", "reasoning_tokens", "tokens", "usd", "known", "over_reservation",
)  # fmt: skip
TASK = _view("task", "id", "message_task_id", "sender_key", "project_id", "queued_at", "kind")
PROJECT = _view("project", "id", "name")


SPEND_KEYS = {"day": "day", "model": "model", "sender": "sender_key", "project": "project"}
"""What spend is summed up by, and the column of the view atlas.spend_by_<it>."""


def task_prefix(text: str) -> str:
    """The beginning of a task's id. Raises UsageError for what can be none."""
    prefix = text.lower().strip()
    if len(prefix) < 4 or len(prefix) > 36 or set(prefix) - set("0123456789abcdef-"):
        raise UsageError(f"{text!r} is no task id", "give an id, at least its first 4 characters, or `last`")
    return prefix


class Reads:
    """One connection of a person who may read everything (an operator)."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str) -> AsyncIterator[Reads]:
        """Raises DatabaseDown when Postgres does not answer, and the errors of atlas.errors for what it refuses."""

        # asyncpg reads the URL itself: SQLAlchemy's dialect does not know sslmode and its kin
        async def connect(**_: object) -> asyncpg.Connection:
            return await asyncpg.connect(
                url, timeout=10, statement_cache_size=0, server_settings={"application_name": "atlas cli"}
            )

        # no statement has a name, so that a transaction pooler may stand between
        names = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": lambda: ""}
        engine = create_async_engine(
            "postgresql+asyncpg://",
            connect_args={"async_creator_fn": connect, **names},
            isolation_level="AUTOCOMMIT",
            pool_size=1,
        )
        try:
            try:
                connection = await engine.connect()
            except (*CONNECTION_LOST, TimeoutError, DBAPIError, asyncpg.PostgresError) as error:
                reason = f"Postgres cannot be reached ({_cause(error)})"
                raise DatabaseDown(reason, "check DATABASE_URL, or run `atlas up`") from error
            try:
                yield cls(connection)
            finally:
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

    async def rows(self, query: str | sa.Executable, values: Mapping[str, object] | None = None) -> list[Row]:
        """All rows of a query; :name are its values."""
        statement = sa.text(query) if isinstance(query, str) else query
        result = await self._connection.execute(statement, dict(values or {}))
        return [dict(row._mapping) for row in result] if result.returns_rows else []

    async def value(self, query: str, values: Mapping[str, object] | None = None) -> Any:
        """The first column of the first row."""
        rows = await self.rows(query, values)
        return next(iter(rows[0].values())) if rows else None

    # --- tasks ------------------------------------------------------------------------------------------------

    async def find(self, text: str, *, state: str | None = None) -> UUID:
        """The task of an id, a unique prefix of one (at least 4 characters), or `last`."""
        if text == "last":
            rows = await self.rows(
                "select id from atlas.task where kind = 'chat' and (cast(:state as text) is null or state = :state) "
                "order by queued_at desc, in_id desc limit 1",
                {"state": state},
            )
            if not rows:
                raise NotFoundError("there is no task yet", 'ask with `atlas ask "…"`')
            return UUID(str(rows[0]["id"]))
        prefix = task_prefix(text)
        rows = await self.rows(
            "select id, title from atlas.task where id::text like :p or message_task_id::text like :p "
            "order by queued_at desc limit 6",
            {"p": prefix + "%"},
        )
        if not rows:
            raise NotFoundError(f"no task begins with {text}", "see `atlas tasks`")
        if len(rows) > 1:
            raise UsageError(
                f"{text} fits several tasks ({', '.join(str(row['id'])[:13] for row in rows)})", "give more of the id"
            )
        return UUID(str(rows[0]["id"]))

    async def tasks(self, *, limit: int, state: str | None, sender: str | None, project: str | None) -> list[Row]:
        """The latest tasks, newest first."""
        query = sa.select(HISTORY).order_by(HISTORY.c.queued_at.desc()).limit(limit)
        if state:
            query = query.where(HISTORY.c.state == state)
        if sender:
            query = query.where(HISTORY.c.sender_key == sender)
        if project:
            query = query.where(
                HISTORY.c.project_id.in_(sa.select(PROJECT.c.id).where(sa.cast(PROJECT.c.id, sa.Text) == project))
                | HISTORY.c.project_id.in_(sa.select(PROJECT.c.id).where(PROJECT.c.name == project))
            )
        return await self.rows(query)

    async def project(self, name: str) -> UUID:
        """The id of a project, by its id or name. Raises NotFoundError."""
        found = await self.value("select id from atlas.project where id::text = :name or name = :name", {"name": name})
        if found is None:
            raise NotFoundError(f"no project {name!r}", "see select id, name from atlas.project")
        return UUID(str(found))

    async def task(self, task_id: UUID) -> Row:
        """A task with its question, reply, attempts, calls and audit."""
        rows = await self.rows(sa.select(HISTORY).where(HISTORY.c.id == task_id))
        found = rows[0]
        values = {"id": task_id}
        found["question"] = await self.value(
            "select i.data ->> 'content' from atlas.task t join public.architect_in i on i.id = t.in_id where t.id = :id",
            values,
        )
        reply = await self.value(
            "select o.data from atlas.task t join public.architect_out o on o.id = t.out_id where t.id = :id", values
        )
        found["reply"] = reply["content"] if reply else None
        found["metadata"] = reply["metadata"] if reply else {}
        found["attempt_list"] = await self.rows(
            "select number, state, model, started_at, finished_at, first_delta_at, error_code, error_message "
            "from atlas.attempt where task_id = :id order by number",
            values,
        )
        found["calls"] = await self.rows(sa.select(SPEND).where(SPEND.c.task_id == task_id).order_by(SPEND.c.id))
        found["audit"] = await self.rows(
            "select seq, at, event, actor, detail from atlas.audit where task_id = :id order by seq", values
        )
        return found

    async def state(self, task_id: UUID) -> Row:
        """Where a task stands, and why it waits."""
        rows = await self.rows(
            "select t.state, t.wait_reason, t.run_after, t.error_code, t.error_message, t.out_id, a.model "
            "from atlas.task t left join atlas.attempt a on a.id = t.attempt_id where t.id = :id",
            {"id": task_id},
        )
        if not rows:
            raise NotFoundError(f"no task {task_id}", "see `atlas tasks`")
        return rows[0]

    async def parts_after(self, task_id: UUID, attempt: int, generation: int, offset: int) -> list[Part]:
        """Parts that come after a place, in order."""
        rows = await self.rows(
            "select * from atlas.read_parts(:id, :attempt, :generation, :offset)",
            {"id": task_id, "attempt": attempt, "generation": generation, "offset": offset},
        )
        return [Part(**row) for row in rows]

    async def submit(self, message: Mapping[str, object]) -> Row:
        """Sends a message: {task_id, state, created}."""
        rows = await self.rows(
            "select * from atlas.submit_task(cast(:data as jsonb), null)", {"data": json.dumps(message, ensure_ascii=False)}
        )
        return rows[0]

    async def cancel(self, task_id: UUID) -> str:
        """Asks for a task's end; answers the state it is in now."""
        return str(await self.value("select atlas.cancel_task(:id)", {"id": task_id}))

    @asynccontextmanager
    async def live(self, task_id: UUID) -> AsyncIterator[None]:
        """Operators look at the tables: they are near."""
        yield None

    async def replies(self, message_task_id: UUID) -> list[Row]:
        """Rows of architect_out for a message."""
        return await self.rows(
            "select id, data, created_at from public.architect_out where task_id = :id order by id", {"id": message_task_id}
        )

    # --- money ------------------------------------------------------------------------------------------------

    async def spend(self, by: str, *, since: date | None, until: date | None) -> list[Row]:
        """Settled calls summed up by day, model, sender or project; days are UTC."""
        keys: dict[str, sa.ColumnElement[Any]] = {
            "day": SPEND.c.day,
            "model": SPEND.c.model,
            "sender": TASK.c.sender_key,
            "project": PROJECT.c.name,
        }
        key = keys[by].label(by)
        query = (
            sa.select(
                key,
                sa.func.count().label("calls"),
                *(
                    sa.func.coalesce(sa.func.sum(SPEND.c[name]), 0).label(name)
                    for name in ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "tokens", "usd")
                ),
                sa.func.count().filter(SPEND.c.known == "unknown").label("unknown"),
            )
            .select_from(SPEND.join(TASK, TASK.c.id == SPEND.c.task_id).join(PROJECT, PROJECT.c.id == TASK.c.project_id))
            .where(SPEND.c.state == "settled")
            .group_by(key)
            .order_by(key)
        )
        if since:
            query = query.where(SPEND.c.day >= since)
        if until:
            query = query.where(SPEND.c.day < until)
        return await self.rows(query)

    async def budgets(self) -> Sequence[Row]:
        """All limits with what today holds."""
        found: list[Row] = await self.value("select atlas.get_budgets()")
        return found


def as_uuid(text: str) -> UUID | None:
    """The text as a UUID, None where it is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


def _cause(error: BaseException) -> BaseException:
    """The driver's own error beneath SQLAlchemy's."""
    below = getattr(error, "orig", None) or error
    return below.__cause__ if isinstance(below.__cause__, asyncpg.PostgresError) else below
