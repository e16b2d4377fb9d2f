"""Reads documents in a separate process: one that takes too long or too much memory affects no other."""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
from typing import Any

from atlas.rag.document import Document, Kind, Section, Unreadable

SECONDS = 20.0
"""What one document may take."""
MEMORY = 1024 * 1024 * 1024
"""Bytes of address space of the reading process."""
LARGEST_ANSWER = 128 * 1024 * 1024
"""Bytes: what a document of the largest size can say, and no more."""


class ReadingProcess:
    """Starts the process when the first document comes, and again after one that it did not survive. One document at a time."""

    def __init__(self, *, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self._seconds = seconds
        self._memory = memory
        self._process: asyncio.subprocess.Process | None = None
        self._one_at_a_time = asyncio.Lock()

    async def read(self, data: bytes, kind: Kind, name: str) -> Document:
        """What a document says. name: its file name, which says the language of code. Raises Unreadable."""
        async with self._one_at_a_time:
            try:
                answer = await self._ask(
                    data, {"kind": kind, "name": name, "bytes": len(data), "seconds": math.ceil(self._seconds)}
                )
            except BaseException:
                # also when it is cancelled: the answer that it owes must not be taken for the next one's
                await self._kill()
                raise
        if "unreadable" in answer:
            raise Unreadable(str(answer["unreadable"]))
        sections = tuple(
            Section(heading=part["heading"], lines=tuple((number, line) for number, line in part["lines"]))
            for part in answer["sections"]
        )
        return Document(title=answer["title"], sections=sections)

    async def close(self) -> None:
        """Ends the process."""
        async with self._one_at_a_time:
            await self._kill()

    async def _ask(self, data: bytes, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process = self._process or await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(self._seconds):
                process.stdin.write(json.dumps(request).encode() + b"\n" + data)
                await process.stdin.drain()
                line = await process.stdout.readline()
        except TimeoutError:
            raise Unreadable(f"reading it takes more than {self._seconds:g} s") from None
        except (ConnectionError, ValueError):  # ValueError: the line is longer than the limit
            line = b""
        if not line.endswith(b"\n"):
            raise Unreadable("its reader ended over it, or found more in it than can be kept")
        return dict(json.loads(line))

    async def _start(self) -> asyncio.subprocess.Process:
        # -P: no module of the folder that is read
        return await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "atlas.rag.read", str(self._memory),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            limit=LARGEST_ANSWER, env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
        )  # fmt: skip

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()
