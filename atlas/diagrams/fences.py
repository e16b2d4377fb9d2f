"""Where the diagrams of a Markdown text are. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from atlas.errors import AtlasError

_FENCE = re.compile(
    r"^([ \t>]*)(`{3,}|~{3,})[ \t]*mermaid\b[^\n]*\n(.*?)(?:^[ \t>]*\2[`~]*[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
"""Also in lists and quotes, however deep."""


class UncheckedDiagrams(AtlasError):
    """Nobody knows whether the diagrams parse. Its text says why."""


def diagrams(markdown: str) -> list[str]:
    """The sources of its Mermaid fences, in order."""
    return [re.sub(rf"(?m)^{re.escape(match[1])}", "", match[3]) for match in _FENCE.finditer(markdown)]


def without(markdown: str, errors: Sequence[str | None]) -> str:
    """The text without the diagrams that have an error, each replaced by a line that says so. errors: as diagrams() counts."""
    left = iter(errors)

    def shown(match: re.Match[str]) -> str:
        error = next(left, None)
        return match[0] if error is None else f"{match[1]}> A diagram is left out here: it does not parse ({one_line(error)})."

    return _FENCE.sub(shown, markdown)


def one_line(error: str) -> str:
    """The gist of what a parser says."""
    plain = " ".join(error.split()).replace("`", "'")
    return plain if len(plain) <= 200 else plain[:199] + "…"
