"""erase, retention: what goes, on request and by age."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

import typer

from atlas.commands import statements
from atlas.commands.common import JsonFlag, agreed, counted, dump, operator, runs
from atlas.commands.console import say, tell
from atlas.database.operator import Operator
from atlas.database.tasks import PostgresTasks
from atlas.errors import UsageError, WrongState


@runs
async def erase(
    task: Annotated[str | None, typer.Option(help="A task id, a unique prefix of one, or `last`.")] = None,
    sender: Annotated[str | None, typer.Option(help="A sender as `atlas spend --by sender` shows it.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Permanently erase the texts of one task, or of all of a sender's. Ids, amounts and the audit stay."""
    if (task is None) == (sender is None):
        raise UsageError("nothing is named" if task is None else "both --task and --sender are given", "name one of them")
    async with operator() as reads:
        if task is not None:
            found = await PostgresTasks(reads).find(task)
            _agree(f"erase the texts of task {found}?", yes)
            await reads.call("erase", found)
            say(dump({"erased": 1, "unfinished": 0}) if as_json else f"erased the texts of task {found}")
            return
        _agree(f"erase the texts of all tasks of {sender}?", yes)
        erased, unfinished = await _erase_sender(reads, str(sender))
    if as_json:
        say(dump({"erased": erased, "unfinished": unfinished}))
    else:
        say(f"erased what {sender} wrote: {counted(erased, 'text')}")
    if unfinished:
        what = f"1 task of {sender} has" if unfinished == 1 else f"{unfinished} tasks of {sender} have"
        raise WrongState(f"{what} not ended", f"cancel {'it' if unfinished == 1 else 'them'}, and run it again")


def _agree(question: str, yes: bool) -> None:
    if not yes and not agreed(question):
        raise UsageError("erasing cannot be undone, and nobody agreed", "add --yes")


async def _erase_sender(reads: Operator, sender: str) -> tuple[int, int]:
    erased, after = 0, None
    while True:
        (row,) = await reads.call_rows("erase_sender", sender, *(() if after is None else (after,)))
        erased += row["erased"]
        if row["next"] is None and not row["erased"]:
            return erased, row["unfinished"]
        after = row["next"] or after
        if row["erased"]:
            tell(f"{erased} erased so far")


@runs
async def retention(
    tasks: Annotated[str | None, typer.Option(help="How long to keep ended tasks, such as 365d; `forever`.")] = None,
    texts: Annotated[str | None, typer.Option(help="How long to keep their texts, such as 90d; `forever`.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show or set how long ended tasks and their texts are kept. Spend and audit stay."""
    async with operator() as reads:
        (kept,) = await reads.rows(statements.retention())
        if tasks is not None or texts is not None:
            wanted = {
                name: kept[name] if text is None else _span(text)
                for name, text in (("keep_tasks", tasks), ("keep_texts", texts))
            }
            await reads.call("set_retention", wanted["keep_tasks"], wanted["keep_texts"])
            (kept,) = await reads.rows(statements.retention())
    days = {name: None if span is None else span.total_seconds() / 86400 for name, span in kept.items()}
    if as_json:
        say(dump({"tasks_days": days["keep_tasks"], "texts_days": days["keep_texts"]}))
        return
    say(f"ended tasks are kept {_said(days['keep_tasks'])}; their texts {_said(days['keep_texts'])}; spend and audit forever")


def _said(days: float | None) -> str:
    return "forever" if days is None else f"for {days:g} days"


def _span(text: str) -> timedelta | None:
    if text == "forever":
        return None
    match = re.fullmatch(r"(\d{1,5})d", text)
    if not match or not 1 <= int(match[1]) <= 36500:
        raise UsageError(f"{text!r} is not a number of days", "write 90d, from 1d to 36500d, or forever")
    return timedelta(days=int(match[1]))


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (erase, retention):
        app.command()(command)
