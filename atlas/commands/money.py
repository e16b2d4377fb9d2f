"""spend, budget."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from atlas.architect import prompt
from atlas.commands.common import JsonFlag, dump, face, operator, runs, settings, show_rows, spent_of
from atlas.commands.console import EXIT_BUDGET, complain, say
from atlas.commands.tasks import question_of
from atlas.errors import UsageError
from atlas.llm.tokens import Vocabularies
from atlas.tasks.statements import SPEND_KEYS
from atlas.tasks.values import Row

COLUMNS = {
    "calls": "CALLS", "input_tokens": "IN", "cached_tokens": "CACHED", "output_tokens": "OUT", "reasoning_tokens": "REASONING",
    "tokens": "TOKENS", "usd": "USD", "unknown": "UNKNOWN",
}  # fmt: skip
APART = {"cache_write_tokens": "CACHE WRITES", "held_usd": "HELD USD", "presumed_usd": "PRESUMED USD"}
"""Shown where there are any: what is held and what was presumed not made are not among the dollars."""
COUNTED = ("held_calls", "held_tokens", "presumed_calls")
LIMITS = {
    "per_run": "PER RUN", "usd_per_run": "USD PER RUN", "daily": "DAILY", "usd_daily": "USD DAILY", "monthly": "MONTHLY",
    "usd_monthly": "USD MONTHLY",
}  # fmt: skip


def month_of(text: str) -> tuple[date, date]:
    """The first day of a month, and of the one after it. Raises UsageError for what is not YYYY-MM."""
    try:
        first = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        raise UsageError(f"--month {text!r} is not a month", "write it as 2026-11") from None
    if first.year > 9000:
        raise UsageError(f"--month {text!r} is too far off", "write it as 2026-11")
    following = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return first, following


@runs
async def spend(
    by: Annotated[str, typer.Option(help="day, model, sender, project or decision.")] = "day",
    month: Annotated[str | None, typer.Option(help="Only this month, such as 2026-11 (UTC).")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """What was spent, in tokens and dollars; apart, what is held and what was presumed not made."""
    if by not in SPEND_KEYS:
        raise UsageError(f"--by {by!r} is not known", "use day, model, sender, project or decision")
    since, until = month_of(month) if month else (None, None)
    async with face() as reads:
        rows = await reads.spend(by, since=since, until=until)
    if as_csv:
        written = io.StringIO()
        writer = csv.DictWriter(written, fieldnames=[by, *COLUMNS, *APART, *COUNTED], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _defused(value) for name, value in row.items()} for row in rows)
        say(written.getvalue(), end="")
        return
    apart = {name: heading for name, heading in APART.items() if any(float(row[name] or 0) for row in rows)}
    columns = {by: by.upper(), **COLUMNS, **apart}
    show_rows(rows, columns, as_json=as_json, empty="nothing was spent", right=tuple(columns)[1:])


def _defused(value: object) -> object:
    """A cell of CSV that no spreadsheet takes for a formula, as the text of others may begin; numbers without an exponent."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return "'" + value if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


budget = typer.Typer(help="Budgets: what a run and a day may cost.", no_args_is_help=True)
Scope = Annotated[str, typer.Option(help="global, project:<id or name>, sender:<key or e-mail> or model:<name>.")]


@budget.command("get")
@runs
async def budget_get(as_json: JsonFlag = False) -> None:
    """Show all limits with what today holds (UTC)."""
    async with face() as reads:
        rows = await reads.budgets()
    columns = {"scope": "SCOPE"}
    columns |= {name: heading for name, heading in LIMITS.items() if any(row[name] is not None for row in rows)}
    columns |= {"settled_tokens": "SETTLED", "reserved_tokens": "RESERVED"}
    if any(row["usd_daily"] is not None for row in rows):
        columns |= {"settled_usd": "SETTLED USD", "reserved_usd": "RESERVED USD"}
    if any(float(row.get("held_tokens") or 0) for row in rows):
        columns |= {"held_tokens": "OF IT HELD"}
    right = tuple(columns)[1:]
    if any((row["enforcement"], row["when_spent"]) != ("hard", "defer") for row in rows):
        columns |= {"enforcement": "ENFORCEMENT", "when_spent": "WHEN SPENT"}
    columns |= {"set_by": "SET BY"}
    show_rows(rows, columns, as_json=as_json, empty="no budget yet: a worker sets them when it starts", right=right)


@budget.command("set")
@runs
async def budget_set(
    scope: Scope = "global",
    per_run: Annotated[str | None, typer.Option(help="Tokens of a run, or `none`.")] = None,
    daily: Annotated[str | None, typer.Option(help="Tokens of a day, or `none`.")] = None,
    monthly: Annotated[str | None, typer.Option(help="Tokens of a calendar month, or `none`.")] = None,
    usd_per_run: Annotated[str | None, typer.Option(help="US dollars of a run, or `none`.")] = None,
    usd_daily: Annotated[str | None, typer.Option(help="US dollars of a day, or `none`.")] = None,
    usd_monthly: Annotated[str | None, typer.Option(help="US dollars of a calendar month, or `none`.")] = None,
    enforcement: Annotated[str | None, typer.Option(help="hard, or soft: only told of.")] = None,
    when_spent: Annotated[str | None, typer.Option(help="defer to the next day or month, or reject.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Set limits; they win over those of the workers' environment. What waits for them goes on at once."""
    limits: dict[str, Any] = {}
    numbers = {
        "per_run": per_run, "daily": daily, "monthly": monthly, "usd_per_run": usd_per_run, "usd_daily": usd_daily,
        "usd_monthly": usd_monthly,
    }  # fmt: skip
    for name, text in numbers.items():
        if text is not None:
            limits[name] = None if text == "none" else _number(name, text)
    for name, text, known in (
        ("enforcement", enforcement, ("hard", "soft")),
        ("when_spent", when_spent, ("defer", "reject")),
    ):
        if text is not None and text not in known:
            raise UsageError(f"--{name.replace('_', '-')} {text!r} is not known", f"use {known[0]} or {known[1]}")
        if text is not None:
            limits[name] = text
    if not limits:
        raise UsageError("no limit is given", "use --per-run, --daily, --usd-daily or another: `atlas budget set --help`")
    kind, _, name = scope.partition(":")
    if scope != "global" and not (kind in ("project", "sender", "model") and name):
        raise UsageError(
            f"--scope {scope!r} is not known", "use global, project:<id or name>, sender:<key or e-mail> or model:<name>"
        )
    async with face() as reads:
        if kind == "project":
            scope = f"project:{await reads.project(name)}"
        elif kind == "sender":
            scope = f"sender:{await reads.sender(name)}"
        row = await reads.set_budget(scope, limits)
    shown = [f"{name} {row[name] if row[name] is not None else 'none'}" for name in limits]
    say(dump(row) if as_json else f"{scope}: {', '.join(shown)}")


def _number(name: str, text: str) -> int | float:
    flag = "--" + name.replace("_", "-")
    try:
        number = float(text) if name.startswith("usd") else int(text.replace("_", ""))
    except ValueError:
        raise UsageError(f"{flag} {text!r} is not a number", "give a number, or `none`") from None
    if not 0 <= number <= 1e12:
        raise UsageError(f"{flag} {text} is out of range", "give a number from 0 to 10^12")
    return number


@budget.command("check")
@runs
async def budget_check(
    question: Annotated[str | None, typer.Argument(help="A question to check; `-` reads standard input.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="A file with a question to check.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check the budgets, and whether a question fits a run. Exit code 6 when not: for CI."""
    problems: list[str] = []
    async with operator() as reads:
        rows: list[Row] = list(await reads.call("get_budgets"))
    for row in rows:
        for used, most, unit, when in spent_of(row):
            if used >= most:
                problems.append(f"{row['scope']}: {used:g} of {most:g} {unit} are spent {when}")
            elif used >= 0.8 * most:
                complain(f"warning: {row['scope']}: {used:g} of {most:g} {unit} are spent {when}")
    tokens: int | None = None
    if question is not None or file is not None:
        text = question_of(question, file)
        limits = [row for row in rows if row["per_run"] is not None]
        least = min(limits, key=lambda row: row["per_run"]) if limits else None
        per_run = least["per_run"] if least else settings().token_budget_per_run
        in_force = least["scope"] if least and least["set_by"] != "settings" else None
        count = Vocabularies().counter("o200k_base")
        tokens = count(text)
        try:
            prompt.build(text, thread=(), chunks=(), per_run=per_run, count=count, key=UUID(int=0), per_run_scope=in_force)
        except prompt.InputTooLarge as error:
            problems.append(str(error))
    if as_json:
        say(dump({"ok": not problems, "problems": problems, "question_tokens": tokens}))
    elif not problems:
        say("ok" + (f": the question has {tokens} tokens" if tokens is not None else ""))
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(EXIT_BUDGET)


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command()(spend)
    app.add_typer(budget, name="budget")
