"""dlq list, retry, skip: what failed for good."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas.commands import statements
from atlas.commands.common import JsonFlag, dump, operator, runs, show_rows
from atlas.commands.console import say
from atlas.database.operator import Operator
from atlas.database.tasks import PostgresTasks
from atlas.errors import NotFoundError, UsageError

dlq = typer.Typer(help="Dead letters: what failed for good.", no_args_is_help=True)
Kind = Annotated[str, typer.Option(help="task or outbox.")]


def _kind(kind: str) -> str:
    if kind not in ("task", "outbox"):
        raise UsageError(f"--kind {kind!r} is not known", "use task or outbox")
    return kind


@dlq.command("list")
@runs
async def dlq_list(kind: Kind = "task", as_json: JsonFlag = False) -> None:
    """List dead letters."""
    async with operator() as reads:
        if _kind(kind) == "task":
            rows = await reads.rows(statements.dead_letters())
            columns = {"id": "ID", "failures": "FAILURES", "error_code": "CODE", "error_message": "WHY",
                       "finished_at": "SINCE", "title": "QUESTION"}  # fmt: skip
        else:
            rows = await reads.rows(statements.dead_rows())
            columns = {"id": "ID", "destination": "DESTINATION", "task_id": "TASK", "rejections": "REJECTIONS",
                       "last_error": "WHY", "created_at": "SINCE"}  # fmt: skip
    show_rows(rows, columns, as_json=as_json, empty=f"no dead letters of kind {kind}")


Letter = Annotated[str | None, typer.Argument(help="A task (id, prefix, `last`), or the number of an outbox row.")]
Everything = Annotated[bool, typer.Option("--all", help="All dead letters of the kind.")]


def _one_or_all(letter: str | None, everything: bool) -> None:
    if (letter is None) == (not everything):
        raise UsageError(
            "nothing is named" if letter is None else "both a letter and --all are given", "name one, or use --all"
        )


@dlq.command("retry")
@runs
async def dlq_retry(
    letter: Letter = None, kind: Kind = "task", everything: Everything = False, as_json: JsonFlag = False
) -> None:
    """Retry dead letters."""
    _one_or_all(letter, everything)
    async with operator() as reads:
        if _kind(kind) == "task":
            if everything:
                ids = [row["id"] for row in await reads.rows(statements.dead_letters())]
            else:
                ids = [await PostgresTasks(reads).find(letter or "", state="dead_lettered")]
            for one in ids:
                await reads.call("retry_task", one)
            count = len(ids)
        else:
            count = await _settle_rows(reads, "retry_outbox", letter)
    say(dump({"retried": count}) if as_json else f"{count} queued again")


@dlq.command("skip")
@runs
async def dlq_skip(letter: Letter = None, everything: Everything = False, as_json: JsonFlag = False) -> None:
    """Give rows of the outbox up, dead ones or such as nobody takes, so that the later ones of their tasks leave."""
    _one_or_all(letter, everything)
    async with operator() as reads:
        count = await _settle_rows(reads, "skip_outbox", letter)
    say(dump({"skipped": count}) if as_json else f"{count} given up")


async def _settle_rows(reads: Operator, function: str, letter: str | None) -> int:
    """Dead rows of the outbox: one, or all of them where none is named."""
    if letter is None:
        numbers = [row["id"] for row in await reads.rows(statements.dead_rows())]
    elif letter.isdecimal() and len(letter) < 19:
        numbers = [int(letter)]
    else:
        raise UsageError(f"{letter!r} is not an outbox row", "give its number from `atlas dlq list --kind outbox`")
    count = int(await reads.call(function, numbers))
    if letter is not None and count == 0:
        raise NotFoundError(f"outbox row {letter} is not waiting for that", "see `atlas dlq list --kind outbox`")
    return count


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(dlq, name="dlq")
