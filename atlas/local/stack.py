"""The stack on one machine: the embedded Postgres, migrated and seeded, and beside it, as processes of their own, a worker and
the stand-in that Supabase's clients use."""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import asyncpg

from atlas import __version__
from atlas.database import migrate
from atlas.environment import digests
from atlas.errors import StackError
from atlas.local.postgres import Cluster, EmbeddedPostgres, make_home
from atlas.local.process import Background, RunningProcess, bound_logs
from atlas.local.supabase.access import Keys

STAND_IN_PORT = 54321
"""The port of `supabase start`, where it is free."""


class Stack:
    """The embedded stack of a folder."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self.postgres = EmbeddedPostgres(self.home)
        self.worker = Background(self.home, "worker")
        self.stand_in = Background(self.home, "stand_in")

    def start_postgres(self) -> Cluster:
        """The server, started."""
        make_home(self.home)
        bound_logs(self.home)
        self._secret("audit.key", lambda: secrets.token_hex(32))
        return self.postgres.start()

    def _secret(self, name: str, make: Callable[[], str]) -> str:
        """A file that is made once, whole, readable by us only."""
        path = self.home / name
        if not path.exists():
            fresh = path.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_text(make())
            fresh.rename(path)
        return path.read_text()

    async def prepare(self, cluster: Cluster) -> int:
        """Provides what Supabase has, migrates and seeds; answers how many migrations were applied."""
        admin = await asyncpg.connect(cluster.url("supabase_admin"))
        try:
            await migrate.provide_supabase(admin)
            quoted = await admin.fetchval("select quote_literal($1::text)", cluster.postgres_password)
            await admin.execute(f"alter role postgres login password {quoted}")
            # the stand-in's session, which looks for changes all the time, keeps out of the log
            await admin.execute("grant set on parameter log_min_messages to postgres")
        finally:
            await admin.close()
        operator = await asyncpg.connect(cluster.url())
        try:
            applied = await migrate.migrate(operator)
            await migrate.seed(operator)
            for role in ("atlas_worker", "atlas_rag"):
                await migrate.set_password(operator, role, cluster.worker_password)
        finally:
            await operator.close()
        return len(applied)

    def changed(self, environment: Mapping[str, str]) -> list[str]:
        """The settings in which a worker that runs differs from what would be started now; none where none runs."""
        running = self.worker.running()
        if running is None:
            return []
        now = self._digests(environment)
        return sorted(name for name in now.keys() | running.digests.keys() if now.get(name) != running.digests.get(name))

    def _digests(self, environment: Mapping[str, str]) -> dict[str, str]:
        known = digests(environment, self._secret("audit.key", lambda: secrets.token_hex(32)))
        # the worker is this stack's own, whatever the shell is set to
        return {name: value for name, value in known.items() if not _of_another_stack(name)} | {"version": __version__}

    def start_worker(self, environment: Mapping[str, str], *, owner: str = "up") -> RunningProcess:
        """Starts a worker in the background, unless one runs."""
        running = self.worker.running()
        if running is not None:
            return running
        env = {name: value for name, value in environment.items() if not _of_another_stack(name)} | {
            "ATLAS_HOME": str(self.home),
            "ATLAS_ENV_FILE": "",
            "ATLAS_AUDIT_KEY_FILE": str(self.home / "audit.key"),
        }
        command = [sys.executable, "-m", "atlas.main", "--port-file", str(self.worker.port_file)]
        return self.worker.start(command, env, owner=owner, digests=self._digests(environment))

    def keys(self) -> Keys:
        """The API keys of this stack's stand_in."""
        return Keys(**json.loads(self._secret("keys.json", lambda: json.dumps(asdict(Keys.create())))))

    def start_stand_in(self, environment: Mapping[str, str]) -> RunningProcess:
        """Starts the stand-in in the background, unless it runs."""
        running = self.stand_in.running()
        if running is not None:
            return running
        self.keys()
        command = [
            sys.executable, "-m", "atlas.local.supabase", "--home", str(self.home), "--port", str(STAND_IN_PORT),
            "--port-file", str(self.stand_in.port_file),
        ]  # fmt: skip
        return self.stand_in.start(command, environment)

    @contextlib.contextmanager
    def only_one(self) -> Iterator[None]:
        """One command that starts or stops the stack of a folder at a time. Raises StackError while another does."""
        make_home(self.home)
        with (self.home / "stack.lock").open("a") as lock:
            try:
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except ImportError:  # no flock on this system
                pass
            except OSError:
                raise StackError(f"another command works on {self.home}", "wait for its end, or set ATLAS_HOME") from None
            yield

    def runs(self) -> bool:
        """Whether anything of it runs."""
        return any(process.running() for process in (self.worker, self.stand_in)) or self.postgres.running()

    def down(self) -> None:
        """Stops the worker and the stand-in, then Postgres."""
        self.worker.stop()
        self.stand_in.stop()
        self.postgres.stop()


def _of_another_stack(name: str) -> bool:
    return name.startswith(("SUPABASE_", "DATABASE_URL")) or name == "ATLAS_AUDIT_KEY"
