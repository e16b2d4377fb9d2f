"""The line with which a reply begins where its question speaks of what is decided."""

from __future__ import annotations

import re

_OPENING = re.compile(r"> (?:Already decided in ADR-|Would change ADR-|Overlaps with an open draft)[^\n]*\n\n")


def opening_of(reply: str) -> str:
    """The opening line of a reply and the blank line after it, or an empty string."""
    match = _OPENING.match(reply)
    return match[0] if match else ""
