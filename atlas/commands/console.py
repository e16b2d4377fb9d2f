"""What commands say, and the codes they end with."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from atlas.text import visible

EXIT_BUDGET = 6
EXIT_DOCTOR = 7
EXIT_TRUNCATED = 8
EXIT_REFUSED = 9
EXIT_ASKED = 10

EXIT_CODES = (
    "Exit codes: 0 done; 1 a defect; 2 wrong words or settings; 3 Postgres or the stack is down; 4 the database refused it; "
    "5 the task ended without a reply; 6 a budget check failed; 7 the doctor found a problem; "
    "8 the reply is cut short; 9 the model refused; 10 the architect asks back; 130 interrupted."
)


def me() -> str:
    """How the reader can call this command: by its name where PATH has it, else by its path, quoted for a shell."""
    called = Path(sys.argv[0])
    if called.name not in ("atlas", "atlas-architect"):
        return "atlas"
    found = shutil.which(called.name)
    if found is not None and Path(found).resolve() == called.resolve():
        return called.name
    whole = called.absolute()
    here = Path.cwd()
    return shlex.quote(str(whole.relative_to(here) if whole.is_relative_to(here) else whole))


def spoken(line: str) -> str:
    """A line that names commands of ours as the reader can call them."""
    return line.replace("`atlas ", f"`{me()} ")


def complain(line: str) -> None:
    """One line on stderr."""
    from rich.console import Console  # imported here: a command that succeeds does without it
    from rich.text import Text

    text = Text.assemble(("atlas:", "red"), " ", visible(" ".join(spoken(line).split())))
    Console(stderr=True, highlight=False, soft_wrap=True).print(text)


def say(line: str = "", *, end: str = "\n") -> None:
    """A line of output; what would act on a terminal is written out."""
    sys.stdout.write(visible(line) + end)
    sys.stdout.flush()


def tell(line: str) -> None:
    """A line for the person, on stderr, so that stdout holds the result alone."""
    sys.stderr.write(visible(spoken(line)) + "\n")
    sys.stderr.flush()
