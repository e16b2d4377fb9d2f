"""Every error Atlas raises on purpose, in one tree.

AtlasError                  a message that names the thing, its state and the next act
├── SettingsError           exit 2   settings are wrong; lists every problem
├── UsageError              exit 2   a command got words it cannot use
│   └── MissingExtra                 a part that was not installed; names the extra
├── StackError              exit 3   the embedded Postgres or a process of the stack
├── DatabaseDown            exit 3   Postgres cannot be reached
├── RefusedError            exit 4   the database refused it: the table of SQLSTATEs below
│   ├── InvalidMessage      AT001
│   ├── LeaseLost           AT002
│   ├── NotFoundError       AT004
│   ├── WrongState          AT005
│   └── NotAllowed          AT006
├── TaskFailed              exit 5   the task that was followed ended without a reply
└── ModelError              a call to a model; see atlas.llm.errors
"""

from __future__ import annotations


class AtlasError(Exception):
    """Something is wrong, and the message says what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def line(self) -> str:
        """The error in one line, the next act included."""
        text = str(self)
        return f"{text}: {self.hint}" if self.hint else text


class SettingsError(AtlasError):
    """The environment holds settings that cannot be used."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        super().__init__("settings: " + "; ".join(problems))
        self.problems = problems


class UsageError(AtlasError):
    """A command got words that it cannot use."""

    exit_code = 2


class MissingExtra(SettingsError):
    """A part of Atlas that was not installed. extra: its name in pyproject.toml."""

    def __init__(self, extra: str, what: str) -> None:
        super().__init__([f"{what} needs the extra [{extra}]: pip install 'atlas-architect[{extra}]'"])
        self.args = (self.problems[0],)
        self.extra = extra


class StackError(AtlasError):
    """The embedded Postgres or a process of the local stack is in the way."""

    exit_code = 3


class DatabaseDown(AtlasError):
    """Postgres cannot be reached."""

    exit_code = 3


class RefusedError(AtlasError):
    """The database refused it."""

    exit_code = 4
    sqlstate = "AT000"


class SchemaMismatch(RefusedError):
    """The database's schema and this version of Atlas do not go together."""

    exit_code = 3


class InvalidMessage(RefusedError):
    """A message breaks the contract of the bus."""

    sqlstate = "AT001"


class LeaseLost(RefusedError):
    """Another attempt owns the task now: its call must stop."""

    sqlstate = "AT002"


class NotFoundError(RefusedError):
    """There is no such task, attempt or project."""

    sqlstate = "AT004"


class WrongState(RefusedError):
    """The thing is in a state in which that cannot be done."""

    sqlstate = "AT005"


class NotAllowed(RefusedError):
    """The caller may not do that."""

    sqlstate = "AT006"


class TaskFailed(AtlasError):
    """The task that was followed ended without a reply."""

    exit_code = 5


SQLSTATES: dict[str, type[RefusedError]] = {
    cls.sqlstate: cls for cls in (InvalidMessage, LeaseLost, NotFoundError, WrongState, NotAllowed)
}
"""SQLSTATEs of the migrations and the errors they become."""
