"""What holds, for agents that read AGENTS.md or CLAUDE.md: one section between two marks. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from atlas.errors import UsageError
from atlas.task import JsonObject

BEGIN = "<!-- atlas decisions: written by `atlas decisions export`, changes are lost -->"
END = "<!-- end of atlas decisions -->"
_SECTION = re.compile(rf"{re.escape(BEGIN)}.*?{re.escape(END)}\n?", re.DOTALL)


def section(rows: Sequence[JsonObject]) -> str:
    """The constraints of decisions that hold, each with its number and the paths that it is for."""
    lines = [BEGIN, "## Decisions that hold", ""]
    lines += ["Obey these. What contradicts one needs a decision that supersedes it: ask for one.", ""]
    for row in rows:
        paths = ", ".join(f"`{_line(path).replace('`', '')}`" for path in row["paths"]) or "everything"
        lines += [f"- ADR-{row['number']} {_line(row['title'])} ({paths}):"]
        lines += [f"  - {_line(constraint)}" for constraint in row["constraints"]]
    if not rows:
        lines += ["None yet."]
    return "\n".join([*lines, END, ""])


def placed(text: str, rows: Sequence[JsonObject], name: str) -> str:
    """A file with the section: where its marks are, else at its end. Raises UsageError for marks that are broken."""
    if (text.count(BEGIN), text.count(END)) not in ((0, 0), (1, 1)) or text.find(END) < text.find(BEGIN):
        raise UsageError(f"{name}: the marks of its section are broken", f"leave one {BEGIN} and one {END} after it, or none")
    new = section(rows)
    if BEGIN in text:
        return _SECTION.sub(lambda _: new, text)
    return f"{text.rstrip()}\n\n{new}" if text.strip() else new


def _line(text: str) -> str:
    # a constraint cannot end the section, nor begin another
    return " ".join(text.split()).replace("<!--", "‹!--").replace("-->", "--›")
