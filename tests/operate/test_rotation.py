"""Secrets are renewed in their files, and SIGHUP: no task is lost, and none is paid for twice."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx

from atlas.local.postgres import free_port
from atlas.local.supabase.access import Keys
from atlas.rotation import CurrentSettings
from atlas.variables import load
from atlas.webhooks import read_secrets, sign
from tests.doubles.openai import OpenAIDouble, Plan
from tests.doubles.webhook import Got, receiver
from tests.support.core import (
    ADR,
    ROOT,
    Database,
    WorkerProcess,
    Workers,
    ask,
    clean_environment,
    ended,
    reply,
    stand_in_of,
    until,
)

OLD, NEW = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def signed(got: Got, secret: str) -> bool:
    """Whether a call is signed with this secret. tests/router checks signatures with the receivers' own library."""
    made = sign(read_secrets(secret), got.headers["webhook-id"], int(got.headers["webhook-timestamp"]), got.body)
    return made == got.headers["webhook-signature"]


async def renewed(worker: WorkerProcess, *names: str) -> None:
    """SIGHUP, and the worker's word of what changed."""
    worker.process.send_signal(signal.SIGHUP)

    async def said() -> bool:
        return f"read again: {', '.join(names)} changed" in worker.log.read_text()

    await until(said, 10, f"{names} are read again")


async def test_the_openai_key(workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-old\n")
    openai.key = "sk-old"
    openai.plans = [Plan(text=ADR, delay=0.1)]
    worker = await workers.start(openai_api_key_file=file, openai_base_url=openai.url)
    # one is answered while the key changes: its stream goes on
    under_way = await ask(db, "Under way?")
    await until(lambda: db.fetchval("select true from atlas.attempt where first_delta_at is not null"), 20, "it streams")
    openai.key = "sk-new"
    # another is refused because of the old key; it waits, and the refusal does not count as its failure
    refused = await ask(db, "Refused for now?")
    await until(
        lambda: db.fetchval("select true from atlas.task where id = $1 and wait_reason = 'upstream'", refused), 20, "it waits"
    )
    file.write_text("sk-new\n")
    await renewed(worker, "OPENAI_API_KEY")
    for task in (under_way, refused):
        assert (await ended(db, task, 90))["state"] == "completed"
    assert await db.fetchval("select failures from atlas.task where id = $1", refused) == 0
    assert len([call for call in openai.calls if "Under way?" in call["input"][-1]["content"]]) == 1, "not paid for twice"


async def test_a_file_that_is_wrong_changes_nothing(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text("sk-old\n")
    openai.key = "sk-old"
    openai.plans = [Plan(text=ADR)]
    worker = await workers.start(openai_api_key_file=file, openai_base_url=openai.url)
    file.write_text("")
    worker.process.send_signal(signal.SIGHUP)

    async def said() -> bool:
        return "the secrets stay as they are" in worker.log.read_text()

    await until(said, 10, "it says what is wrong")
    assert f"OPENAI_API_KEY_FILE={file} is empty" in worker.log.read_text()
    assert (await ended(db, await ask(db)))["state"] == "completed"


def test_a_connection_has_the_password_of_its_own_url_where_no_other_is_set() -> None:
    """The embedded Postgres has no DATABASE_URL, and some have no password at all."""
    url = "postgresql://atlas_worker:from%20the%2Furl@localhost/postgres"
    embedded = CurrentSettings(load({})).password_of(url)
    assert embedded is not None
    assert embedded() == "from the/url"
    held = CurrentSettings(load({"DATABASE_URL": "postgresql://atlas_worker:old@localhost/postgres"}))
    password = held.password_of(url)
    assert password is not None
    assert password() == "old"
    assert held.renew(load({"DATABASE_URL": "postgresql://atlas_worker:new@localhost/postgres"})) == ["DATABASE_URL"]
    assert password() == "new"
    assert held.password_of("postgresql://atlas_worker@localhost/postgres") is None


async def test_the_workers_password(
    database: Database, workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, tmp_path: Path
) -> None:
    openai.plans = [Plan(text=ADR, delay=0.1)]
    file = tmp_path / "url"
    old = database.url("atlas_worker")
    file.write_text(old)
    password = urlsplit(old).password
    assert password
    worker = await workers.start(database_url="", database_url_file=file, openai_api_key="k", openai_base_url=openai.url)
    under_way = await ask(db, "Under way?")
    await until(lambda: db.fetchval("select true from atlas.attempt where first_delta_at is not null"), 20, "it streams")
    try:
        await db.execute("alter role atlas_worker password 'another one/with signs'")
        file.write_text(old.replace(password, "another%20one%2Fwith%20signs"))
        await renewed(worker, "DATABASE_URL")
        # every connection that was opened with the old one is gone
        async with database.connect("supabase_admin") as admin:
            await admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'atlas_worker' and datname = current_database()"
            )
        for task in (under_way, await ask(db, "Afterwards?")):
            assert (await ended(db, task, 60))["state"] == "completed"
        assert len(openai.calls) == 2
    finally:
        await db.execute(f"alter role atlas_worker password '{database.cluster.worker_password}'")


async def test_a_webhooks_secret(workers: Workers, db: asyncpg.Connection, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(OLD)
    async with receiver() as hook:
        await db.execute(
            "insert into atlas.destination (name, kind, target, secret_name, filter) "
            "values ('hook', 'webhook', $1, 'ATLAS_WEBHOOK_SECRET', '{\"status\": [\"completed\"]}')", hook.url
        )  # fmt: skip
        worker = await workers.start(atlas_webhook_secret_file=file, atlas_webhook_allow="127.0.0.1/32")

        async def arrived(count: int) -> None:
            async def look() -> bool:
                return len(hook.got) >= count

            await until(look, 30, f"{count} arrived")

        await ended(db, await ask(db, "Before?"))
        await arrived(1)
        assert signed(hook.got[0], OLD)
        file.write_text(NEW)
        await renewed(worker, "ATLAS_WEBHOOK_SECRET")

        async def anew() -> bool:
            return worker.log.read_text().count("mirroring to hook") == 2

        await until(anew, 30, "the relay is started anew")
        await ended(db, await ask(db, "After?"))
        await arrived(2)
        assert signed(hook.got[1], NEW)
        assert not signed(hook.got[1], OLD)
        assert len(hook.got) == 2


@asynccontextmanager
async def realtime(database: Database, keys: Keys, port: int = 0) -> AsyncIterator[int]:
    async with stand_in_of(database, keys=keys, port=port) as stand_in:
        yield stand_in.port


async def test_the_supabase_key(database: Database, workers: Workers, db: asyncpg.Connection, tmp_path: Path) -> None:
    old = Keys.create()
    new = replace(old, secret="sb_secret_" + "n" * 32)
    file = tmp_path / "key"
    file.write_text(old.secret)

    async def hears(worker: WorkerProcess) -> None:
        async def look() -> bool:
            states = ("receiving", "joined")
            values = [await asyncio.to_thread(worker.metric, f'atlas_realtime_state{{state="{state}"}}') for state in states]
            return sum(values) == 1

        await until(look, 60, "it is joined")

    async with realtime(database, old) as port:
        worker = await workers.start(supabase_url=f"http://127.0.0.1:{port}", supabase_secret_key_file=file)
        await hears(worker)
        await ended(db, await ask(db, "Before?"))
    # the server takes the new one alone
    async with realtime(database, new, port):
        during = await ask(db, "During?")
        assert (await ended(db, during))["state"] == "completed", "LISTEN and sweeps go on"
        file.write_text(new.secret)
        await renewed(worker, "SUPABASE_SECRET_KEY")
        await hears(worker)
        assert (await reply(db, await _answered(db)))["metadata"]["status"] == "completed"


async def _answered(db: asyncpg.Connection) -> UUID:
    task = await ask(db, "After?")
    await ended(db, task)
    return task


async def test_the_knowledge_services_key(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("o" * 32)
    port = free_port()
    log = tmp_path / "log"
    env = clean_environment() | {"DATABASE_URL": database.url(), "RAG_HTTP_PORT": str(port), "RAG_API_KEY_FILE": str(file)}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "atlas.cli", "rag", "serve"],
            env=env,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
        )
    try:

        async def answer(key: str) -> int:
            async with httpx.AsyncClient() as client:
                body = {"query": "how do we ship?"}
                headers = {"authorization": f"Bearer {key}"}
                return (await client.post(f"http://127.0.0.1:{port}/v1/query_chat", json=body, headers=headers)).status_code

        async def serves() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return await answer("o" * 32) == 200
            except httpx.TransportError:
                return False

        await until(serves, 30, "it serves")
        file.write_text("n" * 32)
        process.send_signal(signal.SIGHUP)

        async def renewed_there() -> bool:
            return await answer("n" * 32) == 200

        await until(renewed_there, 10, "the new key is taken")
        assert await answer("o" * 32) == 401
    finally:
        process.terminate()
        assert process.wait(20) == 0


async def test_a_sighup_while_it_starts_ends_nothing(workers: Workers) -> None:
    worker = await workers.start(wait=False)
    for _ in range(40):
        if "Traceback" in worker.log.read_text() or worker.process.poll() is not None:
            break
        if worker.log.read_text():  # it logs: from the first line on
            worker.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.05)
    await worker.ready()
