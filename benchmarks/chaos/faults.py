"""The faults: each is entered, lasts, and ends. The first five are those of hardbyte/postgresql-job-queue-benchmarking."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg

from atlas.local.drop_root import ordinary_user
from atlas.local.postgres import Cluster, default_binaries, free_port
from atlas.local.supabase.access import Keys
from atlas.local.supabase.app import open_stand_in
from benchmarks.chaos.arena import AWAY, STREAM, Arena, arena
from tests.doubles.pubsub import pubsub
from tests.doubles.way import Way
from tests.support.core import ADR, ROOT
from tests.support.faults import Faults

Fault = AbstractAsyncContextManager[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is done, and to what. made: the arena and its fleet, before the clock starts."""

    text: str
    made: Callable[[float], AbstractAsyncContextManager[tuple[Arena, Callable[[], Fault]]]]


def plain(text: str, fault: Callable[[Arena], Fault], workers: int = 2, **settings: object) -> Scenario:
    """A scenario whose arena needs nothing of its own."""

    @asynccontextmanager
    async def made(seconds: float) -> AsyncIterator[tuple[Arena, Callable[[], Fault]]]:
        async with arena(seconds) as found:
            found.start(workers, **settings)
            yield found, lambda: fault(found)

    return Scenario(text=text, made=made)


# --- Postgres -------------------------------------------------------------------------------------------------------


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
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'atlas_worker' order by random() limit 1"
        )
        await asyncio.sleep(0.5)
    await admin.close()
    yield


@asynccontextmanager
async def pool_exhaustion(run: Arena) -> AsyncIterator[None]:
    held: list[asyncpg.Connection] = []
    end = time.monotonic() + run.seconds
    while time.monotonic() < end:
        with contextlib.suppress(*AWAY):
            if len(held) < 300:
                held.append(await asyncpg.connect(run.cluster.url(), timeout=5))
                continue
        await asyncio.sleep(0.2)
    for connection in held:
        connection.terminate()
    yield


@asynccontextmanager
async def leases_expire(run: Arena) -> AsyncIterator[None]:
    """All workers stand still for longer than their leases, and go on as if nothing had been."""
    run.send(signal.SIGSTOP)
    await asyncio.sleep(max(run.seconds, 9))
    run.send(signal.SIGCONT)
    yield


@asynccontextmanager
async def disk_full(seconds: float) -> AsyncIterator[tuple[Arena, Callable[[], Fault]]]:
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
async def failover(seconds: float) -> AsyncIterator[tuple[Arena, Callable[[], Fault]]]:
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
async def pooled(seconds: float) -> AsyncIterator[tuple[Arena, Callable[[], Fault]]]:
    """Everything goes through PgBouncer in transaction mode, which is restarted."""
    script = [str(ROOT / "scripts/debian_tools"), str(ROOT / "tests/.debian/pgbouncer"), "pgbouncer", "libc-ares2"]
    found = Path(subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip())
    binary = found.parent / "sbin/pgbouncer"
    libraries = {"LD_LIBRARY_PATH": str(next(found.parent.parent.rglob("libcares.so.2")).parent)}
    async with arena(seconds) as run:
        port = free_port()
        folder = run.folder / "bouncer"
        folder.mkdir(mode=0o755)
        owner = ordinary_user()
        (folder / "users.txt").write_text(f'"atlas_worker" "{run.cluster.worker_password}"\n')
        (folder / "bouncer.ini").write_text(
            f"[databases]\npostgres = host=127.0.0.1 port={run.cluster.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
            f"auth_type = plain\nauth_file = {folder / 'users.txt'}\npool_mode = transaction\ndefault_pool_size = 10\nmax_client_conn = 500\n"
            "ignore_startup_parameters = extra_float_digits\n"
        )

        def bouncer() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [str(binary), str(folder / "bouncer.ini")], user=owner.pw_name if owner else None, group=owner.pw_gid if owner else None,
                extra_groups=[] if owner else None, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", env=libraries,
            )  # fmt: skip

        process = bouncer()
        await asyncio.sleep(0.5)
        run.url = run.cluster.url("atlas_worker").replace(f":{run.cluster.port}/", f":{port}/")
        run.start(2)

        @asynccontextmanager
        async def fault() -> AsyncIterator[None]:
            nonlocal process
            process.kill()
            process.wait()
            await asyncio.sleep(run.seconds / 2)
            process = bouncer()
            yield

        try:
            yield run, fault
        finally:
            process.kill()
            process.wait()


# --- workers --------------------------------------------------------------------------------------------------------


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
async def clocks(seconds: float) -> AsyncIterator[tuple[Arena, Callable[[], Fault]]]:
    """One worker an hour ahead, one an hour behind, from their starts on; then one of them dies."""
    script = [str(ROOT / "scripts/debian_tools"), str(ROOT / "tests/.debian/libfaketime"), "libfaketime"]
    found = Path(subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip())
    library = next(found.parent.parent.rglob("libfaketime.so.1"))
    async with arena(seconds) as run:
        for offset in ("+3600", "-3600"):
            run.start(1, ld_preload=library, faketime=offset, faketime_dont_fake_monotonic=1)
        yield run, lambda: crash_recovery(run)


# --- what Atlas speaks to -------------------------------------------------------------------------------------------


def provider(mode: str) -> Callable[[Arena], Fault]:
    @asynccontextmanager
    async def fault(run: Arena) -> AsyncIterator[None]:
        run.way.set(mode)  # type: ignore[arg-type]
        await asyncio.sleep(run.seconds)
        run.way.set("open")
        yield

    return fault


@asynccontextmanager
async def provider_slow(run: Arena) -> AsyncIterator[None]:
    run.openai.plan(text=ADR, before=2.0, delay=0.2)
    await asyncio.sleep(run.seconds)
    run.openai.plan(**STREAM)
    yield


@asynccontextmanager
async def rag_hung(seconds: float) -> AsyncIterator[tuple[Arena, Callable[[], Fault]]]:
    """The knowledge service takes connections, and never answers, from the beginning; there is no fault beside it."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as deaf:
        async with arena(seconds) as run:
            run.start(2, rag_url=f"http://127.0.0.1:{deaf.getsockname()[1]}")
            yield run, lambda: crash_recovery(run)


@asynccontextmanager
async def pubsub_down(seconds: float) -> AsyncIterator[tuple[Arena, Callable[[], Fault]]]:
    async with pubsub() as there, arena(seconds) as run:
        with Way(int(there.host.rpartition(":")[2])) as way:
            run.start(2, atlas_mirror="true", pubsub_project_id="atlas", pubsub_emulator_host=f"127.0.0.1:{way.port}")

            @asynccontextmanager
            async def fault() -> AsyncIterator[None]:
                way.set("refuse")
                await asyncio.sleep(run.seconds)
                way.set("open")
                yield

            yield run, fault


def realtime(**faults: bool) -> Callable[[float], AbstractAsyncContextManager[tuple[Arena, Callable[[], Fault]]]]:
    @asynccontextmanager
    async def made(seconds: float) -> AsyncIterator[tuple[Arena, Callable[[], Fault]]]:
        trouble = Faults.quick()
        async with (
            arena(seconds) as run,
            open_stand_in(run.cluster.url(), Keys.create(), conduct=trouble) as there,
        ):
            run.start(2, supabase_url=there.url, supabase_service_role_key=there.keys.service_role)

            @asynccontextmanager
            async def fault() -> AsyncIterator[None]:
                for name, value in faults.items():
                    setattr(trouble, name, value)
                await asyncio.sleep(run.seconds)
                for name in faults:
                    setattr(trouble, name, False)
                yield

            yield run, fault

    return made


SCENARIOS: dict[str, Scenario] = {
    "crash_recovery": plain("one of two workers is killed (-9), and started again later", crash_recovery),
    "postgres_restart": plain("Postgres is stopped, and started again", postgres_restart),
    "repeated_kills": plain("one of two workers is killed and started again, five times", repeated_kills),
    "pg_backend_kill": plain("a connection of the fleet is terminated twice a second", backend_kill),
    "pool_exhaustion": plain("300 idle connections are asked for, of a server that allows 100", pool_exhaustion),
    "ten_workers_killed": plain(
        "ten workers are killed at once, and started again", all_killed, workers=10, atlas_concurrency=4
    ),
    "leases_expire": plain("all workers stand still for longer than their leases", leases_expire),
    "clocks_off": Scenario(text="workers an hour ahead and behind; one is killed", made=clocks),
    "disk_full": Scenario(text="Postgres's file system is full", made=disk_full),
    "failover": Scenario(text="the primary is killed, a synchronous replica promoted", made=failover),
    "pgbouncer": Scenario(text="through PgBouncer in transaction mode, which is killed and started again", made=pooled),
    "provider_reset": plain("the provider takes requests, and resets", provider("close")),
    "provider_black_hole": plain("the provider takes requests, and says nothing", provider("silent")),
    "provider_gateway": plain("a gateway answers 502 in the provider's place", provider("502")),
    "provider_malformed": plain("the provider answers with what is no event stream", provider("malformed")),
    "provider_slow": plain("each reply takes seconds more", provider_slow),
    "rag_hung": Scenario(text="the knowledge service never answers; a worker is killed as well", made=rag_hung),
    "pubsub_down": Scenario(text="Pub/Sub refuses connections", made=pubsub_down),
    "realtime_silent": Scenario(text="Realtime delivers nothing", made=realtime(deaf=True, no_broadcasts=True)),
    "realtime_half_deaf": Scenario(text="Realtime delivers broadcasts, and no changes", made=realtime(deaf=True)),
}
