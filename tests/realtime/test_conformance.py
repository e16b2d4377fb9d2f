"""The stand-in's Realtime against frames that were recorded from the real server: order, fields, texts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import websockets

from atlas.database import migrate
from atlas.local.postgres import Cluster
from atlas.local.supabase.access import Keys
from atlas.local.supabase.app import StandIn, open_stand_in
from atlas.supabase.keys import mint
from tests.support.core import Json, drop_database, until
from tests.support.faults import Faults
from tests.support.realtime import _plain, connected

RECORDED = Path(__file__).parent / "recorded"
U1, U3 = (UUID(f"{n}1111111-1111-1111-1111-111111111111") for n in (1, 3))

TABLES = """
create table public.architect_in (id uuid primary key default gen_random_uuid(), data jsonb, created_at timestamptz default now());
create table public.upd_full (id int primary key, status text, data jsonb);
alter table public.upd_full replica identity full;
create table public.upd_default (id int primary key, status text, data jsonb);
create table public.rls_in (id uuid primary key default gen_random_uuid(), owner uuid, data jsonb, created_at timestamptz default now());
alter table public.rls_in enable row level security;
create policy own on public.rls_in for select to authenticated using (owner = auth.uid());
create table public.rls_full (id int primary key, owner uuid, status text);
alter table public.rls_full replica identity full;
alter table public.rls_full enable row level security;
create table public.notpub (id int primary key);
grant select on public.architect_in, public.upd_full, public.rls_in, public.rls_full to anon, authenticated, service_role;
grant select on public.upd_default to authenticated;
alter publication supabase_realtime add table public.architect_in, public.upd_full, public.upd_default, public.rls_in, public.rls_full;
create policy read on realtime.messages for select to authenticated using (realtime.topic() like 'priv-ok%' or realtime.topic() = 'priv-ro');
create policy write on realtime.messages for insert to authenticated with check (realtime.topic() like 'priv-ok%');
"""
"""What the recordings were made with."""


@asynccontextmanager
async def scene(cluster: Cluster, faults: Faults | None = None) -> AsyncIterator[tuple[StandIn, asyncpg.Connection]]:
    """A stand-in on a database with the recordings' tables, and an operator's connection to it."""
    name = "conformance"
    admin = await asyncpg.connect(cluster.url("supabase_admin"))
    await drop_database(admin, name)
    await admin.execute(f"create database {name} owner postgres")
    inside = await asyncpg.connect(cluster.url("supabase_admin", name))
    await migrate.provide_supabase(inside)
    await inside.close()
    db = await asyncpg.connect(cluster.url("postgres", name))
    try:
        await db.execute(TABLES)
        fast = faults or Faults.quick()
        async with open_stand_in(cluster.url("postgres", name), Keys.create(), conduct=fast) as stand_in:
            yield stand_in, db
    finally:
        await db.close()
        await drop_database(admin, name)
        await admin.close()


def frames(name: str) -> list[Json]:
    """A recording."""
    return [json.loads(line) for line in (RECORDED / f"{name}.jsonl").read_text().splitlines()]


def received(recording: list[Json]) -> list[Any]:
    return [_plain(_text(frame)) for frame in recording if frame.get("dir") == "recv"]


def _text(frame: Json) -> str | bytes:
    return bytes.fromhex(frame["binary_hex"]) if frame.get("binary_hex") else frame["data"]


SIMPLE = {
    # recording: (SQL after the subscription, and how long to leave it for frames that must not come)
    "01_public_insert_raw_v1": """insert into architect_in (data) values ('{"n": 1, "hello": "world", "u": "żółć €"}')""",
    "01_public_insert_raw_v2": """insert into architect_in (data) values ('{"n": 1, "hello": "world", "u": "żółć €"}')""",
    "02a_filter": "insert into upd_full values (1, 'pending', '{}'), (2, 'ready', '{}')",
    "02b_bad_filter_0": "", "02b_bad_filter_1": "",
    "02d_no_select_grant": "insert into upd_default values (1, 'x', '{}')",
    "03b_rls_full_delete_anon": "insert into rls_full values (1, null, 'x'); delete from rls_full",
    "04c_double_join": "", "06a_heartbeat_v1": "", "06a_heartbeat_v2": "", "04_broadcast_D_not_joined_v1": "",
    "05b_private_refused": "", "06b_join_table_not_in_publication": "", "06c_join_table_missing": "", "06e_join_empty_topic": "",
    "06f_bad_config": "", "06i_refresh_garbage": "", "06i_refresh_null": "", "06m_bad_message_shapes": "", "05g_replication_ready": "",
    "05d_public_sql_send": """select realtime.send('{"id": 9}', 'evt', 'pub-sql', false)""",
    "05e_private_sql_send_v2": """select realtime.send('{"id": 11}', 'job_created', 'priv-ok', true)""",
    "05c_private_readonly_write_denied": "", "06i_refresh_wrongsecret": "", "06i_refresh_expired": "",
}  # fmt: skip


@pytest.mark.parametrize("name", SIMPLE)
async def test_a_recorded_conversation_goes_the_same_way(cluster: Cluster, name: str) -> None:
    recording = frames(name)
    version = "2.0.0" if name.endswith("v2") else "1.0.0"
    expected = received(recording)
    async with scene(cluster) as (stand_in, db), connected(stand_in, version=version) as client:
        if name == "05b_private_refused":
            client.token = mint(stand_in.keys.jwt_secret, {"role": "anon"}, lasts=60)
        refreshes = {
            "06i_refresh_wrongsecret": mint("another secret, of another project", {"role": "anon"}, lasts=60),
            "06i_refresh_expired": mint(stand_in.keys.jwt_secret, {"role": "anon"}, lasts=0, now=time.time() - 10),
        }
        sql_sent = False
        arrived = 0
        for frame in recording:
            if frame["dir"] == "send":
                refreshed = refreshes.get(name)
                if refreshed is not None:
                    await client.send(
                        frame["data"].replace(
                            '"payload": {"access_token": "<jwt>"}', f'"payload": {{"access_token": "{refreshed}"}}'
                        )
                    )
                else:
                    await client.send(frame["data"].replace('{"access_token": "<jwt>"}', "{}"))
            elif frame["dir"] == "recv":
                if (
                    not sql_sent
                    and SIMPLE[name]
                    and (
                        'postgres_changes\\"' in json.dumps(frame["data"])[:90]
                        or frame.get("binary_hex")
                        or '"event":"broadcast"' in (frame["data"] or "")
                    )
                ):
                    await db.execute(SIMPLE[name])
                    sql_sent = True
                arrived += 1
                await client.until(arrived)
        # nothing more than was recorded
        await asyncio.sleep(0.3)
        assert client.plain == expected


async def test_row_level_security_by_the_subscribers_claims(cluster: Cluster) -> None:
    for name, user in (("02c_rls_user1", U1), ("02c_rls_user3_none", U3)):
        async with scene(cluster) as (stand_in, db):
            claims = {"role": "authenticated", "sub": str(user)}
            async with connected(stand_in, claims=claims) as client:
                recording = frames(name)
                await client.send(recording[0]["data"])
                await client.until(2)
                insert = "insert into rls_in (owner, data) values ($1, $2)"
                await db.execute(insert, U1, '{"row": 1}')
                await db.execute(insert, UUID(int=2), '{"row": 2}')
                await asyncio.sleep(0.7)
                await db.execute("delete from rls_in")
                await client.until(len(received(recording)))
                await asyncio.sleep(0.3)
                assert client.plain == received(recording), name


async def test_updates_deletes_and_replica_identities(cluster: Cluster) -> None:
    recording = frames("03_update_delete")
    async with scene(cluster) as (stand_in, db):
        await db.execute("grant select on upd_default to anon")
        await db.execute("insert into upd_full values (1, 'pending', '{}'), (2, 'ready', '{}')")
        await asyncio.sleep(0.7)
        async with connected(stand_in) as client:
            await client.send(recording[0]["data"])
            await client.until(2)
            await db.execute("delete from upd_full")
            for table in ("upd_full", "upd_default"):
                await db.execute(f"""insert into {table} values (10, 'new', '{{"a": 1}}')""")
                await db.execute(f"update {table} set status = 'done'")
                await db.execute(f"update {table} set id = 11")
                await db.execute(f"delete from {table}")
            await db.execute("insert into upd_full values (12, 'a', '{}')")
            await client.until(len(received(recording)))
            assert client.plain == received(recording)


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
async def test_broadcast_to_self_and_others_with_ack(cluster: Cluster, version: str) -> None:
    mine = frames("04_broadcast_A_self_ack_" + ("v1" if version == "1.0.0" else "v2"))
    other = frames("04_broadcast_B_noself_noack_v1")
    async with scene(cluster) as (stand_in, _), connected(stand_in, version=version) as a, connected(stand_in) as b:
        await a.send(mine[0]["data"])
        await b.send(other[0]["data"])
        await a.until(1)
        await b.until(1)
        await a.send(mine[2]["data"])
        await b.until(2)
        await b.send([frame for frame in other if frame["dir"] == "send"][1]["data"])
        await a.until(len(received(mine)))
        await asyncio.sleep(0.2)
        assert a.plain == received(mine)
        assert b.plain == received(other)


async def test_a_private_topic_carries_a_clients_and_the_databases_messages(cluster: Cluster) -> None:
    recording = frames("05a_private_allowed")
    sends = [frame["data"] for frame in recording if frame["dir"] == "send"]
    async with scene(cluster) as (stand_in, db), connected(stand_in) as client:
        await client.send(sends[0])
        await client.until(1)
        await client.send(sends[1])
        await client.until(3)
        await db.execute("""select realtime.send('{"id": 7, "kind": "x"}', 'job_created', 'priv-ok', true)""")
        await client.until(4)
        assert client.plain == received(recording)


async def test_a_table_that_leaves_the_publication_is_silent_until_it_is_back(cluster: Cluster) -> None:
    recording = frames("31_publication_drop_and_add")
    async with scene(cluster) as (stand_in, db), connected(stand_in) as client:
        await client.send(recording[0]["data"])
        await client.until(2)
        insert = "insert into architect_in (data) values (jsonb_build_object('p', $1::int))"
        await db.execute(insert, 0)
        await client.until(3)
        await db.execute("alter publication supabase_realtime drop table public.architect_in")
        await db.execute(insert, 99)
        await asyncio.sleep(0.5)
        await db.execute("alter publication supabase_realtime add table public.architect_in")
        await db.execute(insert, 1)
        await client.until(4)
        assert client.plain == received(recording)[:4]


async def test_replay_of_earlier_broadcasts(cluster: Cluster) -> None:
    recording = frames("05f_private_replay")
    async with scene(cluster) as (stand_in, db), connected(stand_in) as client:
        await db.execute("""select realtime.send('{"id": 7, "kind": "x"}', 'job_created', 'priv-ok', true)""")
        await db.execute("""select realtime.send('{"id": 11}', 'job_created', 'priv-ok', true)""")
        since = await db.fetchval("select (extract(epoch from now() - interval '1 minute') * 1000)::bigint")
        # what is live still when the client joins would come to it without being replayed
        sent = await db.fetchval("select pg_current_wal_insert_lsn()")
        # the stand-in is past them when it is past what follows; a commit here may be flushed later
        await db.execute("select pg_logical_emit_message(true, 'past', ''); set synchronous_commit = on")
        await db.execute("select pg_logical_emit_message(true, 'past', '')")
        passed = "select min(confirmed_flush_lsn) >= $1::pg_lsn from pg_replication_slots where database = current_database()"
        await until(lambda: db.fetchval(passed, sent), 20, "the stand-in has passed it on")
        await asyncio.sleep(0.2)
        await client.send(recording[0]["data"].replace("1795464036763", str(since)))
        await client.until(3)
        assert client.plain == received(recording)


@pytest.mark.parametrize("name", ["06h_token_refresh_then_expiry", "06j_apikey_expires"])
async def test_tokens_expire_and_the_socket_stays(cluster: Cluster, name: str) -> None:
    recording = frames(name)
    async with scene(cluster) as (stand_in, db):
        short = mint(stand_in.keys.jwt_secret, {"role": "anon"}, lasts=2)
        async with connected(stand_in, apikey=short if "apikey" in name else None) as client:
            client.token = mint(stand_in.keys.jwt_secret, {"role": "authenticated", "sub": str(U1)}, lasts=2)
            arrived = 0
            for frame in recording:
                if frame["dir"] == "send":
                    if frame["data"].count("access_token") == 2:
                        client.token = mint(stand_in.keys.jwt_secret, {"role": "authenticated", "sub": str(U1)}, lasts=2)
                    await client.send(frame["data"])
                elif frame["dir"] == "recv":
                    if '"postgres_changes"' in frame["data"][:40]:
                        await db.execute("""insert into architect_in (data) values ('{"after": "refresh"}')""")
                    arrived += 1
                    await client.until(arrived)
            assert client.plain == received(recording)


async def test_refused_joins_name_the_reason(cluster: Cluster) -> None:
    recording = frames("06d_join_bad_token")
    async with scene(cluster) as (stand_in, _), connected(stand_in) as client:
        sends = [frame["data"] for frame in recording if frame["dir"] == "send"]
        await client.send(sends[0])
        await client.send(sends[1], mint("another secret, of another project", {"role": "anon"}, lasts=60))
        await client.send(sends[2], mint(stand_in.keys.jwt_secret, {"role": "anon"}, lasts=0, now=time.time() - 5))
        await client.until(3)
        assert client.plain == received(recording)


async def test_records_over_the_limit_lose_their_big_columns(cluster: Cluster) -> None:
    recording = frames("08_payload_limits")
    cut = next(frame for frame in recording if "Error 413" in (frame["data"] or ""))
    async with scene(cluster) as (stand_in, db), connected(stand_in) as client:
        await client.send(recording[0]["data"])
        await client.until(2)
        await db.execute(
            """insert into architect_in (data) values (jsonb_build_object('kb', 1100, 'blob', repeat('x', 1100 * 1024)))"""
        )
        await client.until(3)
        assert client.plain[2] == _plain(cut["data"])


async def test_connections_are_refused_as_recorded(cluster: Cluster) -> None:
    async with scene(cluster) as (stand_in, _):
        secret = stand_in.keys.jwt_secret
        cases = {
            "no apikey": "", "garbage apikey": "apikey=garbage", "wrong secret": f"apikey={mint('x' * 32, {'role': 'anon'}, lasts=60)}",
            "expired": f"apikey={mint(secret, {'role': 'anon'}, lasts=-60)}", "no role": f"apikey={mint(secret, {}, lasts=60)}",
            "unsupported vsn 3.0.0": f"apikey={stand_in.keys.anon}&vsn=3.0.0",
        }  # fmt: skip
        known = {frame["case"]: frame["result"] for frame in frames("06_handshake_http")}
        for case, query in cases.items():
            with pytest.raises(websockets.InvalidStatus) as caught:
                await websockets.connect(f"{stand_in.url.replace('http', 'ws')}/realtime/v1/websocket?{query}")
            answer = caught.value.response
            assert [str(answer.status_code), (answer.body or b"").decode()] == known[case][:2], case
        for key in (stand_in.keys.publishable, stand_in.keys.secret, stand_in.keys.anon):
            async with websockets.connect(f"{stand_in.url.replace('http', 'ws')}/realtime/v1/websocket?apikey={key}"):
                pass


async def test_a_socket_without_heartbeat_is_closed(cluster: Cluster) -> None:
    async with scene(cluster, Faults(idle_timeout=0.5)) as (stand_in, _), connected(stand_in) as client:
        await client.send(frames("06k_no_heartbeat_idle")[0]["data"])
        await client.send("not json")
        await asyncio.wait_for(client.socket.wait_closed(), 3)
        assert client.socket.close_code == 1000
        assert client.plain == received(frames("06k_no_heartbeat_idle"))


async def test_a_flood_closes_the_receivers_channel(cluster: Cluster) -> None:
    last = received(frames("17_broadcast_flood_receiver"))[-2:]
    async with scene(cluster, Faults(messages_a_second=1)) as (stand_in, _), connected(stand_in) as a, connected(stand_in) as b:
        join = frames("17_broadcast_flood_receiver")[0]["data"]
        for client in (a, b):
            await client.send(join)
            await client.until(1)
        push = '{"topic": "realtime:fl", "event": "broadcast", "payload": {"type": "broadcast", "event": "e", "payload": {"i": 1}}, "ref": "2", "join_ref": "1"}'
        for _ in range(61):
            await a.send(push)
        await b.until(1 + 61 + 2)
        assert b.plain[-2:] == last


async def test_the_python_client_works_unchanged(cluster: Cluster) -> None:
    from realtime import AsyncRealtimeClient, RealtimePostgresChangesListenEvent, RealtimeSubscribeStates

    async with scene(cluster) as (stand_in, db):
        client = AsyncRealtimeClient(f"{stand_in.url}/realtime/v1", token=stand_in.keys.service_role)
        states: list[RealtimeSubscribeStates] = []
        heard: list[Any] = []
        channel = client.channel(
            "room", {"config": {"broadcast": {"ack": True, "self": True}, "presence": None, "private": False}}
        )
        channel.on_postgres_changes(
            RealtimePostgresChangesListenEvent.Insert,
            lambda change: heard.append(("change", (change["data"]["record"] or {})["data"])),
            table="architect_in",
            schema="public",
        )
        channel.on_broadcast("hello", lambda message: heard.append(("broadcast", message["payload"])))
        channel.on_system(lambda message: heard.append(("system", message.message)))
        await channel.subscribe(lambda state, _error: states.append(state))
        await channel.send_broadcast("hello", {"from": "py"})
        for _ in range(100):
            if any(kind == "system" for kind, _ in heard):
                break
            await asyncio.sleep(0.05)
        await db.execute("""insert into architect_in (data) values ('{"py": 1}')""")
        for _ in range(100):
            if len(heard) >= 3:
                break
            await asyncio.sleep(0.05)
        await client.close()
    assert states == [RealtimeSubscribeStates.SUBSCRIBED]
    assert sorted(heard) == [("broadcast", {"from": "py"}), ("change", {"py": 1}), ("system", "Subscribed to PostgreSQL")]
