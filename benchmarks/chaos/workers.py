"""Faults of workers: killed, stopped, with clocks that are wrong."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.chaos.arena import Arena, Started, arena
from tests.support.core import ROOT


@asynccontextmanager
async def leases_expire(run: Arena) -> AsyncIterator[None]:
    """All workers stand still for longer than their leases, and go on as if nothing had happened."""
    run.send(signal.SIGSTOP)
    await asyncio.sleep(max(run.seconds, 9))
    run.send(signal.SIGCONT)
    yield


@asynccontextmanager
async def crash_recovery(run: Arena) -> AsyncIterator[None]:
    run.kill(0)
    await asyncio.sleep(run.seconds)
    run.restart(0)
    yield


@asynccontextmanager
async def repeated_kills(run: Arena) -> AsyncIterator[None]:
    for _ in range(5):
        run.kill(0)
        run.restart(0)
        await asyncio.sleep(run.seconds / 3)
    yield


@asynccontextmanager
async def all_killed(run: Arena) -> AsyncIterator[None]:
    for number in range(len(run.fleet)):
        run.kill(number)
    await asyncio.sleep(1)
    for number in range(len(run.fleet)):
        run.restart(number)
    yield


@asynccontextmanager
async def clocks(seconds: float) -> AsyncIterator[Started]:
    """One worker an hour ahead, one an hour behind, from their starts on; then one of them dies."""
    script = [str(ROOT / "scripts/debian_tools"), str(ROOT / "tests/.debian/libfaketime"), "libfaketime"]
    found = Path(subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip())
    library = next(found.parent.parent.rglob("libfaketime.so.1"))
    async with arena(seconds) as run:
        for offset in ("+3600", "-3600"):
            run.start(1, ld_preload=library, faketime=offset, faketime_dont_fake_monotonic=1)
        yield run, lambda: crash_recovery(run)
