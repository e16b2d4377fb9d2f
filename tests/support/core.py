"""What tests share: databases, messages, worker processes, waiting."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from atlas.database import migrate
from atlas.database.pool import set_codecs
from atlas.local.postgres import Cluster, free_port
from atlas.local.supabase.access import Keys
from atlas.local.supabase.app import StandIn, open_stand_in
from atlas.messages import chat, control
from tests.support.faults import Faults

ROOT = Path(__file__).parent.parent.parent
Json = dict[str, Any]

ADR = """# Ship with a pipeline

## Context

Merges are rare [assumed].

## Drivers

- Fast feedback.

## Options

### A pipeline

- For: checks each push.
- Against: one file more.

### By hand

- For: nothing to run.
- Against: forgotten.

## Decision

Run checks on each push [inferred].

## Consequences

Faster feedback.

## Confirmation

- `make check`: it passes.

## Assumptions and non-goals

None.

## Rollout

One commit; revert it.

## Security

None.

## Open questions

None.

## Constraints

- Each push must be checked.

## Governs

- `ci/**`

## Work items

### Add the workflow

#### Context

There is none.

#### Technical Spec

One job.

## Sources

None.
"""


@dataclass(frozen=True, kw_only=True)
class Database:
    """A database of its own, migrated and seeded."""

    cluster: Cluster
    name: str

    def url(self, role: str = "postgres") -> str:
        return self.cluster.url(role, self.name)

    @asynccontextmanager
    async def connect(self, role: str = "postgres") -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.url(role))
        await set_codecs(connection)
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def empty_database(cluster: Cluster, name: str) -> AsyncIterator[Database]:
    """A database with what Supabase provides, and nothing of Atlas."""
    admin = await asyncpg.connect(cluster.url("supabase_admin"))
    await admin.execute(f"create database {name} owner postgres")
    inside = await asyncpg.connect(cluster.url("supabase_admin", name))
    await migrate.provide_supabase(inside)
    assert not await migrate.provide_supabase(inside), "what is there already is left alone"
    await inside.close()
    try:
        yield Database(cluster=cluster, name=name)
    finally:
        await drop_database(admin, name)
        await admin.close()


async def drop_database(admin: asyncpg.Connection, name: str) -> None:
    """Drops a database, once the slot of a stand-in that was just closed has let it go."""
    end = time.monotonic() + 10
    while True:
        try:
            await admin.execute(f"drop database if exists {name} with (force)")
        except asyncpg.ObjectInUseError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.02)
        else:
            return


async def books_wrong(database: Database) -> list[Json]:
    """What atlas.check_ledger finds: nothing."""
    async with database.connect() as connection:
        return [dict(row) for row in await connection.fetch("select * from atlas.check_ledger()")]


async def ask(connection: asyncpg.Connection, question: str = "How?", **metadata: Any) -> UUID:
    """Inserts a question as plain SQL does."""
    message = chat(question, **metadata)
    await connection.execute("insert into public.architect_in (data) values ($1)", message)
    return UUID(message["task_id"])


async def command(connection: asyncpg.Connection, body: Json, task_id: UUID | None = None) -> UUID:
    """Inserts a control message."""
    message = control(json.dumps(body), task_id=task_id)
    await connection.execute("insert into public.architect_in (data) values ($1)", message)
    return UUID(message["task_id"])


async def claim(connection: asyncpg.Connection, n: int = 1, worker: UUID | None = None, lease: str = "1 minute") -> list[Any]:
    """Claims questions."""
    query = f"select * from atlas.claim_tasks($1, $2, 0, interval '{lease}')"
    return list(await connection.fetch(query, worker or uuid4(), n))


async def reserve(connection: asyncpg.Connection, attempt: UUID, tokens: int = 1000, call: int = 0, **more: Any) -> Json:
    """Reserves for one call."""
    request = {"attempt_id": str(attempt), "call": call, "model": "gpt-4.1", "input_tokens": 0, "output_tokens": tokens} | more
    found: Json = await connection.fetchval("select r from atlas.reserve_tokens($1) r", [request])
    return found


def used(tokens: int, known: str = "reported") -> Json:
    """A usage of output tokens alone."""
    return {"input_tokens": 0, "output_tokens": tokens, "known": known}


async def until(check: Callable[[], Awaitable[Any]], seconds: float = 20, what: str = "") -> Any:
    """Waits until check answers something true; fails after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = await check()
        if found:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what or check}")


async def ended(connection: asyncpg.Connection, task: UUID, seconds: float = 30) -> Any:
    """The row of a task once it has ended."""
    query = "select * from atlas.task where id = $1 and finished_at is not null"
    return await until(lambda: connection.fetchrow(query, task), seconds, f"task {task} ends")


async def reply(connection: asyncpg.Connection, task: UUID) -> Json:
    """The final message of a task."""
    found: Json = await connection.fetchval(
        "select o.data from atlas.task t join public.architect_out o on o.id = t.out_id where t.id = $1", task
    )
    return found


@dataclass(kw_only=True)
class WorkerProcess:
    """A real worker."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    async def ready(self) -> None:
        async def check() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return (await asyncio.to_thread(self.get, "/readyz"))[0] == 200

        await until(check, 30, "the worker is ready")

    def metric(self, line: str) -> float:
        """The value of a line of /metrics; 0 where there is none."""
        for found in self.get("/metrics")[1].splitlines():
            if found.startswith(line + " "):
                return float(found.split()[-1])
        return 0.0


@dataclass(kw_only=True)
class Workers:
    """Starts workers on a database, and ends all of them."""

    database: Database
    folder: Path
    started: list[WorkerProcess] = field(default_factory=list)

    async def start(self, module: tuple[str, ...] = ("-m", "atlas.main"), *, wait: bool = True, package: Path | None = None,
                    **settings: object) -> WorkerProcess:  # fmt: skip
        """package: the folder of another version of Atlas, which it runs then."""
        port = int(str(settings.pop("atlas_http_port", 0))) or free_port()
        log = self.folder / f"worker{len(self.started)}.log"
        env = clean_environment() | {
            "DATABASE_URL": self.database.url("atlas_worker"),
            "ATLAS_HTTP_PORT": str(port),
            "ATLAS_LEASE_SECONDS": "10",  # a noisy machine stalls for seconds; tests that lose workers on purpose ask for less
        }
        env |= {key.upper(): str(value) for key, value in settings.items()}
        if package is not None:
            env["PYTHONPATH"] = str(package)
        command = [argument.format(port=port) for argument in module]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, *command], env=env, stdout=file, stderr=file, stdin=subprocess.DEVNULL, cwd=package or ROOT
            )
        worker = WorkerProcess(process=process, port=port, log=log)
        self.started.append(worker)
        if wait:
            await worker.ready()
        return worker

    def stop(self) -> None:
        for worker in self.started:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.wait(10)


@contextmanager
def workers_of(database: Database, folder: Path) -> Iterator[Workers]:
    found = Workers(database=database, folder=folder)
    try:
        yield found
    finally:
        found.stop()


def clean_environment() -> dict[str, str]:
    """The environment without any setting of Atlas."""
    from atlas.settings import Settings

    names = {name.upper() for name in Settings.model_fields}
    kept = {key: value for key, value in os.environ.items() if key not in names and key.removesuffix("_FILE") not in names}
    # nor what this user has stored, or runs: neither folder is there
    nowhere = Path(tempfile.gettempdir()) / f"atlas-nobody-{os.getpid()}"
    return kept | {"ATLAS_ENV_FILE": "", "ATLAS_CONFIG_DIR": str(nowhere / "config"), "ATLAS_HOME": str(nowhere / "home")}


def run_atlas(*arguments: str, env: dict[str, str], cwd: Path | None = None, stdin: bytes | None = None, timeout: float = 90,
              ) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """The real command."""
    done = subprocess.run(
        [sys.executable, "-m", "atlas.cli", *arguments], env=clean_environment() | env, cwd=cwd, input=stdin or b"",
        capture_output=True, timeout=timeout, check=False,
    )  # fmt: skip
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


async def atlas_on(database: Database, *words: str, code: int = 0, cwd: Path = ROOT, **env: str) -> str:
    """What the real command prints for an operator of a database; it must end with this exit code."""
    done = await asyncio.to_thread(run_atlas, *words, env={"DATABASE_URL": database.url()} | env, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@asynccontextmanager
async def stand_in_of(
    database: Database, faults: Faults | None = None, *, port: int = 0, keys: Keys | None = None
) -> AsyncIterator[StandIn]:
    """The stand-in of a database, in this process; a refused join does not hold tests up for its five seconds."""
    quick = faults or Faults.quick()
    async with open_stand_in(database.url(), keys or Keys.create(), conduct=quick, port=port) as stand_in:
        yield stand_in


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody with a login of their own, and the real command."""

    env: dict[str, str]
    email: str

    async def atlas(self, *arguments: str, stdin: str = "", ok: int | None = 0) -> subprocess.CompletedProcess[str]:
        """The real command. ok: the exit code that it must end with."""
        done = await asyncio.to_thread(run_atlas, *arguments, env=self.env, stdin=stdin.encode())
        assert ok is None or done.returncode == ok, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    async def json(self, *arguments: str) -> Any:
        return json.loads((await self.atlas(*arguments, "--json")).stdout)


async def person(stand_in: StandIn, folder: Path, name: str) -> Person:
    """Signs somebody up at a stand-in."""
    found = Person(
        email=f"{name}@example.com",
        env={
            "SUPABASE_URL": stand_in.url, "SUPABASE_PUBLISHABLE_KEY": stand_in.keys.publishable, "ATLAS_CONFIG_DIR": str(folder / name),
            "ATLAS_HOME": str(folder / "no-stack"),
        },
    )  # fmt: skip
    await found.atlas("login", found.email, "--sign-up", "--password-file", "-", stdin="a password\n")
    return found
