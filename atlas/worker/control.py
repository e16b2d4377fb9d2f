"""Control messages: one function a command. The database has validated their form."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from uuid import UUID

from atlas.errors import RefusedError
from atlas.metrics.worker import Metrics
from atlas.task import ClaimedTask, Completion, JsonObject, TaskId
from atlas.worker.ports import Queue

LIMITS = ("per_run", "daily", "monthly", "usd_per_run", "usd_daily", "usd_monthly", "enforcement", "when_spent")
"""What set_budget sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What a heartbeat says of this worker."""

    version: str
    models: tuple[str, ...]
    started: float
    """time.monotonic() at its start."""


def command_of(task: ClaimedTask) -> JsonObject:
    """The command: content holds its JSON, metadata may carry it too."""
    try:
        found = json.loads(task.question)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or "command" not in found:
        found = task.metadata
    return dict(found)


class Controller:
    """Carries commands out."""

    def __init__(self, queue: Queue, server: Server, metrics: Metrics) -> None:
        self._queue = queue
        self._server = server
        self._metrics = metrics

    async def execute(self, task: ClaimedTask) -> Completion:
        """Carries a command out, and answers it. Raises RefusedError where the database refuses it."""
        command = command_of(task)
        name = command["command"]
        status = "completed"
        answer: JsonObject = {"command": name}
        match name:
            case "heartbeat":
                found = await self._queue.queue_metrics()
                status = "ok"
                answer |= {
                    "version": self._server.version,
                    "uptime_seconds": round(time.monotonic() - self._server.started, 3),
                    "queue_depth": found["queued"] + found["waiting"],
                    "running": found["running"],
                    "paused": found["paused"],
                    "models": list(self._server.models),
                }
            case "flush_cache":
                await self._queue.flush_cache()
            case "set_budget":
                limits: JsonObject = {key: command[key] for key in LIMITS if key in command}
                answer["budget"] = await self._queue.set_budget(command.get("scope", "global"), limits)
            case "cancel":
                target = TaskId(UUID(command.get("task_id") or str(task.message_task_id)))
                answer |= {"task_id": str(target), "state": await self._queue.cancel_task(target)}
            case "pause":
                await self._queue.pause(command.get("reason"))
            case "resume":
                await self._queue.resume()
            case "escalate":
                # from the router: complete_task audits it; people see it in the answer
                self._metrics.escalations.inc()
                answer |= {key: command[key] for key in ("task_id", "code", "message") if key in command}
            case _:
                raise RefusedError(f"command {name!r} is not known to this worker", "update the worker")
        return Completion(
            attempt_id=task.attempt_id,
            content=json.dumps(answer, default=str),
            metadata={"status": status, "kind": f"control.{name}"},
            model=None,
            msg_type="control",
        )
