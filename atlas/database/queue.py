"""The queue and the state in Postgres: calls of the SQL functions of schema atlas, named as they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Literal
from uuid import UUID

import asyncpg

from atlas.database.pool import Pool
from atlas.database.protocol import PROTOCOL
from atlas.llm.models import Model, read_models
from atlas.task import AttemptId, ClaimedTask, Exchange, Inherited, JsonObject, Lease, SettledCall, TaskId, Usage


class PostgresQueue:
    """What a worker asks of the queue: atlas.worker.ports.Queue, over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ping(self) -> None:
        """One round trip to a function of ours: Postgres is there, migrated, and lets us in."""
        await self._pool.ping()

    def hurry(self, seconds: float = 2.0) -> None:
        """From now on a lost connection is waited for so long at most: the process is about to end."""
        self._pool.hurry(seconds)

    # --- the worker ---------------------------------------------------------------------------------------------

    async def register_worker(
        self, worker: UUID, *, name: str, version: str, concurrency: int, models: Sequence[str] = ()
    ) -> None:
        await self._pool.value(
            "select atlas.register_worker($1, $2, $3, $4, $5, $6)", worker, name, version, concurrency, list(models), PROTOCOL
        )

    async def mark_worker(self, worker: UUID, state: str) -> int:
        """Answers how many other workers there are."""
        return int(await self._pool.value("select atlas.mark_worker($1, $2)", worker, state))

    async def has_work(self, *, chats: bool) -> bool:
        """Whether a claim would find something now."""
        return bool(await self._pool.value("select atlas.has_work($1)", chats))

    async def next_due(self) -> float | None:
        """Seconds until the first waiting task is due; None where none waits."""
        found = await self._pool.value("select atlas.next_due()")
        return None if found is None else float(found)

    async def claim_tasks(self, worker: UUID, *, chats: int, controls: int, lease: float) -> list[ClaimedTask]:
        rows = await self._pool.rows(
            "select * from atlas.claim_tasks($1, $2, $3, $4)", worker, chats, controls, timedelta(seconds=lease)
        )
        return [_claimed(row) for row in rows]

    async def extend_leases(self, worker: UUID, attempts: Sequence[AttemptId], *, lease: float) -> dict[AttemptId, Lease]:
        rows = await self._pool.rows(
            "select * from atlas.extend_leases($1, $2, $3)", worker, list(attempts), timedelta(seconds=lease)
        )
        return {
            AttemptId(row["attempt_id"]): Lease(held=row["held"], cancelled=row["cancel_requested"], adopted=row["adopted"])
            for row in rows
        }

    async def release_expired(self) -> int:
        return int(await self._pool.value("select atlas.release_expired()"))

    # --- the money ----------------------------------------------------------------------------------------------

    async def reserve_tokens(self, requests: Sequence[JsonObject]) -> list[JsonObject]:
        rows = await self._pool.rows("select r from atlas.reserve_tokens($1) r", list(requests))
        return [row["r"] for row in rows]

    async def record_usage(self, spend_id: int, attempt: AttemptId, usage: Usage | None, response: str | None = None) -> None:
        said = (usage.as_json() if usage else {}) | {"response_id": response}
        item = {"spend_id": spend_id, "attempt_id": str(attempt), "usage": said}
        await self._pool.value("select atlas.record_usage($1)", [item])

    async def attempt_spend(self, attempt: AttemptId) -> list[SettledCall]:
        rows = await self._pool.rows("select * from atlas.attempt_spend($1)", attempt)
        return [SettledCall(call=row["call"], usd=row["usd"], known=row["known"]) for row in rows]

    async def set_budget(self, scope: str, limits: JsonObject, *, set_by: str = "control") -> JsonObject:
        return dict(await self._pool.value("select to_jsonb(atlas.set_budget($1, $2, $3))", scope, limits, set_by))

    # --- a running reply and its end ----------------------------------------------------------------------------

    async def record_progress(self, items: Sequence[JsonObject], *, rate: float) -> set[AttemptId]:
        """Stores parts and response ids; answers the attempts that are still held. rate: Realtime events a second."""
        rows = await self._pool.rows("select * from atlas.record_progress($1, $2)", list(items), rate)
        return {AttemptId(row["attempt_id"]) for row in rows}

    async def complete_tasks(self, items: Sequence[JsonObject]) -> set[AttemptId]:
        """Completes attempts; answers those that were not lost."""
        rows = await self._pool.rows("select c from atlas.complete_tasks($1) c", list(items))
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
            await self._pool.value("select atlas.fail_task($1, $2, $3, $4, $5, $6)", attempt, code, message[:2000], kind, wait,
                              usages or {})
        )  # fmt: skip

    async def cancel_task(self, task: TaskId, attempt: AttemptId | None = None, usages: JsonObject | None = None) -> str:
        """With an attempt: confirms that its call was stopped. Without: asks for it."""
        return str(await self._pool.value("select atlas.cancel_task($1, $2, $3)", task, attempt, usages or {}))

    async def get_thread(self, task: UUID, asking: TaskId) -> tuple[Exchange, UUID | None] | None:
        """An earlier question that the asking task's sender may read, with its reply, and the question before it."""
        rows = await self._pool.rows("select * from atlas.get_thread($1, $2)", task, asking)
        if not rows:
            return None
        return Exchange(question=rows[0]["question"], reply=rows[0]["reply"]), rows[0]["parent_id"]

    async def get_reply(self, task: UUID, asking: TaskId) -> JsonObject | None:
        """A reply that the asking task's sender may read: {"question", "content", "metadata"}."""
        found = await self._pool.value("select atlas.get_reply($1, $2)", task, asking)
        return None if found is None else dict(found)

    async def keep_prompts(self, items: Sequence[JsonObject]) -> list[None]:
        """Keeps what models are about to be asked."""
        await self._pool.value("select atlas.keep_prompts($1)", list(items))
        return [None] * len(items)

    async def get_prompt(self, task: UUID, asking: TaskId) -> JsonObject | None:
        """What was asked for a reply that the asking task's sender may read."""
        found = await self._pool.value("select atlas.get_prompt($1, $2)", task, asking)
        return None if found is None else dict(found)

    async def trim_prompt_texts(self) -> int:
        """Removes texts that no prompt has any more; says how many."""
        return int(await self._pool.value("select atlas.trim_prompt_texts()"))

    async def read_first(self, task: TaskId) -> JsonObject:
        """What is decided, or proposed just now, that a task's question speaks of; and what it asked back and was answered."""
        (row,) = await self._pool.rows("select atlas.read_first($1) as found, atlas.get_asked($1) as asked", task)
        return {**row["found"], "asked": row["asked"]}

    async def ask_back(self, attempt: AttemptId, content: str, metadata: JsonObject, usages: JsonObject) -> str:
        """Says the state the task is in now: needs_input."""
        return str(await self._pool.value("select atlas.ask_back($1, $2, $3, $4)", attempt, content, metadata, usages))

    # --- control ------------------------------------------------------------------------------------------------

    async def pause(self, reason: str | None) -> None:
        await self._pool.value("select atlas.pause($1)", reason)

    async def resume(self) -> None:
        await self._pool.value("select atlas.resume()")

    async def flush_cache(self) -> None:
        await self._pool.value("select atlas.flush_cache()")

    async def queue_metrics(self) -> JsonObject:
        return dict(await self._pool.value("select atlas.queue_metrics()"))

    # --- models -------------------------------------------------------------------------------------------------

    async def list_models(self) -> dict[str, Model]:
        return read_models(await self._pool.value("select atlas.list_models()"))

    async def record_model(
        self, name: str, outcome: Literal["ok", "failed", "missing"], error: str | None = None, *, trial: bool = False
    ) -> str:
        return str(await self._pool.value("select atlas.record_model($1, $2, $3, $4)", name, outcome, error, trial))

    async def take_trial(self, name: str) -> bool:
        return bool(await self._pool.value("select atlas.take_trial($1)", name))

    async def take_probes(self) -> list[str]:
        """The models whose breaker is open and whose probe is due: the caller probes them now."""
        return [row["m"] for row in await self._pool.rows("select m from atlas.take_probes() m")]

    async def record_probe(self, name: str, *, ok: bool, error: str | None = None, shutdown_at: date | None = None) -> None:
        """What a probe found."""
        await self._pool.value("select atlas.record_probe($1, $2, $3, $4)", name, ok, error, shutdown_at)

    async def measure_models(self) -> int:
        """Measures how long replies usually are."""
        return int(await self._pool.value("select atlas.measure_models()"))

    async def lease_rate(self, model: str, requests: int, tokens: int) -> JsonObject:
        return dict(await self._pool.value("select atlas.lease_rate($1, $2, $3)", model, requests, tokens))

    async def record_rate(self, model: str, limits: Sequence[JsonObject], retry_after: float | None = None) -> None:
        wait = timedelta(seconds=retry_after) if retry_after is not None else None
        await self._pool.value("select atlas.record_rate($1, $2, $3)", model, list(limits), wait)

    # --- trouble upstream ---------------------------------------------------------------------------------------

    async def defer_upstream(self, message: str) -> int:
        """Sets questions aside that are ready while no model answers; says how many."""
        return int(await self._pool.value("select atlas.defer_upstream($1)", message))

    async def end_holds(self) -> int:
        """Ends the holds whose time is over; says how many."""
        return int(await self._pool.value("select atlas.end_holds()"))

    async def take_orphans(self) -> list[tuple[int, AttemptId, str]]:
        """Calls whose response no attempt reads any more: spend id, attempt, response."""
        rows = await self._pool.rows("select * from atlas.take_orphans()")
        return [(row["spend_id"], AttemptId(row["attempt_id"]), row["response_id"]) for row in rows]

    async def set_spend_rules(self, rules: JsonObject) -> None:
        await self._pool.value("select atlas.set_spend_rules($1)", rules)

    async def watch_audit(self) -> int:
        """Checks the newest rows of the audit, unless another worker has done so lately; says how many do not fit."""
        return int(await self._pool.value("select atlas.watch_audit()"))

    async def trim_history(self) -> JsonObject:
        """Trims what the retention no longer keeps, some of it: how many tasks, texts and parts' replies."""
        (row,) = await self._pool.rows("select * from atlas.trim_history()")
        return dict(row)

    async def watch_ledger(self) -> JsonObject:
        """Proves the books, unless another worker has done so lately: {"wrong": rows, "rows": those found now}."""
        return dict(await self._pool.value("select atlas.watch_ledger()"))


def _claimed(row: asyncpg.Record) -> ClaimedTask:
    values = dict(row)
    inherited = values.pop("inherited")
    return ClaimedTask(**values, inherited=Inherited(**inherited) if inherited else None)
