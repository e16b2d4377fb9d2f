"""Text as it may be stored, and as it may be shown."""

from __future__ import annotations

import re

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters but tab and newline, and what turns the direction of text."""


def visible(text: str) -> str:
    """Text as a terminal may show it: characters that act on it, or turn what is read, are written out, such as \\u001b.

    The same writing is an escape of JSON, so that JSON stays what it was.
    """
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\r\n", "\n"))


def clean(text: str) -> str:
    """Text as Postgres can hold it: NUL and lone surrogates become U+FFFD."""
    if text.isascii():
        return text.replace("\x00", "\ufffd")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "\ufffd")
