"""accept, reject, supersede, decisions: what a project made of the records that it was given."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from atlas.commands import records
from atlas.commands.common import JsonFlag, TaskArgument, dump, face, runs, show_rows
from atlas.commands.console import say
from atlas.errors import NotFoundError, UsageError
from atlas.tasks.port import Tasks

Reason = Annotated[str | None, typer.Option("--reason", help="Why, for whoever reads it later.")]
Project = Annotated[str | None, typer.Option("--project", help="A project's name or id, where several have this number.")]
COLUMNS = {
    "number": "ADR", "status": "STATUS", "superseded_by": "BY", "title": "TITLE", "project": "PROJECT", "decided_at": "DECIDED",
    "reason": "REASON",
}  # fmt: skip
STATUSES = ("proposed", "accepted", "rejected", "deprecated", "superseded")
Number = Annotated[str, typer.Argument(help="A decision: 7, or ADR-7.")]


@runs
async def accept(
    task: TaskArgument,
    reason: Reason = None,
    supersedes: Annotated[
        list[str] | None, typer.Option(help="A decision that this one takes the place of; may be repeated.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Accept a task's reply as a decision of its project."""
    older = [_number(one) for one in supersedes or ()]
    async with face() as tasks:
        _tell(await tasks.accept(await tasks.find(task), reason, older), as_json)


@runs
async def reject(task: TaskArgument, reason: Reason = None, as_json: JsonFlag = False) -> None:
    """Reject a task's reply, so that nobody has to wonder about it."""
    async with face() as tasks:
        _tell(await tasks.reject(await tasks.find(task), reason), as_json)


@runs
async def supersede(
    number: Number,
    by: Annotated[str, typer.Option(help="The decision that holds instead: 9, or ADR-9.")],
    reason: Reason = None,
    project: Project = None,
    as_json: JsonFlag = False,
) -> None:
    """Let one accepted decision take the place of another."""
    async with face() as tasks:
        found = await _the_one(tasks, number, project)
        _tell(await tasks.supersede(found["project_id"], found["number"], _number(by), reason), as_json)


@runs
async def list_decisions(
    context: typer.Context,
    status: Annotated[str | None, typer.Option(help=f"{', '.join(STATUSES)}.")] = None,
    project: Project = None,
    as_json: JsonFlag = False,
) -> None:
    """What was decided: list it, show one, write it into a repository, read it from there, see what is stale."""
    if context.invoked_subcommand is not None:
        return
    if status is not None and status not in STATUSES:
        raise UsageError(f"--status {status} is not known", f"use one of {', '.join(STATUSES)}")
    async with face() as tasks:
        rows = await tasks.decisions(project=await tasks.project(project) if project else None, status=status)
    show_rows(rows, COLUMNS, as_json=as_json, empty="nothing is decided yet: `atlas accept last`",
              right=("number", "superseded_by"), rank=("number", "title", "status", "superseded_by"))  # fmt: skip


@runs
async def show(number: Number, project: Project = None, as_json: JsonFlag = False) -> None:
    """Print a decision's record, as it was when it was decided."""
    async with face() as tasks:
        found = await _the_one(tasks, number, project)
        text = await tasks.record(found["project_id"], found["number"])
    say(dump(found | {"content": text}) if as_json else text)


async def _the_one(tasks: Tasks, number: str, project: str | None) -> dict[str, Any]:
    named = _number(number)
    rows = await tasks.decisions(project=await tasks.project(project) if project else None, number=named)
    if not rows:
        raise NotFoundError(f"no decision ADR-{named}", "see `atlas decisions`")
    if len(rows) > 1:
        raise UsageError(
            f"ADR-{named} is in several projects ({', '.join(row['project'] for row in rows)})", "name one with --project"
        )
    return dict(rows[0])


def _number(text: str) -> int:
    plain = text.strip().lower().removeprefix("adr-")
    if not plain.isdecimal() or not 0 <= int(plain) < 2**31:
        raise UsageError(f"{text!r} is not a decision", "give its number, such as 7 or ADR-7")
    return int(plain)


def _tell(decision: dict[str, Any], as_json: bool) -> None:
    by = f" by ADR-{decision['superseded_by']}" if decision["superseded_by"] else ""
    say(dump(decision) if as_json else f"ADR-{decision['number']} {decision['status']}{by}: {decision['title']}")


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (accept, reject, supersede):
        app.command()(command)
    group = typer.Typer(no_args_is_help=False)
    group.callback(invoke_without_command=True)(list_decisions)
    group.command()(show)
    records.register(group, app)
    app.add_typer(group, name="decisions")
