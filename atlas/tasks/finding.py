"""How people name a task: an id, the beginning of one, or `last`."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from atlas.errors import NotFoundError, UsageError

LAST = "last"


def task_name(text: str) -> str:
    """What atlas.find_task takes. Raises UsageError for what cannot be the beginning of a task's id."""
    name = text.lower().strip()
    if name != LAST and (not 4 <= len(name) <= 36 or set(name) - set("0123456789abcdef-")):
        raise UsageError(f"{text!r} is not a task id", "give an id, at least its first 4 characters, or `last`")
    return name


def the_one(text: str, found: Sequence[UUID], whose: str = "") -> UUID:
    """The one task that was found. Raises NotFoundError for none, UsageError for several. whose: such as " of yours"."""
    if not found and text.strip().lower() == LAST:
        raise NotFoundError(f"there is no task{whose} yet", 'ask with `atlas ask "…"`')
    if not found:
        raise NotFoundError(f"no task{whose} begins with {text}", "see `atlas tasks`")
    if len(found) > 1:
        raise UsageError(f"{text} fits several tasks ({', '.join(map(str, found))})", "give more of the id")
    return found[0]


def no_such_task(task_id: UUID, whose: str = "") -> NotFoundError:
    """The error of a task that is not there, or may not be read."""
    return NotFoundError(f"no task {task_id}{whose}", "see `atlas tasks`")


def no_such_decision(number: int) -> NotFoundError:
    """The error of a decision that is not there, or may not be read."""
    return NotFoundError(f"no decision ADR-{number}", "see `atlas decisions`")
