"""Tasks over Postgres, for operators: atlas.tasks.port.Tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from uuid import UUID

from atlas.database.operator import Operator
from atlas.errors import NotFoundError
from atlas.task import JsonObject
from atlas.tasks import statements
from atlas.tasks.finding import no_such_decision, no_such_task, task_name, the_one
from atlas.tasks.port import Part
from atlas.tasks.values import Row, typed


class PostgresTasks:
    """What an operator reads and does."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    async def find(self, text: str, *, state: str | None = None) -> UUID:
        rows = await self._operator.call_rows("find_task", task_name(text), state)
        return the_one(text, [UUID(str(next(iter(row.values())))) for row in rows])

    async def tasks(
        self, *, limit: int, state: str | None, sender: str | None, project: str | None, every: bool = False
    ) -> list[Row]:
        rows = await self._operator.rows(
            statements.tasks(limit=limit, state=state, sender=sender, project=project, every=every)
        )
        users = [row["sender"] for row in rows if row["sender"]]
        names = {row["user_id"]: row["email"] for row in await self._operator.call_rows("names_of", users)} if users else {}
        return [row | {"asker": names.get(row["sender"]) or row["sender_key"]} for row in rows]

    async def project(self, name: str) -> UUID:
        found = await self._operator.first(statements.project_ids(name))
        if found is None:
            raise NotFoundError(f"no project {name!r}", "see `atlas project list`")
        return UUID(str(found))

    async def sender(self, name: str) -> str:
        return str(await self._operator.call("user_of", name)) if "@" in name else name

    async def task(self, task_id: UUID) -> Row:
        found: Row | None = await self._operator.call("get_task", task_id)
        if found is None:
            raise no_such_task(task_id)
        return typed(found)

    async def state(self, task_id: UUID) -> Row:
        found: Row | None = await self._operator.call("task_state", task_id)
        if found is None:
            raise no_such_task(task_id)
        return typed(found)

    async def progress(self, task_id: UUID) -> Row:
        found: Row | None = await self._operator.call("task_progress", task_id)
        if found is None:
            raise no_such_task(task_id)
        return typed(found)

    async def parts_after(self, task_id: UUID, attempt: int, generation: int, offset: int) -> list[Part]:
        rows = await self._operator.call_rows("read_parts", task_id, attempt, generation, offset)
        return [Part(**row) for row in rows]

    async def submit(self, message: Mapping[str, object]) -> Row:
        (row,) = await self._operator.call_rows("submit_task", {**message}, None)
        return row

    async def cancel(self, task_id: UUID) -> str:
        return str(await self._operator.call("cancel_task", task_id))

    async def answer(self, task_id: UUID, text: str) -> str:
        return str(await self._operator.call("answer_task", task_id, text))

    async def retry(self, task_id: UUID) -> str:
        return str(await self._operator.call("retry_task", task_id))

    async def set_budget(self, scope: str, limits: Row) -> Row:
        (row,) = await self._operator.call_rows("set_budget", scope, limits)
        return row

    async def budgets(self) -> list[Row]:
        return list(await self._operator.call("get_budgets"))

    async def quote(self, project: UUID | None, window: str) -> Row:
        found: Row = await self._operator.call("quote_task", project, window)
        return found

    async def spend(self, by: str, *, since: date | None, until: date | None) -> list[Row]:
        return await self._operator.rows(statements.spend(by, since=since, until=until))

    async def accept(self, task_id: UUID, reason: str | None, supersedes: Sequence[int]) -> Row:
        (row,) = await self._operator.call_rows("accept", task_id, reason, list(supersedes))
        return row

    async def reject(self, task_id: UUID, reason: str | None) -> Row:
        (row,) = await self._operator.call_rows("reject", task_id, reason)
        return row

    async def supersede(self, project: UUID, number: int, by: int, reason: str | None) -> Row:
        (row,) = await self._operator.call_rows("supersede", project, number, by, reason)
        return row

    async def decisions(
        self, *, project: UUID | None = None, status: str | None = None, number: int | None = None
    ) -> list[Row]:
        return await self._operator.rows(statements.decisions(project, status, number))

    async def record(self, project: UUID, number: int) -> str:
        found = await self._operator.first(statements.record(project, number))
        if found is None:
            raise no_such_decision(number)
        return str(found)

    async def import_decisions(self, project: UUID, records: Sequence[JsonObject]) -> Row:
        if not records:
            return {"added": 0, "unchanged": 0}
        found: Row = await self._operator.call("import_decisions", project, list(records))
        return found

    async def deviations(self, project: UUID, number: int) -> list[Row]:
        return await self._operator.rows(statements.deviations(project, number))

    async def work_items(self, task_id: UUID) -> list[Row]:
        return await self._operator.call_rows("work_items", task_id)

    async def take_work_item(self, task_id: UUID, number: int) -> Row:
        (row,) = await self._operator.call_rows("take_work_item", task_id, number)
        return row

    async def report_work_item(
        self, task_id: UUID, number: int, state: str, *, commit: str | None = None, note: str | None = None,
        deviations: Sequence[JsonObject] = (),
    ) -> Row:  # fmt: skip
        # an empty list says nothing of its type: the function's own default is one
        said = (list(deviations),) if deviations else ()
        found: Row = await self._operator.call("report_work_item", task_id, number, state, commit, note, *said)
        return found

    async def search(self, query: str, *, limit: int, project: UUID | None) -> list[Row]:
        # an operator is a member of nothing: what is shared, and one project
        rows = await self._operator.call_rows("search_knowledge", query, limit, project or await self.project("default"))
        return [{**row, "sha256": row["sha256"].hex()} for row in rows]

    async def read_source(self, sha256: str) -> list[Row]:
        return await self._operator.call_rows("read_source", sha256)

    @asynccontextmanager
    async def live(self, task_id: UUID) -> AsyncIterator[None]:
        """Operators look at the tables: they are near."""
        yield None
