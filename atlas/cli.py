"""`atlas`: the command line. The commands are in atlas/commands, a module a subject, imported when one of theirs is called."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from atlas import __version__
from atlas.commands.console import EXIT_CODES, complain, say
from atlas.errors import AtlasError
from atlas.extras import missing

COMMANDS = {
    "demo": ("demo", "Set all up, ask a question, stream the reply, show what it cost."),
    "up": ("stack", "Start the embedded Postgres, a worker, and the stand-in for Supabase's clients, in the background."),
    "down": ("stack", "Stop the embedded stack."),
    "status": ("worker", "Show the queue, the workers and the budgets."),
    "logs": ("stack", "Show the log of the worker that `atlas up` started."),
    "worker": ("worker", "Run a worker in the foreground, with /healthz, /livez, /readyz and /metrics. SIGTERM drains it."),
    "migrate": ("database", "Apply migrations/ to DATABASE_URL, or to the embedded Postgres."),
    "init": ("database", "Let Atlas join a Supabase project: copy its migrations and seed, show what config.toml needs."),
    "ask": ("tasks", "Ask a question and follow the reply."),
    "tail": ("tasks", "Follow a task's reply, from its beginning."),
    "tasks": ("tasks", "List questions, newest first."),
    "show": ("tasks", "Show a task: question, reply, attempts, calls."),
    "cancel": ("tasks", "Cancel a task: at once when it is queued, by its worker when it runs."),
    "answer": ("versions", "Answer what a task asked back, and follow it."),
    "revise": ("versions", "Revise a reply: untouched sections stay byte for byte the same."),
    "diff": ("versions", "Show what changed between two versions of a record, by section and sentence."),
    "replay": ("versions", "Ask a reply's very prompt again, the same sources in it, and compare the two: costs, and a diff."),
    "accept": ("decisions", "Accept a task's reply as a decision of its project."),
    "reject": ("decisions", "Reject a task's reply, so that nobody has to wonder about it."),
    "supersede": ("decisions", "Let one accepted decision take the place of another."),
    "decisions": ("decisions", "What was decided: list it, show one, write it into a repository, read it from there."),
    "check": ("decisions", "Verify a checkout by the commands of the decisions that govern it."),
    "mcp": ("mcp", "Serve agents by the Model Context Protocol, over standard input and output."),
    "retry": ("tasks", "Retry a failed, cancelled, dead or waiting task."),
    "dlq": ("dlq", "Dead letters: what failed for good."),
    "mirror": ("mirror", "Carry the outbox to Pub/Sub and webhooks; send messages again."),
    "export": ("mirror", "Export a spec: to a file (stdout), a pull request, or issues."),
    "spend": ("money", "What was spent, in tokens and dollars; apart, what is held and what was presumed not made."),
    "budget": ("money", "Budgets: what a run and a day may cost."),
    "eval": (
        "evaluate",
        "Score replies to a set of design questions: form, citations, claims, constraints, contradictions, length, cost.",
    ),
    "reconcile": ("reconcile", "Ask the provider about held and unknown calls, and compare its usage with the books."),
    "index": ("knowledge", "Index what the team knows: files, folders and Git repositories."),
    "search": ("search", "Search what is indexed, as a task would."),
    "rag": ("rag", "The knowledge service: serve, index in the background, measure."),
    "keys": ("keys", "Keys of providers, stored once in a file that only you may read."),
    "login": ("people", "Log in to the project of SUPABASE_URL."),
    "logout": ("people", "Forget the login of the project of SUPABASE_URL."),
    "whoami": ("people", "Show who is logged in, until when, and which projects they see."),
    "project": ("people", "Projects: whose members read each other's tasks, replies and spend."),
    "pause": ("operate", "Stop claims of questions; what runs is finished."),
    "resume": ("operate", "Claim questions again."),
    "control": ("operate", "Send a control message over the bus, and print the worker's answer."),
    "schema": ("operate", "Print a JSON Schema: of the messages, of a decision's front matter, of a plan."),
    "erase": (
        "retention",
        "Permanently erase the texts of one task, or of all of a sender's. Ids, amounts and the audit stay.",
    ),
    "retention": ("retention", "Show or set how long ended tasks and their texts are kept. Spend and audit stay."),
    "audit": ("audit", "The audit: who did what when, chained and sealed."),
    "doctor": ("doctor", "Check settings, database, migrations, models, budgets, workers, audit and PATH."),
}
"""Each command with its module in atlas/commands and the sentence that `atlas --help` shows, in its order."""


class Commands(TyperGroup):
    """Imports the module of a command when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, name: str) -> Any:
        if name not in COMMANDS:
            return None
        module, sentence = COMMANDS[name]
        if sys.argv[1:2] in ([], ["--help"], ["-h"]):
            return typer.core.TyperCommand(name, help=sentence)
        app = typer.Typer()
        app.command(name="-", hidden=True)(lambda: None)  # so that typer makes a group, also of one command
        import_module(f"atlas.commands.{module}").register(app)
        group = typer.main.get_group(app)
        return group.commands[name]


app = typer.Typer(
    name="atlas",
    cls=Commands,
    help="Questions in, architecture specs out, every token accounted for.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
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


def main() -> None:
    """The entry of the command."""
    if any("\ud800" <= character <= "\udfff" for argument in sys.argv for character in argument):
        complain("an argument is not UTF-8: write it in UTF-8, or read it from a file")
        sys.exit(2)
    try:
        Path.cwd()
    except OSError:
        complain("this folder is gone, or cannot be read: change to another one")
        sys.exit(2)
    try:
        app()
    except BrokenPipeError:
        # the reader of a pipe left (`atlas tasks | head`): not an error
        sys.stderr.close()
    except ModuleNotFoundError as error:
        known: AtlasError | None = missing(error)
        if known is None:
            raise
        complain(known.line)
        sys.exit(known.exit_code)


if __name__ == "__main__":
    main()
