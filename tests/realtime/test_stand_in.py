"""The stand-in goes on: whatever a subscriber asks for, and whatever happens to Postgres behind it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import jwt
import pytest

from atlas.local.postgres import EmbeddedPostgres
from atlas.local.stack import Stack
from atlas.local.supabase import auth
from atlas.local.supabase.access import Keys
from atlas.local.supabase.app import open_stand_in
from atlas.supabase.tokens import KeyTokens
from atlas.wake_ups.realtime import RealtimeWakeUps, Sources
from tests.support.core import Database, ask, stand_in_of, until
from tests.support.faults import Faults
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
            await odd.send(join("odd", "id=near.0"))
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


# --- what the real server does, so that it surprises nobody later (measured on 2.129) --------------------------------


async def test_filters_are_compared_by_postgres(database: Database, db: asyncpg.Connection) -> None:
    """Every operator, by the column's type, several at once; a value that the column cannot have is refused."""
    await db.execute("create table public.thing (id bigint primary key, name text, good boolean, at timestamptz)")
    await db.execute("grant select on public.thing to anon")
    await db.execute("alter publication supabase_realtime add table public.thing")
    holds = [
        "good=eq.true", "good=is.true", "id=gt.9", "id=gte.10", "id=lt.11", "id=lte.10", "id=in.(3,10)", "name=like.a%",
        "name=ilike.A%", "name=match.^ab", "at=gt.2020-01-01", "id=not.eq.9", "good=eq.true,id=eq.10", "id=in.(1,10),name=eq.abc",
    ]  # fmt: skip
    fails = ["id=lt.10", "good=eq.false", "name=like.A%", "good=eq.true,id=eq.11", "at=lt.2020-01-01", "id=not.in.(10)"]
    async with stand_in_of(database) as stand_in, connected(stand_in, claims={"role": "anon"}) as client:
        for number, where in enumerate([*holds, *fails, "id=eq.abc", "at=gt.soon"]):
            frame = json.loads(join(f"t{number}", where))
            frame["payload"]["config"]["postgres_changes"][0] |= {"table": "thing", "event": "insert", "select": "id"}
            await client.send(json.dumps(frame))
        await until(
            lambda: _true(str(client.got).count("Subscribed to PostgreSQL") == len(holds) + len(fails)), 15, "subscribed"
        )
        await heard(client, "22007")
        assert str(client.got).count("22P02") == 1, "id=eq.abc"
        assert str(client.got).count("22007") == 1, "at=gt.soon"
        await db.execute("insert into public.thing values (10, 'abc', true, now())")

        def told() -> set[str]:
            return {str(one) for one in client.got if "commit_timestamp" in str(one)}

        await until(lambda: _true(len(told()) >= len(holds)), 15, "the change")
        await asyncio.sleep(0.5)
        assert len(told()) == len(holds)
        assert not any("abc" in one for one in told()), "select names the columns"


async def test_only_who_was_let_in_hears_what_was_said(database: Database, db: asyncpg.Connection) -> None:
    """A private topic's name, joined as a public one, replays nothing; realtime.send of no object delivers nothing."""
    await db.execute("select realtime.send('{\"secret\": 1}', 'said', 'room', true)")
    for nothing in ("null", "'[1]'", "'5'"):
        await db.execute(f"select realtime.send({nothing}::jsonb, 'said', 'open', false)")
    assert await db.fetchval("select payload ? 'id' from realtime.messages where topic = 'room'")
    async with stand_in_of(database) as stand_in, connected(stand_in, claims={"role": "anon"}) as client:
        for topic in ("room", "open"):
            frame = json.loads(join(topic))
            frame["payload"]["config"] = {"broadcast": {"replay": {"since": 0, "limit": 25}}, "private": False}
            await client.send(json.dumps(frame))
        await client.until(2)
        await db.execute("select realtime.send(null, 'said', 'open', false)")
        await db.execute("select realtime.send('{}', 'last', 'open', false)")
        await heard(client, '"last"')
        assert "secret" not in str(client.got)
        assert '"said"' not in str(client.got)
        headers = {"apikey": stand_in.keys.publishable}
        body = {"messages": [{"topic": "open", "event": "posted", "payload": {"a": 1}},
                             {"topic": "room", "event": "posted", "payload": {}, "private": True}]}  # fmt: skip
        async with httpx.AsyncClient(base_url=stand_in.url, headers=headers) as web:
            assert (await web.post("/realtime/v1/api/broadcast", json=body)).status_code == 202
            for bad in ("[", "{}", "null", " " * 1_100_000):
                assert (await web.post("/realtime/v1/api/broadcast", content=bad)).status_code == 422
        await heard(client, '"posted"')


async def test_presence_is_told_to_the_topic(database: Database) -> None:
    async with stand_in_of(database) as stand_in, connected(stand_in, claims={"role": "anon"}) as one:
        frame = json.loads(join("lobby"))
        frame["payload"]["config"] = {"presence": {"key": "ann", "enabled": True}, "private": False}
        await one.send(json.dumps(frame))
        await heard(one, "presence_state")
        track = {"topic": "realtime:lobby", "event": "presence", "ref": "2", "join_ref": "1",
                 "payload": {"type": "presence", "event": "track", "payload": {"state": "idle"}}}  # fmt: skip
        await one.send(json.dumps(track))
        await heard(one, "presence_diff")
        async with connected(stand_in, claims={"role": "anon"}) as other:
            frame["payload"]["config"]["presence"]["key"] = "bob"
            await other.send(json.dumps(frame))
            await heard(other, '"idle"')
            await other.send(json.dumps(track))
            await heard(one, '"joins":{"bob"')
        await heard(one, '"leaves":{"bob"')


async def test_claims_of_any_shape_neither_kill_a_socket_nor_silence_others(database: Database, db: asyncpg.Connection) -> None:
    async with stand_in_of(database) as stand_in, connected(stand_in, claims={"role": "service_role"}) as plain:
        await plain.send(join("plain"))
        await heard(plain, "Subscribed to PostgreSQL")
        stand_in.conduct.refusal_takes = 0.05
        for claims in ({"role": "authenticated", "sub": "not a uuid"}, {"role": "no_such_role"}):
            async with connected(stand_in, claims=claims) as odd:
                frame = json.loads(join("mine"))
                frame["payload"]["config"]["private"] = True
                await odd.send(json.dumps(frame))
                await heard(odd, "Unauthorized")
                await odd.send(join("open"))
                await heard(odd, "Subscribed to PostgreSQL")
                for config in ("5", "[]", '{"postgres_changes": 7}', '{"postgres_changes": ["x"]}', '{"presence": 7}'):
                    odd_frame = json.loads(join("odd"))
                    odd_frame["payload"]["config"] = json.loads(config)
                    await odd.send(json.dumps(odd_frame))
                plain.got.clear()
                await ask(db)
                await heard(plain, '"INSERT"')
                odd.got.clear()
                await odd.send(json.dumps({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "9"}))
                await heard(odd, '"9"')
        assert not stand_in.running.done()


async def test_a_client_that_does_not_read_holds_up_nobody(database: Database, db: asyncpg.Connection) -> None:
    async with stand_in_of(database) as stand_in, connected(stand_in, claims={"role": "anon"}) as plain:
        host, port = stand_in.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(
            f"GET /realtime/v1/websocket?apikey={stand_in.keys.publishable} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n"
            "connection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        frame = json.loads(join("big"))
        frame["payload"] = {"config": {"private": False}}
        text = json.dumps(frame).encode()
        # a masked text frame, whose mask is zeros
        writer.write(bytes((0x81, 0x80 | 126, *len(text).to_bytes(2, "big"), 0, 0, 0, 0)) + text)
        await plain.send(json.dumps(frame))
        await plain.until(1)
        sockets = stand_in.realtime.sockets
        assert len(sockets) == 2
        for number in range(60):
            await db.execute("select realtime.send(jsonb_build_object('x', repeat('x', 500000)), 'big', 'big', false)")
            await plain.until(2 + number)
        await until(lambda: _true(len(sockets) == 1), 20, "the one that does not read is dropped")
        await db.execute("select realtime.send('{}', 'last', 'big', false)")
        await heard(plain, '"last"')
        writer.close()


async def test_the_rate_is_the_tenants(database: Database, db: asyncpg.Connection) -> None:
    """One event a publish and one a delivery; over it everything of SQL vanishes silently."""
    async with stand_in_of(database) as stand_in, connected(stand_in, claims={"role": "anon"}) as client:
        stand_in.conduct.messages_a_second = 1  # 60 a minute
        frame = json.loads(join("open"))
        frame["payload"]["config"] = {"private": False}
        await client.send(json.dumps(frame))
        await client.until(1)
        for _ in range(50):
            await db.execute("select realtime.send('{}', 'said', 'open', false)")
        await asyncio.sleep(1)
        assert str(client.got).count('"said"') == 31
        assert "Too many" not in str(client.got)


async def test_log_ins_tell_no_users_and_end_with_their_log_out(database: Database) -> None:
    async with stand_in_of(database) as stand_in, httpx.AsyncClient(base_url=stand_in.url) as web:
        headers = {"apikey": stand_in.keys.publishable}

        async def log_in(email: str, password: str) -> httpx.Response:
            body = {"email": email, "password": password}
            return await web.post("/auth/v1/token?grant_type=password", json=body, headers=headers)

        body = {"email": "ann@x.example", "password": "correct"}
        made = (await web.post("/auth/v1/signup", json=body, headers=headers)).json()
        scrypt, calls = auth._scrypt, []

        def counted(password: str, salt: bytes) -> bytes:
            calls.append(password)
            return scrypt(password, salt)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(auth, "_scrypt", counted)
            for email in ("ann@x.example", "nobody@x.example"):
                calls.clear()
                assert (await log_in(email, "wrong")).json()["error_code"] == "invalid_credentials"
                assert len(calls) == 1, "an unknown user takes as long"
        for _ in range(9):
            await log_in("ann@x.example", "wrong")
        assert (await log_in("ann@x.example", "correct")).status_code == 429
        token = {"authorization": f"Bearer {made['access_token']}"}
        reads = "/rest/v1/architect_in?select=id"
        assert (await web.get(reads, headers=headers | token)).status_code == 200
        renewed = await web.post(
            "/auth/v1/token?grant_type=refresh_token", json={"refresh_token": made["refresh_token"]}, headers=headers
        )
        assert renewed.status_code == 200
        assert (await web.get("/auth/v1/user", headers=headers | token)).status_code == 200
        assert (await web.post("/auth/v1/logout", headers=headers | token)).status_code == 204
        assert (await web.get(reads, headers=headers | token)).status_code == 401
        assert (await web.get("/auth/v1/user", headers=headers | token)).status_code == 403


async def test_no_body_and_no_token_is_a_defect(database: Database) -> None:
    """Whatever comes, the answer is the client's fault, in words."""
    async with stand_in_of(database) as stand_in, httpx.AsyncClient(base_url=stand_in.url) as web:
        service = {"apikey": stand_in.keys.secret, "content-profile": "public"}
        values = ['"\\ud800"', '"\\u0000"', "NaN", "1e999", "9" * 5000]
        for body in ["[" * 100_000, *(f'{{"data": {{"x": {value}}}}}' for value in values)]:
            for path in ("/rest/v1/architect_in", "/rest/v1/rpc/submit_task", "/auth/v1/signup", "/auth/v1/token"):
                answer = await web.post(path, content=body, headers=service)
                assert 400 <= answer.status_code < 500, (path, body[:40], answer.text)
        long = "9" * 20
        for query in (f"offset={long}", "id=eq.%00", "%00=eq.1", "select=%ed%a0%80", "order=%00", f"id=eq.{long}", "id=eq.x"):
            answer = await web.get(f"/rest/v1/architect_in?{query}", headers=service)
            assert 400 <= answer.status_code < 500, (query, answer.text)
        for claims in ('"anon", "exp": NaN', '"anon", "exp": Infinity', '["anon"], "exp": 9e9', '"anon", "exp": true'):
            token = jwt.api_jws.encode(f'{{"role": {claims}}}'.encode(), stand_in.keys.jwt_secret, algorithm="HS256")
            odd = {"apikey": stand_in.keys.publishable, "authorization": f"Bearer {token}"}
            answer = await web.get("/rest/v1/architect_in", headers=odd)
            assert answer.status_code == 401, (claims, answer.text)


async def _true(value: bool) -> bool:
    return value


async def test_each_source_is_judged_by_itself(database: Database, db: asyncpg.Connection) -> None:
    """A lost replication slot leaves the broadcasts, and the worker must not say that it receives; and the other way round."""
    faults = Faults.quick()
    states: list[str] = []
    troubles: list[str] = []
    async with stand_in_of(database, faults) as stand_in:
        wake_ups = RealtimeWakeUps(
            stand_in.url, KeyTokens(stand_in.keys.secret), entered=states.append, troubled=troubles.append,
            sources=Sources(owed=1.0), anew=3600,
        )  # fmt: skip
        job = asyncio.create_task(wake_ups.run(lambda _source, _cancel: None))
        try:
            await until(lambda: _true(states[-1:] == ["receiving"]), 15, "receiving")

            async def asked(state: str) -> bool:
                await db.execute("insert into public.architect_in (data) values ($1)", others | {"task_id": str(uuid4())})
                await ask(db)
                return states[-1:] == [state]

            # others' messages have no broadcast, and prove nothing
            others = {"role": "reviewer", "msg_type": "chat", "content": "x", "metadata": {}}
            for _ in range(6):
                assert await asked("receiving")
                await asyncio.sleep(0.4)
            faults.deaf = True
            await until(lambda: asked("broadcasts_only"), 20, "half deaf")
            await until(lambda: _true(troubles == ["deaf"]), 5, "a new session was tried")
            await until(lambda: asked("broadcasts_only"), 20, "and did not help")
            assert troubles == ["deaf"], "it is not tried all the time"
            faults.deaf = False
            await until(lambda: asked("receiving"), 20, "both")
            faults.no_broadcasts = True
            await until(lambda: asked("changes_only"), 20, "half deaf the other way")
            faults.no_broadcasts = False
            await until(lambda: asked("receiving"), 20, "both")
            assert troubles == ["deaf"]
        finally:
            job.cancel()


async def test_a_client_that_leaves_in_the_middle_of_its_request_is_no_defect(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with stand_in_of(database) as stand_in:
        host, port = stand_in.url.removeprefix("http://").split(":")
        key = stand_in.keys.secret
        for _ in range(3):
            _, writer = await asyncio.open_connection(host, int(port))
            head = f"POST /rest/v1/rpc/find_task HTTP/1.1\r\nHost: x\r\napikey: {key}\r\nContent-Profile: atlas\r\nContent-Length: 50\r\n\r\n{{"
            writer.write(head.encode())
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.transport.abort()
        await asyncio.sleep(0.3)
        assert (await httpx.AsyncClient().get(f"{stand_in.url}/rest/v1/task", headers={"apikey": key, "Accept-Profile": "atlas"})).status_code == 200  # fmt: skip
    assert "Exception in ASGI" not in caplog.text
