"""The reading process: documents come on standard input, what they say leaves on standard output. atlas.rag.reading starts it.

A request is a line of JSON {"kind", "name", "bytes", "seconds"} and then the document; an answer is a line of JSON, {"title",
"sections": [{"heading", "lines"}]} or {"unreadable": why}. It has no settings, no secrets and no connection.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from typing import Any

from atlas.rag.document import Unreadable
from atlas.rag.read import read


def main() -> None:
    """Serves until standard input ends."""
    most = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while line := source.readline():
        request = json.loads(line)
        data = source.read(request["bytes"])
        # whoever waited may be gone: a document that takes forever must not keep this process forever
        signal.alarm(request["seconds"] + 5)
        answer = _answer(data, request)
        signal.alarm(0)
        target.write(json.dumps(answer).encode() + b"\n")
        target.flush()


def _answer(data: bytes, request: dict[str, Any]) -> dict[str, Any]:
    try:
        document = read(data, request["kind"], request["name"])
    except Unreadable as error:
        return {"unreadable": error.line}
    return {
        "title": document.title,
        "sections": [{"heading": part.heading, "lines": part.lines} for part in document.sections],
    }


main()
