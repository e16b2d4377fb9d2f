"""Asks the process that parses: python -m atlas.diagrams. It lives as long as one reply's diagrams take."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from atlas.diagrams.fences import UncheckedDiagrams

LONGEST = 50_000
"""Characters of a diagram; Mermaid itself draws no longer one."""
MOST = 20
"""Diagrams of a reply that are parsed."""

TOO_LONG = f"longer than {LONGEST} characters"
TOO_MANY = f"more than {MOST} diagrams"


class MermaidProcess:
    """patience: seconds for all diagrams of a reply. memory: bytes that the process may take."""

    def __init__(self, *, patience: float = 10.0, memory: int = 1 << 30) -> None:
        self._patience = patience
        self._memory = memory

    async def errors(self, sources: Sequence[str]) -> list[str | None]:
        """What is wrong with each, None where it parses. Raises UncheckedDiagrams."""
        if find_spec("mermaidx") is None:
            raise UncheckedDiagrams("diagrams are not parsed here: install atlas-architect[diagrams]")
        asked = [source for source in sources[:MOST] if len(source) <= LONGEST]
        found = iter(await self._parse(asked) if asked else [])
        return [
            TOO_MANY if number >= MOST else TOO_LONG if len(source) > LONGEST else next(found)
            for number, source in enumerate(sources)
        ]

    async def _parse(self, sources: Sequence[str]) -> list[str | None]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "atlas.diagrams", str(self._memory), stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env={"PATH": os.environ.get("PATH", "")},
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._patience):
                said, _ = await process.communicate(json.dumps(sources).encode())
        except TimeoutError:
            raise UncheckedDiagrams("the diagrams took too long to parse") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        try:
            found = json.loads(said)
        except ValueError:
            raise UncheckedDiagrams(f"the diagrams took the parser down (exit code {process.returncode})") from None
        return [None if error is None else str(error) for error in found]
