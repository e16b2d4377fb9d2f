"""pause, resume, control, schema."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Annotated, Any

import typer

from atlas.commands.common import JsonFlag, dump, operator, runs
from atlas.commands.console import say
from atlas.database.tasks import PostgresTasks
from atlas.errors import TaskFailed, UsageError
from atlas.ids import as_uuid, new_id
from atlas.messages import control as control_message
from atlas.messages import json_schema
from atlas.record import front_matter, plan
from atlas.tasks.statements import replies

SCHEMAS = {"message": json_schema, "decision": front_matter.schema, "plan": plan.schema}
COMMANDS = ("flush_cache", "heartbeat", "set_budget", "escalate", "cancel", "pause", "resume")


@runs
async def pause(
    reason: Annotated[str | None, typer.Option(help="Why, for others to see.")] = None, as_json: JsonFlag = False
) -> None:
    """Stop claims of questions; what runs is finished."""
    async with operator() as reads:
        await reads.call("pause", reason)
    say(dump({"paused": True}) if as_json else "paused: `atlas resume` goes on")


@runs
async def resume(as_json: JsonFlag = False) -> None:
    """Claim questions again."""
    async with operator() as reads:
        await reads.call("resume")
    say(dump({"paused": False}) if as_json else "resumed")


@runs
async def control(
    command: Annotated[
        str, typer.Argument(help=f"One of {', '.join(COMMANDS)}, or a JSON object; name=value alone sets a budget.")
    ],
    options: Annotated[
        list[str] | None, typer.Argument(help="name=value pairs of the command; none takes a limit away.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for a worker's answer.")] = 15,
    as_json: JsonFlag = False,
) -> None:
    """Send a control message over the bus, and print the worker's answer."""
    body = _command(command, options or [])
    task_id = new_id()
    async with operator() as reads:
        if isinstance(body.get("task_id"), str) and as_uuid(body["task_id"]) is None:
            body["task_id"] = str(await PostgresTasks(reads).find(body["task_id"]))
        await PostgresTasks(reads).submit(control_message(json.dumps(body), task_id=task_id))
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for row in await reads.rows(replies(task_id)):
                data = row["data"]
                if as_json:
                    say(dump(data))
                else:
                    say(f"{data['metadata']['status']}: {data['content'] or data['metadata'].get('error', {}).get('message')}")
                if data["metadata"]["status"] not in ("ok", "completed"):
                    raise TaskFailed(f"{body['command']} is {data['metadata']['status']}", "see the answer above")
                return
            await asyncio.sleep(0.05)
    raise TaskFailed(f"no worker answered within {timeout:g} s", "see `atlas status`")


def _command(command: str, options: list[str]) -> dict[str, Any]:
    if command.lstrip().startswith("{"):
        try:
            body: dict[str, Any] = json.loads(command)
        except json.JSONDecodeError as error:
            raise UsageError(f"the command is not JSON ({error})", 'write {"command": "heartbeat"}') from error
    elif "=" in command:
        # a limit without a command: `atlas control daily=none`
        body, options = {"command": "set_budget"}, [command, *options]
    else:
        body = {"command": command}
    for pair in options:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{pair!r} is not name=value", "write per_run=8000")
        try:
            body[name] = None if value == "none" else json.loads(value)
        except json.JSONDecodeError:
            body[name] = value
    return body


@runs
async def schema(
    of: Annotated[str, typer.Argument(help=f"{', '.join(SCHEMAS)}: of what.", show_default=True)] = "message",
) -> None:
    """Print a JSON Schema: of the messages, of a decision's front matter, of a plan."""
    if of not in SCHEMAS:
        raise UsageError(f"unknown schema {of!r}", f"use one of {', '.join(SCHEMAS)}")
    say(json.dumps(SCHEMAS[of](), indent=2))


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (pause, resume, control, schema):
        app.command()(command)
