"""The door goes on: whatever a subscriber asks for, and whatever happens to Postgres behind it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncpg
import httpx
import pytest

from atlas.adapters.realtime import RealtimeWakeUps
from atlas.adapters.realtime_tokens import KeyTokens
from atlas.local.door.access import Keys
from atlas.local.door.app import open_door
from atlas.local.postgres import EmbeddedPostgres
from atlas.local.stack import Stack
from tests.realtime.test_conformance import Client, connected
from tests.support import Database, ask, door_of, until


def join(topic: str, where: str = "") -> str:
    binding = {"event": "INSERT", "schema": "public", "table": "architect_in"} | ({"filter": where} if where else {})
    return json.dumps({"topic": f"realtime:{topic}", "event": "phx_join", "ref": "1", "join_ref": "1", "payload": {
        "config": {"broadcast": {}, "presence": {}, "private": False, "postgres_changes": [binding]}, "access_token": "<jwt>"}})  # fmt: skip


async def heard(client: Client, what: str) -> None:
    async def look() -> bool:
        return any(what in str(one) for one in client.got)

    await until(look, 15, what)


async def test_a_filter_that_cannot_be_followed_silences_nobody(database: Database, db: asyncpg.Connection) -> None:
    async with door_of(database) as door:
        service = {"role": "service_role"}
        async with connected(door, claims=service) as odd, connected(door, claims=service) as plain:
            await odd.send(join("odd", "id=gt.0"))
            await heard(odd, "Error parsing")
            await plain.send(join("plain"))
            await heard(plain, "Subscribed to PostgreSQL")
            for _ in range(2):
                plain.got.clear()
                await ask(db)
                await heard(plain, '"INSERT"')
            assert not any("commit_timestamp" in str(one) for one in odd.got)
            assert not door.running.done()


async def test_postgres_restarted_behind_the_door_is_a_pause(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "home")
    cluster = stack.start_postgres()
    try:
        await stack.prepare(cluster)
        database = Database(cluster=cluster, name="postgres")
        async with open_door(cluster.url(), Keys.create()) as door:
            async with connected(door, claims={"role": "service_role"}) as client:
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
            assert not door.running.done()
    finally:
        stack.postgres.stop("immediate")


async def test_the_rest_door_names_a_body_that_it_cannot_use(database: Database) -> None:
    async with door_of(database) as door, httpx.AsyncClient(base_url=door.url) as web:
        headers = {"apikey": door.keys.secret, "authorization": f"Bearer {door.keys.secret}"}
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
    assert distrusted == ["rows came without a hint"]
