"""Control messages: one function a command. The database has checked their form at the door."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from uuid import UUID

from atlas.adapters.postgres import Bus
from atlas.errors import RefusedError
from atlas.metrics import Metrics
from atlas.task import ClaimedTask, Completion, JsonObject, TaskId


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


async def execute(task: ClaimedTask, bus: Bus, server: Server, metrics: Metrics) -> Completion:
    """Carries a command out, and answers it. Raises RefusedError where the database refuses it."""
    command = command_of(task)
    name = command["command"]
    status = "completed"
    answer: JsonObject = {"command": name}
    match name:
        case "heartbeat":
            found = await bus.queue_metrics()
            status = "ok"
            answer |= {
                "version": server.version,
                "uptime_seconds": round(time.monotonic() - server.started, 3),
                "queue_depth": found["queued"] + found["waiting"],
                "running": found["running"],
                "paused": found["paused"],
                "models": list(server.models),
            }
        case "flush_cache":
            await bus.flush_cache()
        case "set_budget":
            limits: JsonObject = {key: command[key] for key in ("per_run", "daily", "usd_daily") if key in command}
            answer["budget"] = await bus.set_budget(command.get("scope", "global"), limits)
        case "cancel":
            target = TaskId(UUID(command.get("task_id") or str(task.message_task_id)))
            answer |= {"task_id": str(target), "state": await bus.cancel_task(target)}
        case "pause":
            await bus.pause(command.get("reason"))
        case "resume":
            await bus.resume()
        case "escalate":
            # from the router: complete_task audits it; people see it in the answer
            metrics.escalations.inc()
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
