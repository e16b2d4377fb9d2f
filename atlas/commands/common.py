"""What all commands share: how they run, how they fail, how they show."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from atlas import loop
from atlas.commands.console import complain, say, tell
from atlas.environment import environment
from atlas.errors import AtlasError
from atlas.extras import missing
from atlas.ids import short_id
from atlas.local.address import database_url
from atlas.settings import Settings
from atlas.tasks.port import Tasks
from atlas.text import visible
from atlas.variables import load

if TYPE_CHECKING:
    from atlas.database.operator import Operator
    from atlas.local.process import Background

P = ParamSpec("P")
Loop = Callable[[Coroutine[Any, Any, None]], None]

Found = Callable[[str, str, str], None]
"""Takes a finding: its level (ok, check, warning, problem), what it is about, and a sentence."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TaskArgument = Annotated[str, typer.Argument(help="A task id, a unique prefix of one, or `last`.")]


def runs(command: Callable[P, Awaitable[None]], *, on: Loop = asyncio.run) -> Callable[P, None]:
    """An async command: AtlasErrors become one line and their exit code, Ctrl-C becomes 130. on: what runs its loop."""

    @functools.wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            on(_awaited(command(*arguments, **options)))
        except AtlasError as error:
            complain(error.line)
            raise typer.Exit(error.exit_code) from None
        except ModuleNotFoundError as error:
            extra = missing(error)
            if extra is None:
                raise
            complain(extra.line)
            raise typer.Exit(extra.exit_code) from None
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise typer.Exit(130) from None

    return run


def serves(command: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """A command that runs for as long as it is let: on the quickest loop that is there."""
    return runs(command, on=loop.run)


async def _awaited(work: Awaitable[None]) -> None:
    await work


def settings() -> Settings:
    """The settings: of the environment, of `.env`, and the keys that are stored."""
    return load(environment(os.environ))


@asynccontextmanager
async def operator() -> AsyncIterator[Operator]:
    """An operator's connection."""
    from atlas.database.operator import connect  # imported here: it brings SQLAlchemy

    async with connect(database_url(settings(), "postgres")) as found:
        yield found


@asynccontextmanager
async def face() -> AsyncIterator[Tasks]:
    """Where tasks are asked and read: DATABASE_URL for operators, else SUPABASE_URL for people, else the embedded stack."""
    known = settings()
    if known.database_url is None and known.supabase_url is not None:
        from atlas.supabase.tasks import connect  # imported here: it brings the supabase client

        async with connect(known) as people:
            yield people
        return
    from atlas.database.tasks import PostgresTasks

    async with operator() as found:
        yield PostgresTasks(found)


def local_worker() -> Background | None:
    """The worker of the embedded stack, where tasks are asked there."""
    known = settings()
    if known.database_url is not None or known.supabase_url is not None:
        return None
    from atlas.local.process import Background  # imported here: the bare wheel has no embedded stack

    return Background(known.home, "worker")


def dump(value: object) -> str:
    """JSON for machines; times in ISO 8601."""
    return json.dumps(value, default=_plain, ensure_ascii=False, indent=2)


def _plain(value: object) -> object:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "total_seconds"):
        return value.total_seconds()
    if hasattr(value, "as_tuple"):
        return float(str(value))
    return str(value)


def show_rows(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, as_json: bool, empty: str, right: Sequence[str] = (),
    rank: Sequence[str] = (),
) -> None:  # fmt: skip
    """Rows as a table on a terminal, as tab-separated lines in a pipe, as JSON where asked.

    columns: heading of each column of a row, in order. rank: from the one that matters most; where the terminal is too narrow
    those that matter least are left out, and named below the table.
    """
    if as_json:
        say(dump(rows))
        return
    if not rows:
        tell(empty)
        return
    cells = [[cell(row.get(name), name) for name in columns] for row in rows]
    if not sys.stdout.isatty():
        say("\t".join(columns.values()))
        for line in cells:
            say("\t".join(text.replace("\t", " ").replace("\n", " ") for text in line))
        return
    console = Console()
    widths = {
        name: max(cell_len(heading), *(cell_len(visible(line[n])) for line in cells))
        for n, (name, heading) in enumerate(columns.items())
    }
    empties = {name for place, name in enumerate(columns) if not any(line[place] for line in cells)}
    ranked = [*rank, *(name for name in columns if name not in rank)]
    # empty columns are the first to be left out
    ranked.sort(key=lambda name: name in empties)
    kept = fitting(widths, console.width, right=right, rank=ranked)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, heading in columns.items():
        if name in kept:
            least = widths[name] if name in right else min(widths[name], NARROWEST)
            table.add_column(heading, justify="right" if name in right else "left", overflow="fold", min_width=least)
    for row, line in zip(rows, cells, strict=True):
        shown = [Text(visible(text)) for name, text in zip(columns, line, strict=True) if name in kept]
        table.add_row(*shown, style=_COLOURS.get(str(row.get("state")), ""))
    console.print(table)
    if left_out := [heading for name, heading in columns.items() if name not in kept | empties]:
        tell(f"not shown in {console.width} columns: {', '.join(left_out)} (a wider terminal, or --json)")


NARROWEST = 16
"""Columns that a text may be squeezed into; numbers, times and ids are never broken."""


def fitting(widths: Mapping[str, int], room: int, *, right: Sequence[str], rank: Sequence[str]) -> set[str]:
    """The columns that fit side by side, two spaces between them: those that come last in rank are left out first."""
    kept = set(widths)
    for name in reversed(rank):
        needed = sum(widths[one] if one in right else min(widths[one], NARROWEST) for one in kept) + 2 * (len(kept) - 1)
        if needed <= room or len(kept) == 1:
            break
        kept.discard(name)
    return kept


_COLOURS = {"completed": "", "running": "cyan", "queued": "yellow", "failed": "red", "dead_lettered": "red", "cancelled": "dim"}


def cell(value: object, name: str = "") -> str:
    """A value in a table."""
    if value is None:
        return ""
    if name == "usd" or name.endswith("_usd") or name == "usd_daily":
        return f"{float(str(value)):.4f}"
    if name == "id" and len(str(value)) == 36:
        return short_id(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ") if sys.stdout.isatty() else str(value)
    if hasattr(value, "strftime") and hasattr(value, "hour"):
        return str(value.strftime("%Y-%m-%d %H:%M:%S"))
    if hasattr(value, "total_seconds"):
        return f"{value.total_seconds():.1f} s"
    return str(value)


def counted(number: int, what: str) -> str:
    """A number of things: 1 file, 2 files."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def spent_of(budget: Mapping[str, Any]) -> list[tuple[float, float, str, str]]:
    """What is settled of each limit of a budget: used, limit, unit, and of when."""
    limits = (("daily", "settled_tokens", "tokens", "today"), ("usd_daily", "settled_usd", "usd", "today"),
              ("monthly", "month_settled_tokens", "tokens", "this month"),
              ("usd_monthly", "month_settled_usd", "usd", "this month"))  # fmt: skip
    return [
        (float(budget[used]), float(budget[limit]), unit, when)
        for limit, used, unit, when in limits
        if budget[limit] is not None
    ]


def agreed(question: str) -> bool:
    """Asks at a terminal; elsewhere nobody is there to agree."""
    return sys.stdin.isatty() and sys.stderr.isatty() and typer.confirm(visible(question), err=True)


class Steps:
    """Set-up steps with their elapsed time: `[1/5] packages … 38 s`. On a terminal the seconds count while it runs."""

    def __init__(self, total: int, *, done: int = 0) -> None:
        self.total = total
        self.number = done

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """One step; says its time when it ends."""
        self.number += 1
        head = f"[{self.number}/{self.total}] {what} … "
        began = time.monotonic()
        console = Console(stderr=True, highlight=False)
        if console.is_terminal:
            with console.status(Text(head)):
                yield
        else:
            yield
        tell(f"{head}{time.monotonic() - began:.1f} s")
