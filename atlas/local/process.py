"""A process of the stack that outlives the command which started it: found again by a file, stopped by its own signal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil

from atlas.errors import StackError


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningProcess:
    """A process that was started.

    port: 0 until it has taken one. owner: `up`, or a demo that stops it when it ends. digests: of its settings.
    """

    pid: int
    created: float
    port: int
    owner: str = "up"
    digests: Mapping[str, str] = field(default_factory=dict)

    def alive(self) -> bool:
        """Whether it still runs: the same process, not another with its number."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.created) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


class Background:
    """One background process of a folder: `<name>.json` says which, `<name>.log` what it said."""

    def __init__(self, home: Path, name: str) -> None:
        self.name = name
        self.log = home / f"{name}.log"
        self.port_file = home / f"{name}.port"
        """Where the process leaves the port that it took."""
        self._file = home / f"{name}.json"

    def running(self) -> RunningProcess | None:
        """The process, if it runs."""
        try:
            found = RunningProcess(**json.loads(self._file.read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None
        return self._with_port(found) if found.alive() else None

    def _with_port(self, running: RunningProcess) -> RunningProcess:
        with contextlib.suppress(OSError, ValueError):
            return replace(running, port=int(self.port_file.read_text()))
        return running

    def start(self, command: Sequence[str], environment: Mapping[str, str], *, owner: str = "up",
              digests: Mapping[str, str] | None = None) -> RunningProcess:  # fmt: skip
        """Starts it in the background."""
        self.port_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  our own module
                list(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environment), start_new_session=True
            )
        created = psutil.Process(process.pid).create_time()
        started = RunningProcess(pid=process.pid, created=created, port=0, owner=owner, digests=digests or {})
        self._file.write_text(json.dumps(asdict(started)))
        return started

    async def until(self, running: RunningProcess, path: str, seconds: float = 30) -> RunningProcess:
        """Waits until a path answers, and says at which port; raises StackError when the process ends or takes too long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not running.alive():
                # a Ctrl-C that ended it is on its way to us as well, and says more than its end
                await asyncio.sleep(0.05)
                raise StackError(f"the {self.name} ended at once ({self.last_words()})", f"see {self.log}")
            running = self._with_port(running)
            if running.port and await asyncio.to_thread(_answers, f"http://127.0.0.1:{running.port}{path}"):
                return running
            await asyncio.sleep(0.05)
        raise StackError(f"the {self.name} is not ready after {seconds:.0f} s", f"see {self.log}")

    def stop(self, seconds: float = 32) -> None:
        """Asks it to stop, and insists when it does not."""
        running = self.running()
        if running is not None:
            process = psutil.Process(running.pid)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(seconds)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(5)
        self._file.unlink(missing_ok=True)
        self.port_file.unlink(missing_ok=True)

    def kill(self) -> int | None:
        """Kills it as a crash does, without a chance to clean up; answers with its process id, None where none runs."""
        running = self.running()
        if running is None:
            return None
        process = psutil.Process(running.pid)
        process.kill()
        process.wait(5)
        return running.pid

    def last_words(self, lines: int = 1) -> str:
        """The last lines of its log."""
        try:
            found = self.log.read_text(errors="replace").strip().splitlines()
        except FileNotFoundError:
            found = []
        return "\n".join(found[-lines:]) if found else "it said nothing"


LONGEST_LOG = 8 * 1024 * 1024
"""Bytes of a log in the stack's folder."""


def bound_logs(home: Path) -> None:
    """Keeps the logs of a stack small: one that is too long begins anew, and what it held is its .1 until the next time."""
    for path in home.glob("*.log"):
        with contextlib.suppress(OSError):
            if path.stat().st_size > LONGEST_LOG:
                # whoever writes it appends, and goes on at the new end
                shutil.copy(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310  our own loopback address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
