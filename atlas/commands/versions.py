"""answer, revise, diff, replay: what is said to a reply, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from atlas.commands.common import JsonFlag, TaskArgument, dump, face, local_worker, runs, show_rows
from atlas.commands.console import say, tell
from atlas.commands.following import end_with, fail_unless_completed, show_stream, unless_interrupted
from atlas.commands.tasks import StreamFlag, follow_to_end, question_of, send
from atlas.errors import UsageError, WrongState
from atlas.ids import short_id
from atlas.messages import chat
from atlas.record.changes import SectionChange, changes
from atlas.record.opening import opening_of


@runs
async def answer(
    task: TaskArgument,
    text: Annotated[str | None, typer.Argument(help="The answer; `-` reads standard input.", show_default=False)] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the state and leave.")] = False,
    stream: StreamFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Answer what a task asked back, and follow it."""
    said = question_of(text, None)
    async with face() as reads:
        found = await reads.find(task)
        state = await reads.answer(found, said)
        if detach:
            say(dump({"task_id": found, "state": state}) if as_json else state)
            return
        await follow_to_end(reads, found, raw=stream, as_json=as_json)


@runs
async def revise(
    task: TaskArgument,
    change: Annotated[
        str | None, typer.Argument(help="What has to change; `-` reads standard input.", show_default=False)
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read it from a file.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the id and leave.")] = False,
    stream: StreamFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Revise a reply: untouched sections stay byte for byte the same."""
    text = question_of(change, file)
    async with face() as reads:
        old = await reads.task(await reads.find(task))
        if old["state"] != "completed":
            raise WrongState(f"task {short_id(old['id'])} is {old['state']}", "a completed reply can be revised")
        message = chat(text, revises=str(old["id"]), project=old["metadata"].get("project"))
        await send(reads, message, detach=detach, raw=stream, as_json=as_json)


@runs
async def diff(
    task: TaskArgument,
    other: Annotated[str | None, typer.Argument(help="The earlier version; without it, what the task revises.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what changed between two versions of a record, by section and sentence."""
    async with face() as reads:
        new = await reads.task(await reads.find(task))
        named = other or new["metadata"].get("revises")
        if named is None:
            raise UsageError(f"task {short_id(new['id'])} revises nothing", "name the earlier version: atlas diff TASK EARLIER")
        old = await reads.task(await reads.find(named))
    for one in (old, new):
        if not one["reply"]:
            raise WrongState(f"task {short_id(one['id'])} is {one['state']}, without a reply", "compare two that are completed")
    found = changes(*(one["reply"][len(opening_of(one["reply"])) :] for one in (old, new)))
    if as_json:
        say(dump([_as_row(change) for change in found]))
        return
    _show_changes(found)


@runs
async def replay(
    task: TaskArgument,
    model: Annotated[str | None, typer.Option(help="Ask this model; without it, the first of the chain.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask a reply's very prompt again, the same sources in it, and compare the two: costs, and a diff."""
    async with face() as reads:
        old = await reads.task(await reads.find(task))
        if old["state"] != "completed" or not old["reply"]:
            raise WrongState(f"task {short_id(old['id'])} is {old['state']}", "a completed reply can be replayed")
        message = chat(old["question"], replays=str(old["id"]), model=model, project=old["metadata"].get("project"))
        sent = await reads.submit(message)
        found = UUID(str(sent["task_id"]))
        tell(f"task {found}")
        following = show_stream(reads, found, quiet=True, raw=False, worker=local_worker())
        new = await unless_interrupted(following, found, lambda: reads.cancel(found))
    fail_unless_completed(new)
    both = [_measures(one) for one in (old, new)]
    found_changes = changes(*(one["reply"][len(opening_of(one["reply"])) :] for one in (old, new)))
    if as_json:
        say(dump({"before": both[0], "after": both[1], "changes": [_as_row(change) for change in found_changes]}))
        return
    show_rows(
        [{"what": name, "before": both[0][name], "after": both[1][name]} for name in both[0]],
        {"what": "", "before": "BEFORE", "after": "AFTER"}, as_json=False, empty="",
    )  # fmt: skip
    say()
    _show_changes(found_changes)
    end_with(new)


def _measures(task: dict[str, Any]) -> dict[str, Any]:
    """What a reply is measured by."""
    claims = task["metadata"].get("claims") or {}
    return {
        "task": str(task["id"]), "model": task["model"], "tokens in": sum(call["input_tokens"] or 0 for call in task["calls"]),
        "tokens out": sum(call["output_tokens"] or 0 for call in task["calls"]), "usd": task["usd"],
        "words": len(task["reply"].split()), "cited": claims.get("cited"), "unsupported": len(claims.get("unsupported") or ()),
        "warnings": len(task["metadata"].get("warnings") or ()),
    }  # fmt: skip


def _as_row(change: SectionChange) -> dict[str, Any]:
    return {"section": change.name, "state": change.state, "removed": change.removed, "added": change.added}


def _show_changes(found: Sequence[SectionChange]) -> None:
    for change in found:
        if change.state != "same":
            say(f"## {change.name} ({change.state})")
            for sign, lines in (("-", change.removed), ("+", change.added)):
                for line in lines:
                    say(f"{sign} {line}")
            say()
    tell(f"the same: {', '.join(change.name for change in found if change.state == 'same') or 'nothing'}")


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (answer, revise, diff, replay):
        app.command()(command)
