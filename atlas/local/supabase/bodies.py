"""Bodies of requests: JSON of a bounded size, free of what Postgres cannot store."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from starlette.requests import ClientDisconnect, Request

_UNSTORABLE = re.compile(r"\\u(0000|d[89a-f][0-9a-f]{2})", re.IGNORECASE)
_PAIR = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}", re.IGNORECASE)


class BadBody(Exception):
    """A body that cannot be used."""

    def __init__(self, why: Literal["too_large", "malformed", "unstorable"]) -> None:
        super().__init__(why)
        self.why = why


async def read_json(request: Request, most: int) -> Any:
    """The body, at most so many bytes; None where it is empty. Raises BadBody."""
    taken = bytearray()
    try:
        async for piece in request.stream():
            taken += piece
            if len(taken) > most:
                raise BadBody("too_large")
    except ClientDisconnect:
        raise BadBody("malformed") from None  # nobody reads the answer
    try:
        found = json.loads(taken or b"null")
    except (ValueError, RecursionError):
        raise BadBody("malformed") from None
    if not _is_storable(found):
        raise BadBody("unstorable")
    return found


def _is_storable(value: object) -> bool:
    """Whether it is free of NULs, unpaired surrogates, NaN and Infinity."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    return _UNSTORABLE.search(_PAIR.sub("", text)) is None
