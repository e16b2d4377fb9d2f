"""Text as it may be stored."""

from __future__ import annotations


def clean(text: str) -> str:
    """Text as Postgres can hold it: NUL and lone surrogates become U+FFFD."""
    if text.isascii():
        return text.replace("\x00", "\ufffd")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "\ufffd")
