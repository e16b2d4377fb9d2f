"""The stand-in goes on: whatever a subscriber asks for, and whatever happens to Postgres behind it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncpg
import httpx
import pytest

from atlas.local.postgres import EmbeddedPostgres
from atlas.local.stack import Stack
from atlas.local.supabase.access import Keys
from atlas.local.supabase.app import open_stand_in
from atlas.supabase.tokens import KeyTokens
from atlas.wake_ups.realtime import RealtimeWakeUps
from tests.support.core import Database, ask, stand_in_of, until
from tests.support.realtime import Client, connected


def join(topic: str, where: str = "") -> str:
    binding = {"event": "INSERT", "schema": "public", "table": "architect_in"} | ({"filter": where} if where else {})
    return json.dumps({"topic": f"realtime:{topic}", "event": "phx_join", "ref": "1", "join_ref": "1", "payload": {
        "config": {"broadcast": {}, "presence": {}, "private": False, "postgres_changes": [binding]}, "access_token": "<jwt>"}})  # fmt: skip


async def heard(client: Client, what: str) -> None:
    async def look() -> bool:
        return any(what in str(one) for one in client.got)

    await until(look, 15, what)


async def test_a_filter_that_cannot_be_followed_silences_nobody(database: Database, db: asyncpg.Connection) -> None:
    async with stand_in_of(database) as stand_in:
        service = {"role": "service_role"}
        async with connected(stand_in, claims=service) as odd, connected(stand_in, claims=service) as plain:
            await odd.send(join("odd", "id=gt.0"))
            await heard(odd, "Error parsing")
            await plain.send(join("plain"))
            await heard(plain, "Subscribed to PostgreSQL")
            for _ in range(2):
                plain.got.clear()
                await ask(db)
                await heard(plain, '"INSERT"')
            assert not any("commit_timestamp" in str(one) for one in odd.got)
            assert not stand_in.running.done()


async def test_postgres_restarted_behind_the_door_is_a_pause(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "home")
    cluster = stack.start_postgres()
    try:
        await stack.prepare(cluster)
        database = Database(cluster=cluster, name="postgres")
        async with open_stand_in(cluster.url(), Keys.create()) as stand_in:
            async with connected(stand_in, claims={"role": "service_role"}) as client:
                await client.send(join("plain"))
                await heard(client, "Subscribed to PostgreSQL")
                for mode in ("fast", "immediate"):
                    # one change is taken and not delivered yet when Postgres goes
                    async with database.connect() as db:
                        await ask(db)
                    EmbeddedPostgres(stack.home).stop(mode)
                    await asyncio.sleep(1)
                    stack.start_postgres()

                    async def told(client: Client = client) -> bool:
                        client.got.clear()
                        async with database.connect() as db:
                            await ask(db)
                        await asyncio.sleep(1)
                        return any('"INSERT"' in str(one) for one in client.got)

                    await until(told, 30, f"it tells of changes again after {mode}")
            assert not stand_in.running.done()
    finally:
        stack.postgres.stop("immediate")


async def test_the_rest_door_names_a_body_that_it_cannot_use(database: Database) -> None:
    async with stand_in_of(database) as stand_in, httpx.AsyncClient(base_url=stand_in.url) as web:
        headers = {"apikey": stand_in.keys.secret, "authorization": f"Bearer {stand_in.keys.secret}"}
        for path, body in (
            ("architect_in", "{}"),
            ("architect_in", "[]"),
            ("architect_in", '[{"data": {}}, {"x": 1}]'),
            ("rpc/submit_task", "5"),
        ):
            answer = await web.post(f"/rest/v1/{path}", content=body, headers=headers | {"content-profile": "public"})
            assert (answer.status_code, answer.json()["code"]) == (400, "PGRST102"), (path, body)


async def test_misses_end_no_session_that_is_still_joining(monkeypatch: pytest.MonkeyPatch) -> None:
    realtime = RealtimeWakeUps("http://127.0.0.1:1", KeyTokens("k"), settled=0)
    distrusted: list[str] = []
    monkeypatch.setattr(realtime._channel, "distrust", distrusted.append)
    realtime.entered("connecting")
    realtime.missed(10)
    assert distrusted == []
    realtime.opened()
    realtime.entered("receiving")
    realtime.missed(10)
    assert distrusted == ["rows came without a wake-up"]
