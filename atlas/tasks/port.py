"""Tasks as people see them: one port, over Postgres (atlas.database.tasks) and over REST (atlas.supabase.tasks)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import date
from typing import Protocol
from uuid import UUID

from atlas.task import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a running reply. offset: Unicode code points of its generation before it; seq rises within an attempt."""

    attempt: int
    generation: int
    seq: int
    offset: int
    text: str


class Live(Protocol):
    """Deltas as they are sent."""

    joined: bool

    async def next(self, seconds: float) -> Part | None:
        """The next part; None when the tables are to be looked at. Raises TimeoutError where nothing came for so long."""


class Tasks(Protocol):
    """Raises NotFoundError and UsageError for names that fit nothing, or too much."""

    async def find(self, text: str, *, state: str | None = None) -> UUID:
        """The task of an id, a unique prefix of one (at least 4 characters), or `last`."""

    async def tasks(
        self, *, limit: int, state: str | None, sender: str | None, project: str | None, every: bool = False
    ) -> list[JsonObject]:
        """The latest questions, newest first, each with its asker; with every, control messages too."""

    async def project(self, name: str) -> UUID:
        """The id of a project, by its id or name."""

    async def sender(self, name: str) -> str:
        """The sender's key of a user's e-mail address; any other name is one already."""

    async def task(self, task_id: UUID) -> JsonObject:
        """A task with its question, reply, attempts, calls and audit."""

    async def state(self, task_id: UUID) -> JsonObject:
        """Where a task stands, and why it waits."""

    async def progress(self, task_id: UUID) -> JsonObject:
        """What it waits behind, and what it has written and cost so far: atlas.task_progress in SQL."""

    async def parts_after(self, task_id: UUID, attempt: int, generation: int, offset: int) -> list[Part]:
        """Parts of its reply that come after a place, in order."""

    async def submit(self, message: Mapping[str, object]) -> JsonObject:
        """Sends a message: {task_id, state, created}."""

    async def cancel(self, task_id: UUID) -> str:
        """Asks for a task's end; answers the state it is in now."""

    async def answer(self, task_id: UUID, text: str) -> str:
        """Answers what a task asked back: atlas.answer_task in SQL. Says the state it is in now."""

    async def retry(self, task_id: UUID) -> str:
        """Queues a task that ended without a reply again; answers the state it is in now."""

    async def set_budget(self, scope: str, limits: JsonObject) -> JsonObject:
        """Sets limits of a scope: an operator any, an admin of a project the project's."""

    async def budgets(self) -> list[JsonObject]:
        """The limits that the caller may see, with what today and this month hold."""

    async def quote(self, project: UUID | None, window: str) -> JsonObject:
        """What a question would cost at most and usually, by model, and what is left."""

    async def spend(self, by: str, *, since: date | None, until: date | None) -> list[JsonObject]:
        """Calls summed up by day, model, sender, project or decision; days are UTC."""

    async def accept(self, task_id: UUID, reason: str | None, supersedes: Sequence[int]) -> JsonObject:
        """Accepts a task's reply as a decision of its project: atlas.accept in SQL. Answers the decision."""

    async def reject(self, task_id: UUID, reason: str | None) -> JsonObject:
        """Rejects a task's reply: atlas.reject in SQL. Answers the decision."""

    async def supersede(self, project: UUID, number: int, by: int, reason: str | None) -> JsonObject:
        """One accepted decision of a project takes the place of another: atlas.supersede in SQL. Answers the older one."""

    async def decisions(
        self, *, project: UUID | None = None, status: str | None = None, number: int | None = None
    ) -> list[JsonObject]:
        """The decisions that the caller may see, by project and number."""

    async def record(self, project: UUID, number: int) -> str:
        """The text of a decision, as it was when it was decided. Raises NotFoundError."""

    async def import_decisions(self, project: UUID, records: Sequence[JsonObject]) -> JsonObject:
        """Takes records that were decided elsewhere: atlas.import_decisions in SQL. Answers {"added", "unchanged"}."""

    async def deviations(self, project: UUID, number: int) -> list[JsonObject]:
        """Where work was done otherwise than a decision asks for, oldest first."""

    async def work_items(self, task_id: UUID) -> list[JsonObject]:
        """The work items of a reply, with how far each is: atlas.work_items in SQL."""

    async def take_work_item(self, task_id: UUID, number: int) -> JsonObject:
        """The caller works on an item from now on: atlas.take_work_item in SQL."""

    async def report_work_item(
        self, task_id: UUID, number: int, state: str, *, commit: str | None = None, note: str | None = None,
        deviations: Sequence[JsonObject] = (),
    ) -> JsonObject:  # fmt: skip
        """How far an item is: atlas.report_work_item in SQL. Answers with how the decision stands."""

    async def search(self, query: str, *, limit: int, project: UUID | None) -> list[JsonObject]:
        """Passages that the caller may read, best first, by their words: atlas.search_knowledge in SQL."""

    async def read_source(self, sha256: str) -> list[JsonObject]:
        """A passage by its hash, and where it stands; none where it is not there, or may not be read."""

    def live(self, task_id: UUID) -> AbstractAsyncContextManager[Live | None]:
        """Deltas as they are sent; None where the tables are looked at instead."""
