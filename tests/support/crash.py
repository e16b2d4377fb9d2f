"""A worker that kills itself at a point of a task's life: `CRASH_AT=complete_tasks:1:after python -m tests.support.crash`.

Points are the statements that it sends (named by their SQL function), and the events of a response (`event`), each before and
after, counted from when the file CRASH_ARMED is there. Without CRASH_AT it writes each point to CRASH_LIST as it comes.
"""

from __future__ import annotations

import collections
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from atlas.database.pool import Pool
from atlas.llm.openai_responses import OpenAIGenerator
from atlas.main import main

AT = os.environ.get("CRASH_AT", "")
LIST = os.environ.get("CRASH_LIST", "")
ARMED = Path(os.environ["CRASH_ARMED"])
_counts: collections.Counter[str] = collections.Counter()


def _pass(name: str, when: str) -> None:
    if not ARMED.exists():
        return
    if when == "before":
        _counts[name] += 1
    point = f"{name}:{_counts[name]}:{when}"
    if LIST:
        with Path(LIST).open("a") as file:
            file.write(point + "\n")
    if point == AT:
        os.kill(os.getpid(), signal.SIGKILL)


def _watched(original: Any) -> Any:
    async def run(self: Pool, query: str, *arguments: object) -> Any:
        found = re.search(r"(?:atlas|rag)\.(\w+)\(", query)
        name = found[1] if found else "other"
        _pass(name, "before")
        answer = await original(self, query, *arguments)
        _pass(name, "after")
        return answer

    return run


def _events(original: Any) -> Any:
    async def run(self: OpenAIGenerator, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        async for event in original(self, *arguments, **options):
            _pass(type(event).__name__, "before")
            yield event
            _pass(type(event).__name__, "after")

    return run


if __name__ == "__main__":
    Pool.rows = _watched(Pool.rows)  # type: ignore[method-assign]
    Pool.value = _watched(Pool.value)  # type: ignore[method-assign]
    OpenAIGenerator.generate = _events(OpenAIGenerator.generate)  # type: ignore[method-assign]
    OpenAIGenerator.resume = _events(OpenAIGenerator.resume)  # type: ignore[method-assign]
    sys.exit(main())
