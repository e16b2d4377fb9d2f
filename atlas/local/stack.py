"""The stack on one machine: the embedded Postgres, migrated and seeded, and a worker as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg
import psutil

from atlas import migrate
from atlas.errors import StackError
from atlas.local.postgres import Cluster, EmbeddedPostgres, free_port, port_is_free


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerProcess:
    """A worker that `up` started."""

    pid: int
    created: float
    port: int
    owner: str = "up"
    """Who started it: `atlas up`, or a demo that stops it when it ends."""

    def alive(self) -> bool:
        """Whether it still runs: the same process, not another with its number."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.created) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


class Stack:
    """The embedded stack of a folder."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self.postgres = EmbeddedPostgres(self.home)
        self.worker_log = self.home / "worker.log"
        self._worker_file = self.home / "worker.json"

    def start_postgres(self) -> Cluster:
        """The server, started; its folder is kept from the eyes of git."""
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / ".gitignore").write_text("*\n")
        key = self.home / "audit.key"
        if not key.exists():
            fresh = key.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_hex(32))
            fresh.rename(key)
        return self.postgres.start()

    async def prepare(self, cluster: Cluster) -> int:
        """Provides what Supabase has, migrates and seeds; answers how many migrations were applied."""
        admin = await asyncpg.connect(cluster.url("supabase_admin"))
        try:
            await migrate.provide_supabase(admin)
            quoted = await admin.fetchval("select quote_literal($1::text)", cluster.postgres_password)
            await admin.execute(f"alter role postgres login password {quoted}")
        finally:
            await admin.close()
        operator = await asyncpg.connect(cluster.url())
        try:
            applied = await migrate.migrate(operator)
            await migrate.seed(operator)
            await migrate.set_worker_password(operator, cluster.worker_password)
        finally:
            await operator.close()
        return len(applied)

    def worker(self) -> WorkerProcess | None:
        """The worker that runs here, if one does."""
        try:
            found = WorkerProcess(**json.loads(self._worker_file.read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None
        return found if found.alive() else None

    def start_worker(self, environment: Mapping[str, str], *, owner: str = "up") -> WorkerProcess:
        """Starts a worker in the background; its log is worker.log."""
        running = self.worker()
        if running is not None:
            return running
        wanted = int(environment.get("ATLAS_HTTP_PORT") or 8000)
        port = wanted if wanted and port_is_free(wanted) else free_port()
        env = {
            **environment,
            "ATLAS_HOME": str(self.home),
            "ATLAS_HTTP_PORT": str(port),
            "ATLAS_AUDIT_KEY_FILE": str(self.home / "audit.key"),
        }
        for name in ("DATABASE_URL", "DATABASE_URL_FILE", "ATLAS_AUDIT_KEY"):
            env.pop(name, None)
        with self.worker_log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "atlas.main"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
            )
        started = WorkerProcess(pid=process.pid, created=psutil.Process(process.pid).create_time(), port=port, owner=owner)
        self._worker_file.write_text(json.dumps(asdict(started)))
        return started

    async def until_ready(self, worker: WorkerProcess, seconds: float = 30) -> None:
        """Waits for the worker's /readyz; raises StackError when it ends or takes too long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not worker.alive():
                # a Ctrl-C that ended it is on its way to us as well, and says more than its end
                await asyncio.sleep(0.05)
                raise StackError(f"the worker ended at once ({self.last_words()})", f"see {self.worker_log}")
            if await asyncio.to_thread(_answers, f"http://127.0.0.1:{worker.port}/readyz"):
                return
            await asyncio.sleep(0.05)
        raise StackError(f"the worker is not ready after {seconds:.0f} s", f"see {self.worker_log}")

    def stop_worker(self, seconds: float = 32) -> None:
        """Asks the worker to stop, and insists when it does not."""
        running = self.worker()
        if running is not None:
            process = psutil.Process(running.pid)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(seconds)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(5)
        self._worker_file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def only_one(self) -> Iterator[None]:
        """One command that starts or stops the stack of a folder at a time. Raises StackError while another does."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "stack.lock").open("a") as lock:
            try:
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except ImportError:  # no flock on this system
                pass
            except OSError:
                raise StackError(f"another command works on {self.home}", "wait for its end, or set ATLAS_HOME") from None
            yield

    def last_words(self) -> str:
        """The last line of the worker's log."""
        try:
            lines = self.worker_log.read_text(errors="replace").strip().splitlines()
        except FileNotFoundError:
            return "it said nothing"
        return lines[-1] if lines else "it said nothing"

    def down(self) -> None:
        """Stops the worker, then Postgres."""
        self.stop_worker()
        self.postgres.stop()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310  our own loopback address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
