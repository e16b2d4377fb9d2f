"""Debian's PgBouncer in transaction mode, in front of an arena's Postgres: no LISTEN goes through it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from atlas.local.drop_root import ordinary_user
from atlas.local.postgres import free_port
from benchmarks.chaos.arena import Arena
from tests.support.core import ROOT


@dataclass(kw_only=True)
class Bouncer:
    """A pooler as a process. Mutable: it is killed and started again."""

    command: list[str]
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        owner = ordinary_user()
        self.process = subprocess.Popen(
            self.command, user=owner.pw_name if owner else None, group=owner.pw_gid if owner else None,
            extra_groups=[] if owner else None, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", env=self.env,
        )  # fmt: skip

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@asynccontextmanager
async def pgbouncer(run: Arena) -> AsyncIterator[Bouncer]:
    """Runs it; the arena's workers go through it from now on."""
    script = [str(ROOT / "scripts/debian_tools"), str(ROOT / "tests/.debian/pgbouncer"), "pgbouncer", "libc-ares2"]
    found = Path(subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip())
    port = free_port()
    folder = run.folder / "bouncer"
    folder.mkdir(mode=0o755)
    (folder / "users.txt").write_text(f'"atlas_worker" "{run.cluster.worker_password}"\n')
    (folder / "bouncer.ini").write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={run.cluster.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"auth_type = plain\nauth_file = {folder / 'users.txt'}\npool_mode = transaction\ndefault_pool_size = 10\nmax_client_conn = 500\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    libraries = {"LD_LIBRARY_PATH": str(next(found.parent.parent.rglob("libcares.so.2")).parent)}
    bouncer = Bouncer(command=[str(found.parent / "sbin/pgbouncer"), str(folder / "bouncer.ini")], env=libraries)
    bouncer.start()
    try:
        await asyncio.sleep(0.5)
        run.url = run.cluster.url("atlas_worker").replace(f":{run.cluster.port}/", f":{port}/")
        yield bouncer
    finally:
        bouncer.kill()
