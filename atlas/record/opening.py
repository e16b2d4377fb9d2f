"""The line with which a reply begins where its question speaks of what is decided."""

from __future__ import annotations

import re

_OPENING = re.compile(r"> (?:Already decided in ADR-|Would change ADR-|Overlaps with an open draft)[^\n]*\n\n")


def opening_of(reply: str) -> str:
    """The line with which a reply begins, of a standing, and the empty one after it; nothing where there is none."""
    match = _OPENING.match(reply)
    return match[0] if match else ""
