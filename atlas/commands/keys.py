"""keys: secrets that are stored once, for this user."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from atlas.commands.common import JsonFlag, runs, show_rows
from atlas.commands.console import say, spoken
from atlas.environment import STORED, config_dir, environment, key_file, origin, store_key
from atlas.errors import NotFoundError, StackError, UsageError

keys = typer.Typer(no_args_is_help=True, help="Keys of providers, stored once in a file that only you may read.")

NameArgument = Annotated[str, typer.Argument(help=f"Which key: {', '.join(STORED)}.")]
SHOWN = 4
LONGEST = 4096


def _known(name: str) -> str:
    if name not in STORED:
        raise UsageError(f"{name!r} is not a key that Atlas stores", f"name one of {', '.join(STORED)}")
    return name


@keys.command("set")
@runs
async def set_(name: NameArgument) -> None:
    """Store a key: asked for at a terminal, else read from standard input. The environment and `.env` override it."""
    _known(name)
    typed = typer.prompt(STORED[name], hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.read(LONGEST)
    key = str(typed).strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key or len(key) >= LONGEST:
        raise UsageError("that is not a key: it is empty, too long, or holds what no key holds", "paste the key alone")
    folder = config_dir(os.environ)
    try:
        path = store_key(folder, name, key)
    except OSError as error:
        raise StackError(
            f"{folder} cannot be written ({error.strerror})", "set ATLAS_CONFIG_DIR to a folder of your own"
        ) from error
    say(spoken(f"stored in {path}, for you alone; `atlas up` restarts the worker with it, `atlas doctor` tries it"))
    where = origin(os.environ, STORED[name])
    if where != str(path):
        say(f"{where} sets {STORED[name]} as well, and overrides it")


@keys.command("list")
@runs
async def list_(as_json: JsonFlag = False) -> None:
    """List which keys are set, where, and how they end."""
    found = environment(os.environ)
    rows = []
    for name, variable in STORED.items():
        where = origin(os.environ, variable)
        value = found.get(variable) or _read(found.get(f"{variable}_FILE"))
        rows.append(
            {"name": name, "setting": variable, "from": where, "ends": f"…{value[-SHOWN:]}" if len(value) > 2 * SHOWN else ""}
        )
    heads = {"name": "NAME", "setting": "SETTING", "ends": "ENDS IN", "from": "FROM"}
    show_rows(rows, heads, as_json=as_json, empty="")


def _read(path: str | None) -> str:
    if path is None:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


@keys.command()
@runs
async def remove(name: NameArgument) -> None:
    """Remove a stored key."""
    path = key_file(config_dir(os.environ), _known(name))
    try:
        path.unlink()
    except FileNotFoundError:
        raise NotFoundError(
            f"no key {name!r} is stored in {path.parent}", "`atlas keys list` shows what is set, and where"
        ) from None
    say(f"removed {path}")


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(keys, name="keys")
