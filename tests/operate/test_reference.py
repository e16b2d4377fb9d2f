"""docs/reference: the command line, the settings and the SQL functions, as the code and the schema have them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import asyncpg
import pytest
import typer
from pydantic_core import PydanticUndefined

from atlas.cli import COMMANDS
from atlas.commands.console import EXIT_CODES
from atlas.settings import Settings
from tests.support.core import ROOT

FOLDER = ROOT / "docs/reference"
GENERATED = "Generated: `ATLAS_WRITE_SNAPSHOT=1 pytest tests/operate/test_reference.py`."
FUNCTIONS = (
    "select n.nspname || '.' || p.proname as name, pg_get_function_arguments(p.oid) as arguments, pg_get_function_result(p.oid) as result, "
    "obj_description(p.oid, 'pg_proc') as comment, array(select r from unnest(array['authenticated', 'service_role', 'atlas_worker', 'atlas_rag']) r "
    "where has_function_privilege(r, p.oid, 'execute')) as callers from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
    "where n.nspname in ('atlas', 'rag') and p.prorettype <> 'trigger'::regtype order by 1, 2"
)


def checked(name: str, text: str) -> None:
    """Writes a page where that is asked for; else compares it."""
    if os.environ.get("ATLAS_WRITE_SNAPSHOT"):
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / name).write_text(text)
    assert (FOLDER / name).read_text() == text, GENERATED


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its words, groups before their commands."""

    def walk(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield words, command
        for name, below in sorted(getattr(command, "commands", {}).items()):
            yield from walk(f"{words} {name}", below)

    for name, (module, _) in COMMANDS.items():
        app = typer.Typer()
        app.command(name="-", hidden=True)(lambda: None)
        import_module(f"atlas.commands.{module}").register(app)
        yield from walk(f"atlas {name}", typer.main.get_group(app).commands[name])


def in_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def test_the_command_line() -> None:
    lines = [
        "# The command line",
        "",
        GENERATED,
        "",
        f"`atlas --help` lists the commands, `atlas COMMAND --help` explains one. {EXIT_CODES}",
        "",
    ]
    count = 0
    for words, command in commands():
        count += 1
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        usage = " ".join([words, *(one.name.upper() if one.required else f"[{one.name.upper()}]" for one in arguments)])
        lines += [f"## {words}", "", f"`{usage}`: {in_cell(command.help or '')}", ""]
        options = [one for one in command.params if one.param_type_name == "option" and one.name != "help" and not one.hidden]
        if options:
            lines += ["| option | what it does |", "| --- | --- |"]
            lines += [f"| `{'`, `'.join(one.opts + one.secondary_opts)}` | {in_cell(one.help or '')} |" for one in options]
            lines.append("")
    assert count > 60
    checked("cli.md", "\n".join(lines).rstrip() + "\n")


def test_the_settings() -> None:
    lines = ["# Settings", "", GENERATED, "", "From the environment, and from `.env` in the working folder; every secret also from the file that `NAME_FILE` names.", "",
             "| setting | default | what it is |", "| --- | --- | --- |"]  # fmt: skip
    for name, field in Settings.model_fields.items():
        told = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        default = "" if told in (None, "", PydanticUndefined) else f"`{told}`"
        secret = " Secret." if "Secret" in str(field.annotation) else ""
        lines.append(
            f"| `{name.upper()}` | {in_cell(default)} | {in_cell(field.description or '')}{'.' if secret else ''}{secret} |"
        )
    checked("settings.md", "\n".join(lines) + "\n")


async def test_the_sql_functions(db: asyncpg.Connection) -> None:
    rows = await db.fetch(FUNCTIONS)
    lines = ["# SQL functions", "", GENERATED, "", "By who may call them: `authenticated` is a person's login, `service_role` an operator or a backend, `atlas_worker` and",
             "`atlas_rag` are Atlas's own processes. [errors.md](../errors.md) lists their errors, [sql.md](../sql.md) shows them at work.", ""]  # fmt: skip
    for title, callers in (
        ("For people and operators", {"authenticated", "service_role"}),
        ("For Atlas's processes alone", {"atlas_worker", "atlas_rag"}),
    ):
        lines += [f"## {title}", "", "| function | answers | who | what it does |", "| --- | --- | --- | --- |"]
        for row in rows:
            people = bool({"authenticated", "service_role"} & set(row["callers"]))
            if not row["callers"] or people != ("service_role" in callers):
                continue
            arguments = re.sub(r"\s+", " ", row["arguments"])
            who = ", ".join(f"`{one}`" for one in row["callers"])
            lines.append(
                f"| `{row['name']}({in_cell(arguments)})` | `{in_cell(row['result'])}` | {who} | {in_cell(row['comment'] or '')} |"
            )
        lines.append("")
    assert len(lines) > 80
    checked("functions.md", "\n".join(lines).rstrip() + "\n")


@pytest.mark.parametrize("name", ["cli.md", "settings.md", "functions.md"])
def test_the_pages_are_linked(name: str) -> None:
    assert f"reference/{name}" in (ROOT / "docs/README.md").read_text()
