"""What of JSON Postgres can hold."""

from __future__ import annotations

import json
import re

_UNSTORABLE = re.compile(r"\\u(0000|d[89a-f][0-9a-f]{2})", re.IGNORECASE)
_PAIR = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}", re.IGNORECASE)


def storable(value: object) -> bool:
    """Whether it has neither a NUL, nor half of a surrogate pair, nor a number that is none."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    return _UNSTORABLE.search(_PAIR.sub("", text)) is None
