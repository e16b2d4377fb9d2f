"""`atlas`: the command line. The commands are in atlas/commands, a module a subject."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from atlas import __version__
from atlas.commands import database, demo, dlq, knowledge, mirror, money, operate, people, rag, stack, tasks
from atlas.commands.common import EXIT_CODES, complain, say

app = typer.Typer(
    name="atlas",
    help="Questions in, architecture specs out, every token accounted for.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"atlas {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Questions in, architecture specs out, every token accounted for."""


for module in (demo, stack, database, tasks, dlq, mirror, money, knowledge, rag, people, operate):
    module.register(app)


def main() -> None:
    """The entry of the command."""
    if any("\ud800" <= character <= "\udfff" for argument in sys.argv for character in argument):
        complain("an argument is not UTF-8: write it in UTF-8, or read it from a file")
        sys.exit(2)
    try:
        app()
    except BrokenPipeError:
        # the reader of a pipe left (`atlas tasks | head`): not an error
        sys.stderr.close()


if __name__ == "__main__":
    main()
