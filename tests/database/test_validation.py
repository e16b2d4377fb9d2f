"""The stand-in of architect_in: each wrong message with its error, and nothing is kept."""

from __future__ import annotations

import hmac
import json
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.core import ROOT, Json, ask, command

GOOD: Json = {"task_id": "6f1f1e0e-0000-4000-8000-000000000001", "role": "architect", "msg_type": "chat", "content": "How?"}


def changed(**values: Any) -> Json:
    return {key: value for key, value in (GOOD | values).items() if value is not ...}


def metadata(**values: Any) -> Json:
    return changed(metadata=values)


def control(body: object, **more: Any) -> Json:
    return changed(msg_type="control", content=body if isinstance(body, str) else json.dumps(body), **more)


WRONG: list[tuple[object, str, str]] = [
    (changed(role="architct"), "role", "is not known"),
    (control({"command": "docs.added", "repository": "https://github.com/o/r.git"}), "role", "docs.added is for the indexer"),
    (changed(role="Architect"), "role", "is not known"),
    (metadata(priorty=3), "metadata.priorty", "is not known"),
    (metadata(team="payments"), "metadata.team", "is not known"),
    (metadata(x_a=10**400), "data", "holds a number that is out of range"),
    (metadata(x_a=[-(10**400)]), "data", "holds a number that is out of range"),
    (metadata(x_a=json.loads("[" * 70 + "]" * 70)), "data", "is nested more than 64 levels deep"),
    ([], "data", "one JSON object"),
    ("text", "data", "one JSON object"),
    (None, "data", "one JSON object"),
    (changed(task_id=...), "task_id", "is missing"),
    (changed(task_id=7), "task_id", "is not a UUID"),
    (changed(task_id="7"), "task_id", "is not a UUID"),
    (changed(role=...), "role", "is missing"),
    (changed(role=""), "role", "is missing"),
    (changed(role=3), "role", "is missing"),
    (changed(msg_type=...), "msg_type", "is missing"),
    (changed(msg_type="question"), "msg_type", "is not known"),
    (changed(msg_type="spec"), "msg_type", "is what Atlas answers"),
    (changed(content=...), "content", "must be a string"),
    (changed(content={"a": 1}), "content", "must be a string"),
    (changed(content=" \n\t"), "content", "is empty"),
    (changed(content="x" * 1_050_000), "data", "larger than 1 MiB"),
    (changed(metadata=[]), "metadata", "must be an object"),
    (metadata(schema_ver=3), "metadata.schema_ver", "is not known"),
    (metadata(parent_id="x"), "metadata.parent_id", "is not a UUID"),
    (metadata(tokens="many"), "metadata.tokens", "must be a number"),
    (metadata(model=4), "metadata.model", "must be a string"),
    (metadata(priority=101), "metadata.priority", "out of range"),
    (metadata(priority=1.5), "metadata.priority", "out of range"),
    (metadata(priority="high"), "metadata.priority", "out of range"),
    (metadata(run_after="soon"), "metadata.run_after", "is not a time"),
    (metadata(run_after=5), "metadata.run_after", "is not a time"),
    (metadata(project="nobody's"), "metadata.project", "none of yours"),
    (control("heartbeat"), "content", "JSON with a"),
    (control("[]"), "content", "JSON with a"),
    (control({"command": 5}), "content", "JSON with a"),
    (control({"command": "reboot"}), "content.command", "is not known"),
    (control({"command": "set_budget"}), "content", "names no budget"),
    (control({"command": "set_budget", "per_run": -1}), "content.per_run", "is not a budget"),
    (control({"command": "set_budget", "daily": "lots"}), "content.daily", "is not a budget"),
    (control({"command": "set_budget", "daily": 1.5}), "content.daily", "is not a budget"),
    (control({"command": "set_budget", "usd_daily": "1"}), "content.usd_daily", "is not a budget"),
    (control({"command": "set_budget", "per_run": 3_000_000_000}), "content.per_run", "is not a budget"),
    (control({"command": "set_budget", "per_run": 1, "scope": "me"}), "content.scope", "is not a scope"),
    (control({"command": "cancel", "task_id": "x"}), "content.task_id", "is not a UUID"),
]


@pytest.mark.parametrize(("message", "field", "problem"), WRONG, ids=[f"{field}-{n}" for n, (_, field, _) in enumerate(WRONG)])
async def test_a_wrong_message_is_refused_with_its_field_and_fix(
    db: asyncpg.Connection, message: object, field: str, problem: str
) -> None:
    with pytest.raises(asyncpg.PostgresError) as caught:
        await db.execute("insert into public.architect_in (data) values ($1)", message)
    assert caught.value.sqlstate in ("AT001", "AT006")
    assert caught.value.message.startswith(f"architect_in: {field} ")
    assert problem in caught.value.message
    assert caught.value.hint
    assert await db.fetchval("select count(*) from public.architect_in") == 0
    assert await db.fetchval("select count(*) from atlas.task") == 0


async def test_a_taken_id_is_refused_without_a_word_on_whose_it_is(db: asyncpg.Connection) -> None:
    await db.execute("insert into public.architect_in (data) values ($1)", GOOD)
    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        await db.execute("insert into public.architect_in (data) values ($1)", GOOD)
    assert caught.value.message == "architect_in: task_id is taken"
    assert caught.value.detail is None
    assert "task_id of your own making" in caught.value.hint
    assert await db.fetchval("select count(*) from atlas.task") == 1


async def test_ids_of_messages_from_outside_are_keyed(db: asyncpg.Connection) -> None:
    first, other = await db.fetchrow("select atlas.derive_id('slack:T1:C1'), atlas.derive_id('slack:T1:C1', 1)")
    assert first != other
    assert first == await db.fetchval("select atlas.derive_id('slack:T1:C1')")
    key = await db.fetchval("select key from atlas.id_key")
    mac = bytearray(hmac.digest(key, b"0:slack:T1:C1", "sha256")[:16])
    mac[6], mac[8] = mac[6] & 15 | 128, mac[8] & 63 | 128
    assert first == UUID(bytes=bytes(mac))
    for role in ("anon", "authenticated", "service_role"):
        async with db.transaction():
            await db.execute(f"set local role {role}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with db.transaction():
                    await db.fetchval("select key from atlas.id_key")


async def test_submit_task_answers_with_the_first_ones_state(db: asyncpg.Connection) -> None:
    first = await db.fetchrow("select * from atlas.submit_task($1)", GOOD)
    again = await db.fetchrow("select * from atlas.submit_task($1)", GOOD)
    assert (first["created"], again["created"], again["state"]) == (True, False, "queued")


async def test_a_message_of_another_role_is_kept_and_not_queued(db: asyncpg.Connection) -> None:
    await db.execute("insert into public.architect_in (data) values ($1)", changed(role="implementer", msg_type="spec"))
    assert await db.fetchval("select count(*) from public.architect_in") == 1
    assert await db.fetchval("select count(*) from atlas.task") == 0


async def test_the_trigger_fills_task_id_and_time_whatever_was_sent(db: asyncpg.Connection) -> None:
    await db.execute("insert into public.architect_in (data, task_id, created_at) values ($1, $2, '2001-01-01')", GOOD, uuid4())
    row = await db.fetchrow("select task_id::text, created_at > now() - interval '1 minute' as fresh from public.architect_in")
    assert dict(row) == {"task_id": GOOD["task_id"], "fresh": True}


async def test_a_later_run_after_waits(db: asyncpg.Connection) -> None:
    task = await ask(db, run_after="2999-01-01T00:00:00Z")
    row = await db.fetchrow("select state, wait_reason from atlas.task where id = $1", task)
    assert dict(row) == {"state": "queued", "wait_reason": "scheduled"}


async def test_one_broadcast_a_statement_however_many_rows(db: asyncpg.Connection) -> None:
    await db.execute(
        "insert into public.architect_in (data) select jsonb_set($1, '{task_id}', to_jsonb(gen_random_uuid()::text)) "
        "from generate_series(1, 50)",
        GOOD,
    )
    rows = await db.fetch("select topic, event, payload - 'id' as payload, private from realtime.messages")
    assert [dict(row) for row in rows] == [
        {"topic": "atlas:wake", "event": "task_queued", "payload": {"queued": 50}, "private": True}
    ]


async def test_notify_goes_out_only_while_a_worker_is_idle(db: asyncpg.Connection, database: Any) -> None:
    heard: list[str] = []
    worker = uuid4()
    await db.execute("select atlas.register_worker($1, 'w', '1', 1)", worker)
    async with database.connect() as listener:
        await listener.add_listener("atlas_wake", lambda *_args: heard.append("woken"))
        await ask(db)
        await listener.fetchval("select 1")
        assert heard == []
        await db.execute("select atlas.mark_worker($1, 'idle')", worker)
        await ask(db)
        await listener.fetchval("select 1")
        assert heard == ["woken"]


async def test_each_example_file_is_accepted_or_is_what_atlas_answers(db: asyncpg.Connection) -> None:
    files = sorted((ROOT / "docs" / "event_examples").glob("*.json"))
    assert len(files) >= 9
    for file in files:
        message = json.loads(file.read_text())
        if file.name.startswith("out."):
            continue
        await db.execute("insert into public.architect_in (data) values ($1)", message)
    kinds = await db.fetch("select distinct title from atlas.task where kind = 'control'")
    assert {row["title"] for row in kinds} == {
        "cancel", "escalate", "flush_cache", "heartbeat", "pause", "resume", "set_budget",
    }  # fmt: skip


async def test_a_control_message_may_carry_its_command_in_metadata(db: asyncpg.Connection) -> None:
    await db.execute(
        "insert into public.architect_in (data) values ($1)", control("", metadata={"command": "set_budget", "per_run": 9})
    )
    assert await db.fetchval("select title from atlas.task") == "set_budget"


async def test_control_messages_may_name_the_same_task_again(db: asyncpg.Connection) -> None:
    task = await ask(db)
    await command(db, {"command": "cancel"}, task)
    await command(db, {"command": "cancel"}, task)
    assert await db.fetchval("select count(*) from atlas.task where message_task_id = $1", task) == 3


async def test_a_typo_is_told_from_a_name_of_ones_own(db: asyncpg.Connection) -> None:
    for message, hint in (
        (changed(role="architct"), 'did you mean "architect"?'),
        (metadata(priorty=3), "did you mean priority? names of your own begin with x_"),
        (metadata(runafter="x"), "did you mean run_after? names of your own begin with x_"),
        (metadata(team="payments"), "names of your own begin with x_"),
    ):
        with pytest.raises(asyncpg.PostgresError) as caught:
            await db.execute("insert into public.architect_in (data) values ($1)", message)
        assert caught.value.hint == hint
    await db.execute("insert into public.architect_in (data) values ($1)", metadata(x_team="payments"))
    await db.execute("insert into public.architect_in (data) values ($1)", changed(role="reviewer"))
