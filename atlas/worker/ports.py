"""What a worker asks of its queue. Each method is the SQL function of its name; errors are those of atlas.errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from atlas.task import AttemptId, ClaimedTask, JsonObject, Lease, SettledCall, TaskId


class Queue(Protocol):
    """The queue, as atlas.database.queue has it."""

    async def mark_worker(self, worker: UUID, state: str) -> int:
        """Answers how many other workers there are."""

    async def has_work(self, *, chats: bool) -> bool:
        """Whether a claim would find something now."""

    async def next_due(self) -> float | None:
        """Seconds until the first waiting task is due; None where none waits."""

    async def claim_tasks(self, worker: UUID, *, chats: int, controls: int, lease: float) -> list[ClaimedTask]:
        """atlas.claim_tasks in SQL."""

    async def extend_leases(self, worker: UUID, attempts: Sequence[AttemptId], *, lease: float) -> dict[AttemptId, Lease]:
        """Where each attempt stands."""

    async def defer_upstream(self, message: str) -> int:
        """Sets questions aside that are ready while no model answers; says how many."""

    async def set_budget(self, scope: str, limits: JsonObject, *, set_by: str = "control") -> JsonObject:
        """atlas.set_budget in SQL."""

    async def complete_tasks(self, items: Sequence[JsonObject]) -> set[AttemptId]:
        """Completes attempts; answers those that were not lost."""

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

    async def ask_back(self, attempt: AttemptId, content: str, metadata: JsonObject, usages: JsonObject) -> str:
        """Ends an attempt with a question back; says the state."""

    async def cancel_task(self, task: TaskId, attempt: AttemptId | None = None, usages: JsonObject | None = None) -> str:
        """With an attempt: confirms that its call was stopped. Without: asks for it."""

    async def attempt_spend(self, attempt: AttemptId) -> list[SettledCall]:
        """What the calls of an attempt that are settled have cost."""

    async def pause(self, reason: str | None) -> None:
        """atlas.pause in SQL."""

    async def resume(self) -> None:
        """atlas.resume in SQL."""

    async def flush_cache(self) -> None:
        """atlas.flush_cache in SQL."""

    async def queue_metrics(self) -> JsonObject:
        """atlas.queue_metrics in SQL."""
