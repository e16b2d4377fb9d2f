"""Faults of Postgres: restarted, its connections killed or taken, its disk full, its replica promoted, a pooler in front of it.

A fault is a context manager that is entered when it begins, and yields when it is over. What needs an arena of its own makes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg

from atlas.local.drop_root import ordinary_user
from atlas.local.postgres import Cluster, default_binaries, free_port
from benchmarks.chaos.arena import Arena, Started, arena
from benchmarks.chaos.bouncer import pgbouncer
from benchmarks.databases import AWAY
from tests.doubles.way import Way

KILL_ONE = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'atlas_worker' order by random() limit 1"
"""Ends a connection of the fleet."""


@asynccontextmanager
async def postgres_restart(run: Arena) -> AsyncIterator[None]:
    await asyncio.to_thread(run.stack.postgres.stop)
    await asyncio.sleep(run.seconds / 2)
    await asyncio.to_thread(run.stack.postgres.start)
    yield


@asynccontextmanager
async def backend_kill(run: Arena) -> AsyncIterator[None]:
    end = time.monotonic() + run.seconds
    admin = await asyncpg.connect(run.cluster.url("supabase_admin"))
    while time.monotonic() < end:
        await admin.execute(KILL_ONE)
        await asyncio.sleep(0.5)
    await admin.close()
    yield


@asynccontextmanager
async def pool_exhaustion(run: Arena) -> AsyncIterator[None]:
    """Others take every connection that is left; and twice a second one of the fleet's ends, whose place is taken too."""
    held: list[asyncpg.Connection] = []
    # before the door is shut
    admin = await asyncpg.connect(run.cluster.url("supabase_admin"))
    end, next_kill = time.monotonic() + run.seconds, 0.0
    while time.monotonic() < end:
        with contextlib.suppress(*AWAY):
            if len(held) < 300:
                held.append(await asyncpg.connect(run.cluster.url(), timeout=5))
                continue
        if time.monotonic() > next_kill:
            next_kill = time.monotonic() + 0.5
            await admin.execute(KILL_ONE)
        await asyncio.sleep(0.05)
    for connection in held:
        connection.terminate()
    await admin.close()
    yield


@asynccontextmanager
async def disk_full(seconds: float) -> AsyncIterator[Started]:
    """The server's file system is small, and somebody else fills it."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="atlas-disk-") as name:
        home = Path(name)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=0755", "tmpfs", name], check=True)
        try:
            async with arena(seconds, home / "stack") as run:
                run.start(2)

                @asynccontextmanager
                async def fault() -> AsyncIterator[None]:
                    filler = home / "filler"
                    with filler.open("wb") as file, contextlib.suppress(OSError):
                        while True:
                            file.write(b"\0" * 65536)
                            file.flush()
                    await asyncio.sleep(run.seconds)
                    filler.unlink()
                    if not run.stack.postgres.running():
                        await asyncio.to_thread(run.stack.postgres.start)
                    yield

                yield run, fault
        finally:
            subprocess.run(["umount", "--lazy", name], check=False)


@asynccontextmanager
async def failover(seconds: float) -> AsyncIterator[Started]:
    """A synchronous streaming replica takes over: the primary is killed, the replica promoted, the address moved."""

    def tuned(cluster: Cluster) -> None:
        with (cluster.data / "pg_hba.conf").open("a") as file:
            file.write("host replication all 127.0.0.1/32 scram-sha-256\n")

    async with arena(seconds, tuned=tuned) as run:
        replica = run.folder / "replica"
        owner = ordinary_user()
        port = free_port()
        admin = await asyncpg.connect(run.cluster.url("supabase_admin"))
        await admin.execute("select pg_reload_conf()")

        def pg(program: str, *words: str) -> None:
            command = [str(default_binaries() / program), *words]
            done = subprocess.run(
                command, user=owner.pw_name if owner else None, group=owner.pw_gid if owner else None, extra_groups=[] if owner else None,
                cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
            )  # fmt: skip
            assert done.returncode == 0, command

        replica.mkdir(mode=0o700)
        if owner:
            shutil.chown(replica, owner.pw_name)
        source = run.cluster.url("supabase_admin") + "?application_name=standby"
        await asyncio.to_thread(pg, "pg_basebackup", "-d", source, "-D", str(replica), "-R", "-X", "stream", "-c", "fast")
        with (replica / "postgresql.auto.conf").open("a") as file:
            file.write(f"\nport = {port}\n")
        await asyncio.to_thread(pg, "pg_ctl", "-D", str(replica), "-l", str(replica / "log"), "-w", "start")
        await admin.execute("alter system set synchronous_standby_names = 'standby'")
        await admin.execute("select pg_reload_conf()")
        await admin.close()
        try:
            with Way(run.cluster.port) as address:
                run.url = run.cluster.url("atlas_worker").replace(f":{run.cluster.port}/", f":{address.port}/")
                run.start(2)

                @asynccontextmanager
                async def fault() -> AsyncIterator[None]:
                    with (run.cluster.data / "postmaster.pid").open() as file:
                        primary = int(file.readline())
                    subprocess.run(["pkill", "-9", "-P", str(primary)], check=False)
                    subprocess.run(["kill", "-9", str(primary)], check=False)
                    address.target = port
                    address.cut()
                    with (replica / "postgresql.auto.conf").open("a") as file:
                        file.write("\nsynchronous_standby_names = ''\n")
                    await asyncio.to_thread(pg, "pg_ctl", "-D", str(replica), "-w", "promote")
                    run.cluster = replace(run.cluster, port=port)
                    yield

                yield run, fault
        finally:
            with contextlib.suppress(AssertionError):
                await asyncio.to_thread(pg, "pg_ctl", "-D", str(replica), "-m", "immediate", "-w", "stop")


@asynccontextmanager
async def pooled(seconds: float) -> AsyncIterator[Started]:
    """Everything goes through PgBouncer in transaction mode, which is restarted."""
    async with arena(seconds) as run, pgbouncer(run) as bouncer:
        run.start(2)

        @asynccontextmanager
        async def fault() -> AsyncIterator[None]:
            bouncer.kill()
            await asyncio.sleep(run.seconds / 2)
            bouncer.start()
            yield

        yield run, fault
