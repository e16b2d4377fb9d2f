"""What goes, by age and on request: nothing that is open, nothing of the money, and the audit verifies after it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from atlas.database.audit import seal_audit
from atlas.database.audit_file import row_hash
from atlas.database.pool import Pool
from tests.support.core import Database, Workers, ask, atlas_on, claim, ended, reserve, run_atlas, until, used

SECRET = "the launch codes of the Zephyr project"
KEY = "k" * 32


async def finish(db: asyncpg.Connection, question: str, reply: str = "yes", **metadata: object) -> UUID:
    """A task that was answered, with a part of its reply."""
    task = await ask(db, question, **metadata)
    (row,) = await claim(db)
    await reserve(db, row["attempt_id"])
    part = {"attempt_id": str(row["attempt_id"]), "generation": 0, "offset": 0, "text": reply}
    await db.execute("select * from atlas.record_progress($1)", [part])
    await db.execute("select testing.complete_task($1, $2, '{}', $3)", row["attempt_id"], reply, {"0": used(100)})
    return task


async def age(db: asyncpg.Connection, task: UUID, days: int) -> None:
    """As if it had been asked, and had ended, so long ago."""
    await db.execute(
        "update atlas.task set queued_at = queued_at - make_interval(days => $2), finished_at = finished_at - make_interval(days => $2) "
        "where id = $1", task, days,
    )  # fmt: skip


async def trim(db: asyncpg.Connection, limit: int = 200) -> tuple[int, int, int]:
    tasks, texts, parts = await db.fetchrow("select * from atlas.trim_history($1)", limit)
    return tasks, texts, parts


async def left(db: asyncpg.Connection) -> dict[str, int]:
    """Rows of each table that trimming touches."""
    tables = ("atlas.task", "atlas.attempt", "atlas.reply_part", "public.architect_in", "public.architect_out", "atlas.spend")
    return {name.split(".")[1]: await db.fetchval(f"select count(*) from {name}") for name in tables}


async def found(db: asyncpg.Connection, text: str) -> list[str]:
    """The tables of the database in which a text stands, whatever the column."""
    tables = await db.fetch(
        "select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where c.relkind in ('r', 'p') and n.nspname in ('atlas', 'rag', 'public', 'realtime')"
    )
    query = "select exists (select from {} t where position(lower($1) in lower(t::text)) > 0)"
    return [row["name"] for row in tables if await db.fetchval(query.format(row["name"]), text)]


async def test_nothing_goes_by_itself_but_the_parts_of_old_replies(db: asyncpg.Connection) -> None:
    old, new = await finish(db, "old?"), await finish(db, "new?")
    await age(db, old, 400)
    assert await trim(db) == (0, 0, 1)
    assert await trim(db) == (0, 0, 0)
    assert (await left(db))["task"] == 2
    assert await db.fetchval("select array_agg(task_id) from atlas.reply_part") == [new]


async def test_tasks_go_when_they_are_old_and_money_and_audit_stay(db: asyncpg.Connection) -> None:
    old, new = await finish(db, "old?"), await finish(db, "new?")
    await age(db, old, 31)
    before = await db.fetch("select * from atlas.spend_by_sender")
    await db.execute("select atlas.set_retention('30 days')")
    assert (await trim(db))[0] == 1
    assert await left(db) == {"task": 1, "attempt": 1, "reply_part": 1, "architect_in": 1, "architect_out": 2, "spend": 2}
    assert await db.fetchval("select id from atlas.task") == new
    assert await db.fetch("select * from atlas.spend_by_sender") == before
    assert await db.fetchval("select sum(calls) from atlas.spend_by_project") == 2
    events = await db.fetch("select event from atlas.audit where task_id = $1 order by seq", old)
    assert [row["event"] for row in events] == ["submit_task", "reserve_tokens", "complete_task", "trim_task"]
    assert await db.fetch("select * from atlas.verify_audit()") == []
    assert await db.fetch("select * from atlas.check_ledger()") == []


async def test_what_is_open_stays(db: asyncpg.Connection) -> None:
    await db.execute("select atlas.set_retention('1 day')")
    task = await ask(db, "queued?")
    await db.execute("update atlas.task set queued_at = now() - interval '9 days'")
    assert (await trim(db))[0] == 0, "it is queued"
    (row,) = await claim(db)
    call = await reserve(db, row["attempt_id"])
    assert (await trim(db))[0] == 0, "it runs"
    held = {"spend_id": call["spend_id"], "attempt_id": str(row["attempt_id"]), "usage": {"known": "held"}}
    await db.execute("select atlas.record_usage($1)", [held])
    await db.execute("select atlas.fail_task($1, 'refused', 'no', 'final')", row["attempt_id"])
    await age(db, task, 9)
    assert await db.fetchval("select state from atlas.spend") == "held"
    assert (await trim(db))[0] == 0, "nobody knows yet what its call cost"
    await db.execute("select atlas.record_usage($1)", [held | {"usage": used(7)}])
    assert (await trim(db))[0] == 1


async def test_a_reply_that_is_not_sent_yet_stays(db: asyncpg.Connection) -> None:
    await db.execute("insert into atlas.destination (name, kind, target) values ('p', 'pubsub', 'projects/x/topics/y')")
    task = await finish(db, "sent?")
    await age(db, task, 9)
    await db.execute("select atlas.set_retention('1 day', '1 day')")
    assert (await trim(db))[:2] == (0, 0)
    await db.execute("update atlas.outbox set state = 'sent', sent_at = now()")
    assert (await trim(db))[:2] == (1, 0)
    assert await db.fetchval("select count(*) from atlas.outbox where out_id is not null") == 0


async def test_a_command_about_a_task_goes_without_the_tasks_reply(db: asyncpg.Connection) -> None:
    task = await finish(db, "kept?")
    message = {
        "task_id": str(task),
        "role": "architect",
        "msg_type": "control",
        "content": json.dumps({"command": "heartbeat"}),
    }
    await db.execute("insert into public.architect_in (data) values ($1)", message)
    (row,) = await db.fetch("select * from atlas.claim_tasks($1, 0, 1, interval '1 minute')", uuid4())
    await db.execute("select testing.complete_task($1, 'ok', '{\"status\": \"ok\"}')", row["attempt_id"])
    await age(db, await db.fetchval("select id from atlas.task where kind = 'control'"), 9)
    await db.execute("select atlas.set_retention('1 day')")
    assert (await trim(db))[0] == 1
    assert (
        await db.fetchval("select count(*) from public.architect_out where task_id = $1 and data ->> 'content' = 'yes'", task)
        == 1
    )


async def test_batches_are_small_and_one_of_the_fleet_trims(database: Database, db: asyncpg.Connection) -> None:
    for n in range(5):
        await age(db, await finish(db, f"question {n}?"), 9)
    await db.execute("select atlas.set_retention('1 day')")
    assert [(await trim(db, 2))[0] for _ in range(4)] == [2, 2, 1, 0]
    async with database.connect() as other, other.transaction():
        await other.fetch("select * from atlas.trim_history()")
        assert await trim(db) == (0, 0, 0), "another one is at it"


async def test_texts_go_before_their_tasks(db: asyncpg.Connection) -> None:
    task = await finish(db, SECRET, f"About {SECRET}")
    await age(db, task, 31)
    await db.execute("select atlas.set_retention(null, '30 days')")
    assert (await trim(db))[:2] == (0, 1)
    assert await found(db, "zephyr") == []
    assert (await left(db))["task"] == 1
    assert await db.fetch("select * from atlas.verify_audit()") == []
    assert (await trim(db))[:2] == (0, 0)


async def test_a_task_that_is_retried_after_long_is_erased_when_it_ends_again(db: asyncpg.Connection) -> None:
    task = await ask(db, SECRET)
    (row,) = await claim(db)
    await db.execute("select atlas.fail_task($1, 'refused', 'no', 'final')", row["attempt_id"])
    await age(db, task, 40)
    await db.execute("select atlas.retry_task($1)", task)
    await db.execute("select atlas.set_retention(null, '30 days')")
    assert (await trim(db))[1] == 0
    (row,) = await claim(db)
    await reserve(db, row["attempt_id"])
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", row["attempt_id"], {"0": used(1)})
    assert (await trim(db))[1] == 0, "it ended just now"
    await db.execute("update atlas.task set finished_at = finished_at - interval '31 days'")
    assert (await trim(db))[1] == 1
    assert await found(db, "zephyr") == []


@pytest.mark.parametrize("keep", ["1 hour", "-3 days", "0"])
async def test_a_retention_of_less_than_a_day_is_refused(db: asyncpg.Connection, keep: str) -> None:
    with pytest.raises(asyncpg.PostgresError, match="too short"):
        await db.execute(f"select atlas.set_retention('{keep}')")


@pytest.mark.cooks_the_books
async def test_a_task_that_somebody_deleted_is_found(db: asyncpg.Connection) -> None:
    task = await finish(db, "gone?")
    await db.execute("delete from atlas.reply_part; delete from atlas.attempt; delete from atlas.task")
    problems = await db.fetch("select * from atlas.verify_audit()")
    assert [(row["problem"], row["task_id"]) for row in problems] == [("the task is gone, and no trim_task says so", task)]


@pytest.mark.cooks_the_books
async def test_a_text_that_somebody_erased_by_hand_is_found(db: asyncpg.Connection) -> None:
    await finish(db, "gone?")
    await db.execute("update atlas.task set title = '[erased]'")
    await db.execute('update public.architect_out set data = data || \'{"content": "[erased]"}\'')
    assert [row["problem"] for row in await db.fetch("select * from atlas.verify_audit()")] == [
        "the reply is not the one that was completed"
    ]


async def test_a_worker_trims(db: asyncpg.Connection, workers: Workers) -> None:
    for n in range(3):
        await age(db, await finish(db, f"question {n}?"), 9)
    await db.execute("select atlas.set_retention('1 day')")
    worker = await workers.start()
    await until(
        lambda: db.fetchval("select count(*) = 0 from atlas.task where queued_at < now() - interval '1 day'"), 20, "trimmed"
    )
    assert (await ended(db, await ask(db)))["state"] == "completed"
    assert worker.metric('atlas_trimmed_total{what="tasks"}') == 3


# --- on request -----------------------------------------------------------------------------------------------------


async def test_a_senders_texts_are_erased_everywhere(database: Database, db: asyncpg.Connection) -> None:
    await db.execute("insert into atlas.destination (name, kind, target) values ('p', 'pubsub', 'projects/x/topics/y')")
    theirs = [await finish(db, f"{SECRET} {n}?", f"About {SECRET}", sender_key="github:ann", x_note=SECRET) for n in range(3)]
    other = await finish(db, "Of somebody else?", sender_key="github:bob")
    for task in theirs:
        await db.execute(
            "insert into rag.cache (key, epoch, hits, task_id) values (sha256($1), '', '[]', $2)", task.bytes, task
        )
        await db.execute("insert into atlas.rejected_message (source, payload, reason) values ('pubsub', $1, 'x')",
                         {"task_id": str(task), "content": SECRET})  # fmt: skip
    await db.execute(
        "select realtime.send('{}'::jsonb || jsonb_build_object('text', $1::text), 'delta', 'task:' || $2::text, true)",
        SECRET,
        str(theirs[0]),
    )
    await db.execute("update atlas.outbox set last_error = $1 where task_id = any ($2)", SECRET, theirs)
    await db.execute(
        "insert into atlas.outbox (event_id, event_kind, task_id, payload, position, state, sent_at) "
        "values (atlas.new_id(), 'export', $1, jsonb_build_object('text', $2::text), 1, 'sent', now())", theirs[0], SECRET,
    )  # fmt: skip
    await db.execute("update atlas.attempt set late_text = $1 where task_id = $2", SECRET, theirs[0])
    assert set(await found(db, "zephyr")) == {
        "public.architect_in", "public.architect_out", "atlas.reply_part", "atlas.task", "realtime.messages", "atlas.outbox", "atlas.attempt",
        "atlas.rejected_message",
    }  # fmt: skip
    running = await ask(db, "still to come?", sender_key="github:ann")
    forge = {
        "task_id": str(uuid4()),
        "role": "forge",
        "msg_type": "chat",
        "content": SECRET,
        "metadata": {"sender_key": "github:ann"},
    }
    await db.execute("insert into public.architect_in (data) values ($1)", forge)
    said = await atlas_on(database, "erase", "--sender", "key:github:ann", code=2)
    assert "add --yes" in said
    said = await atlas_on(database, "erase", "--sender", "key:github:ann", "--yes", code=4)
    assert "erased what key:github:ann wrote: 4 texts" in said
    assert "1 task of key:github:ann has not ended: cancel it" in said
    assert await found(db, "zephyr") == []
    assert await db.fetchval("select count(*) from rag.cache") == 0
    assert await db.fetchval("select title from atlas.task where id = $1", other) == "Of somebody else?"
    await db.execute("select atlas.cancel_task($1)", running)
    assert "wrote: 1 text" in await atlas_on(database, "erase", "--sender", "key:github:ann", "--yes")
    assert json.loads(await atlas_on(database, "erase", "--sender", "key:github:ann", "--yes", "--json")) == {
        "erased": 0,
        "unfinished": 0,
    }
    assert await db.fetch("select * from atlas.verify_audit()") == []
    assert await db.fetchval("select sum(calls) from atlas.spend_by_sender where sender_key = 'key:github:ann'") == 3


async def test_a_tasks_texts_are_erased(database: Database, db: asyncpg.Connection) -> None:
    task = await finish(db, SECRET)
    assert "erased" in await atlas_on(database, "erase", "--task", str(task), "--yes")
    assert await found(db, "zephyr") == []
    assert "nothing was sent by" in await atlas_on(database, "erase", "--sender", "nobody", "--yes", code=4)
    assert "nothing is named" in await atlas_on(database, "erase", "--yes", code=2)
    assert "both" in await atlas_on(database, "erase", "--task", "last", "--sender", "x", code=2)
    assert "no task" in await atlas_on(database, "erase", "--task", str(uuid4()), "--yes", code=4)
    queued = await ask(db)
    assert "cancel it first" in await atlas_on(database, "erase", "--task", str(queued), "--yes", code=4)


async def test_the_retention_is_shown_and_set(database: Database, db: asyncpg.Connection) -> None:
    assert "kept forever" in await atlas_on(database, "retention")
    assert "kept for 365 days; their texts for 90 days" in await atlas_on(
        database, "retention", "--tasks", "365d", "--texts", "90d"
    )
    assert json.loads(await atlas_on(database, "retention", "--texts", "forever", "--json")) == {
        "tasks_days": 365,
        "texts_days": None,
    }
    assert "not a number of days" in await atlas_on(database, "retention", "--tasks", "1h", code=2)
    assert await db.fetchval("select count(*) from atlas.audit where event = 'set_retention'") == 2


# --- the audit leaves -----------------------------------------------------------------------------------------------


async def exported(database: Database, db: asyncpg.Connection, folder: Path) -> Path:
    for n in range(3):
        await finish(db, f"Ünïcode {n}?")
    async with Pool.connect(database.url("atlas_worker")) as bus:
        await seal_audit(bus, KEY.encode())
    await finish(db, "after the seal?")
    await db.execute("select atlas.pause('a reason | with a bar')")
    file = folder / "audit.jsonl"
    file.write_text(await atlas_on(database, "audit", "export"))
    return file


async def test_an_export_proves_itself_without_a_database(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    file = await exported(database, db, tmp_path)
    nowhere = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    done = await asyncio.to_thread(run_atlas, "audit", "verify", "--file", str(file), env=nowhere | {"ATLAS_AUDIT_KEY": KEY})
    assert (done.returncode, "1 seal made with this key; 4 rows after the last one" in done.stdout) == (0, True), done.stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[0]["rows"] == len([line for line in lines if line.get("kind") == "row"]) == 13
    assert [line["event"] for line in lines if line.get("event") == "pause"] == ["pause"]
    other = await asyncio.to_thread(
        run_atlas, "audit", "verify", "--file", str(file), env=nowhere | {"ATLAS_AUDIT_KEY": "other" * 8}
    )
    assert (other.returncode, "seal 1 was made with another key" in other.stdout) == (7, True)


@pytest.mark.parametrize("harm", ["actor", "removed", "seal", "cut", "not JSON", "another file"])
async def test_an_export_that_was_changed_is_found(
    database: Database, db: asyncpg.Connection, tmp_path: Path, harm: str
) -> None:
    file = await exported(database, db, tmp_path)
    lines = file.read_text().splitlines()
    code, said = 7, {
        "actor": "the hash does not fit", "removed": "the chain is broken", "seal": "does not fit its rows", "cut": "it was cut",
        "not JSON": "line 4 is not of an export", "another file": "not an export",
    }[harm]  # fmt: skip
    if harm == "actor":
        lines[2] = lines[2].replace('"actor": "', '"actor": "x')
    elif harm == "removed":
        del lines[2]
    elif harm == "seal":
        lines[-1] = json.dumps(json.loads(lines[-1]) | {"rows": 1})
    elif harm == "cut":
        lines = lines[:-3]
    elif harm == "not JSON":
        lines[3], code = "{", 2
    else:
        lines, code = ['{"a": 1}'], 2
    file.write_text("\n".join(lines) + "\n")
    assert said in await atlas_on(database, "audit", "verify", "--file", str(file), code=code)


async def test_the_message_of_a_task_is_not_deleted_by_hand(db: asyncpg.Connection) -> None:
    task = await finish(db, "kept?")
    await db.execute("insert into public.architect_in (data) values ($1)",
                     {"task_id": str(uuid4()), "role": "architect", "msg_type": "control", "content": '{"command": "heartbeat"}'})  # fmt: skip
    with pytest.raises(asyncpg.PostgresError, match=f"is that of task {task}"):
        await db.execute("delete from public.architect_in where task_id = $1", task)
    with pytest.raises(asyncpg.PostgresError, match="is that of task"):
        await db.execute("delete from public.architect_in where data ->> 'msg_type' = 'control'")


@pytest.mark.parametrize(
    "call", ["set_retention('1 day')", "trim_tasks(now(), 1000)", "trim_texts(now(), 1000)", "erase_sender('service')"]
)
async def test_a_worker_carries_the_policy_out_and_makes_none(database: Database, db: asyncpg.Connection, call: str) -> None:
    await finish(db, "mine?")
    async with database.connect("atlas_worker") as worker:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await worker.fetch(f"select atlas.{call}")
        assert [tuple(row) for row in await worker.fetch("select * from atlas.trim_history()")] == [(0, 0, 0)]


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "row"}', '{"kind": "seal", "id": 1}', '{"kind": "row", "id": 1, "xact": "x", "task_id": null, "seq": 1, "event": "e", '
        '"actor": "a", "at": "1", "detail": "{}", "prev_hash": null, "hash": "zz"}', '{"kind": "row", "id": "\\u001b[31m"}',
    ],
    ids=["no fields", "no digest", "no numbers", "escapes"],
)  # fmt: skip
async def test_an_export_with_an_odd_line_is_refused_by_its_number(database: Database, tmp_path: Path, line: str) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_text('{"atlas_audit": 1, "upto": "9", "rows": 1, "seals": 0}\n' + line + "\n")
    for words in (("verify", "--file"), ("compare",)):
        said = await atlas_on(database, "audit", *words, str(file), code=2)
        assert "line 2" in said
        assert len(said.strip().splitlines()) == 1
        assert "\x1b" not in said


async def test_an_export_without_its_counts_is_refused(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_text('{"atlas_audit": 1}\n')
    assert "line 1" in await atlas_on(database, "audit", "verify", "--file", str(file), code=2)


async def erase_sender(db: asyncpg.Connection, sender: str) -> int:
    """All that a sender wrote; how many texts that were."""
    erased: int = 0
    after = None
    while True:
        row = await db.fetchrow(
            "select * from atlas.erase_sender($1, coalesce($2::timestamptz, '-infinity'), 2)", sender, after
        )
        erased += row["erased"]
        if row["next"] is None and not row["erased"]:
            return erased
        after = row["next"] or after


async def told(db: asyncpg.Connection, task: UUID, sender_key: str) -> UUID:
    """A command under a task's id, that was carried out."""
    message = {"task_id": str(task), "role": "architect", "msg_type": "control", "content": '{"command": "heartbeat"}',
               "metadata": {"sender_key": sender_key}}  # fmt: skip
    await db.execute("insert into public.architect_in (data) values ($1)", message)
    (row,) = await db.fetch("select * from atlas.claim_tasks($1, 0, 1, interval '1 minute')", uuid4())
    await db.execute("select testing.complete_task($1, 'ok', '{\"status\": \"ok\"}')", row["attempt_id"])
    command: UUID = row["task_id"]
    return command


async def test_erasing_a_command_leaves_the_reply_of_the_question_that_it_names(db: asyncpg.Connection) -> None:
    question = await finish(db, "Of Bob?", "The reply to Bob", sender_key="bob")
    command = await told(db, question, "ops")
    assert await erase_sender(db, "key:ops") == 1
    assert await db.fetchval("select count(*) from public.architect_out where data ->> 'content' = 'The reply to Bob'") == 1
    await age(db, await told(db, question, "ops"), 40)
    await db.execute("select atlas.set_retention(null, '30 days')")
    assert (await trim(db))[1] == 1
    assert await db.fetchval("select count(*) from public.architect_out where data ->> 'content' = 'The reply to Bob'") == 1
    assert await db.fetchval("select title from atlas.task where id = $1", command) == "[erased]"
    assert await db.fetch("select * from atlas.verify_audit()") == []


async def test_what_a_call_cost_is_booked_when_its_task_is_gone(db: asyncpg.Connection) -> None:
    task = await ask(db, "unknown?")
    (row,) = await claim(db)
    call = await reserve(db, row["attempt_id"])
    await db.execute("select testing.complete_task($1, 'x', '{}', '{\"0\": {}}')", row["attempt_id"])
    assert await db.fetchval("select known from atlas.spend") == "unknown"
    await age(db, task, 9)
    await db.execute("select atlas.set_retention('1 day')")
    assert (await trim(db))[0] == 0, "the provider may still tell of its call"
    await db.execute("update atlas.spend set settled_at = now() - interval '8 days'")
    assert (await trim(db))[0] == 1
    item = {"spend_id": call["spend_id"], "attempt_id": str(row["attempt_id"]), "usage": used(100)}
    assert await db.fetchval("select atlas.record_usage($1)", [item]) == 1
    assert await db.fetchval("select sum(tokens) from atlas.spend") == 100
    assert await db.fetch("select * from atlas.check_ledger()") == []


async def test_a_senders_budget_counts_what_trimmed_tasks_cost(db: asyncpg.Connection) -> None:
    for n in range(3):
        task = await finish(db, f"{n}?")
        await age(db, task, 2)
    day = "current_date at time zone 'UTC'"
    await db.execute(f"update atlas.spend set day = ({day})::date - 2; update atlas.budget_day set day = ({day})::date - 2")
    await db.execute("select atlas.set_retention('1 day')")
    assert (await trim(db))[0] == 3
    await db.execute("insert into atlas.budget (scope, monthly) values ('sender:service', 100000)")
    found_days = await db.fetchval("select count(*) from atlas.budget_day where scope = 'sender:service'")
    await db.execute("select atlas.open_day('sender:service', (current_date at time zone 'UTC')::date - 2)")
    assert found_days == 0
    assert await db.fetchval("select settled_tokens from atlas.budget_day where scope = 'sender:service'") == 300
    assert await db.fetch("select * from atlas.check_ledger()") == []


async def test_a_question_that_says_erased_is_erased_like_any_other(db: asyncpg.Connection) -> None:
    for sender in ("ann", "bob"):
        await age(db, await finish(db, f"[erased]\n{SECRET}", SECRET, sender_key=sender), 40)
    assert await erase_sender(db, "key:ann") == 1
    await db.execute("select atlas.set_retention(null, '30 days')")
    assert (await trim(db))[1] == 1
    assert await found(db, "zephyr") == []


async def test_no_field_of_a_message_keeps_a_text(db: asyncpg.Connection) -> None:
    metadata = {
        "sender_key": "ann",
        "sources": [SECRET],
        "warnings": [SECRET],
        "error": {"code": SECRET},
        "x_more": SECRET,
    }
    for role in ("architect", "forge"):
        message = {
            "task_id": str(uuid4()),
            "role": role,
            "msg_type": "chat",
            "content": SECRET,
            "metadata": metadata,
            "attachment": SECRET,
        }
        await db.execute("insert into public.architect_in (data) values ($1)", message)
    message = {"task_id": str(uuid4()), "role": "forge", "msg_type": "chat", "content": SECRET, "metadata": {}}
    await db.execute("insert into public.architect_in (data) values ($1)", message)
    await db.execute("insert into atlas.rejected_message (source, payload, reason) values ('pubsub', $1, 'x')",
                     {"content": SECRET, "metadata": {"sender_key": "ann"}})  # fmt: skip
    (row,) = await claim(db)
    await db.execute("select testing.complete_task($1, 'x')", row["attempt_id"])
    assert await erase_sender(db, "key:ann") == 2
    assert await found(db, "zephyr") == ["public.architect_in"], "that of the service, without a sender's key"
    assert await erase_sender(db, "service") == 1
    assert await found(db, "zephyr") == []
    assert await db.fetch("select * from atlas.verify_audit()") == []


async def test_a_command_that_still_waits_keeps_its_content(db: asyncpg.Connection) -> None:
    message = {"task_id": str(uuid4()), "role": "architect", "msg_type": "control", "content": '{"command": "pause"}',
               "metadata": {"sender_key": "ops"}}  # fmt: skip
    await db.execute("insert into public.architect_in (data) values ($1)", message)
    row = await db.fetchrow("select * from atlas.erase_sender('key:ops')")
    assert row["erased"] == 0
    row = await db.fetchrow("select * from atlas.erase_sender('key:ops', $1)", row["next"])
    assert (row["erased"], row["unfinished"], row["next"]) == (0, 1, None)
    assert await db.fetchval("select data ->> 'content' from public.architect_in") == '{"command": "pause"}'


async def test_parts_go_a_day_after_their_reply_was_complete_whenever_it_was_asked(db: asyncpg.Connection) -> None:
    old, late = await finish(db, "old?"), await finish(db, "late?")
    waiting = await ask(db, "in its time?")
    await age(db, old, 3)
    await db.execute("update atlas.task set queued_at = queued_at - interval '3 days' where id = any ($1)", [late, waiting])
    assert (await trim(db))[2] == 1, "one was asked long ago, and has just been completed; one is still to come"
    assert await db.fetchval("select array_agg(task_id) from atlas.reply_part") == [late]
    assert (await trim(db))[2] == 0
    (row,) = await claim(db)
    part = {"attempt_id": str(row["attempt_id"]), "generation": 0, "offset": 0, "text": "x"}
    await db.execute("select * from atlas.record_progress($1)", [part])
    await db.execute("select testing.complete_task($1, 'x')", row["attempt_id"])
    await db.execute("update atlas.task set finished_at = finished_at - interval '2 days' where id = any ($1)", [late, waiting])
    await db.execute("update atlas.later_trim set due = due - interval '2 days'")
    assert (await trim(db))[2] == 2
    assert await db.fetchval("select count(*) from atlas.reply_part") == 0
    assert await db.fetchval("select count(*) from atlas.later_trim") == 0


async def test_a_reply_that_could_not_be_delivered_stays_until_it_is_skipped(db: asyncpg.Connection) -> None:
    await db.execute("insert into atlas.destination (name, kind, target) values ('p', 'pubsub', 'projects/x/topics/y')")
    question = await finish(db, "sent?")
    await db.execute("update atlas.outbox set state = 'sent', sent_at = now()")
    await told(db, question, "ops")
    await db.execute("update atlas.outbox set state = 'dead' where state = 'pending'")
    await db.execute(
        "update atlas.task set queued_at = queued_at - interval '9 days', finished_at = finished_at - interval '9 days'"
    )
    await db.execute("select atlas.set_retention('1 day', '1 day')")
    assert (await trim(db))[:2] == (0, 0)
    await db.execute("update atlas.outbox set state = 'skipped' where state = 'dead'")
    assert (await trim(db))[0] == 2
    assert await db.fetchval("select count(*) from public.architect_out") == 0


async def test_the_id_of_a_trimmed_task_is_not_given_to_another(db: asyncpg.Connection) -> None:
    task = await finish(db, "once?")
    await age(db, task, 9)
    await db.execute("select atlas.set_retention('1 day')")
    assert (await trim(db))[0] == 1
    message = {"task_id": str(task), "role": "architect", "msg_type": "chat", "content": "again?"}
    with pytest.raises(asyncpg.PostgresError, match=f"task {task} was trimmed"):
        await db.execute("insert into public.architect_in (data) values ($1)", message)
    assert await db.fetch("select * from atlas.verify_audit()") == []


async def test_an_export_with_a_row_twice_or_without_its_seals_is_found(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    file = await exported(database, db, tmp_path)
    head, *rest = [json.loads(line) for line in file.read_text().splitlines()]
    forged = rest[1] | {"task_id": None, "seq": 1, "prev_hash": None, "actor": "mallory"}
    forged["hash"] = row_hash(forged)
    lines = [head | {"rows": head["rows"] + 1}, rest[0], forged, *rest[1:]]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "does not come after row" in await atlas_on(
        database, "audit", "verify", "--file", str(file), code=7, ATLAS_AUDIT_KEY=KEY
    )
    rows = [line for line in rest if line["kind"] == "row"]
    file.write_text("".join(json.dumps(line) + "\n" for line in (head | {"seals": 0}, *rows)))
    assert "the export has no seals" in await atlas_on(
        database, "audit", "verify", "--file", str(file), code=7, ATLAS_AUDIT_KEY=KEY
    )
    assert "0 seals whose key was not checked" in await atlas_on(database, "audit", "verify", "--file", str(file))


async def test_after_a_renewed_key_the_older_one_proves_its_seals(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await finish(db, "before?")
    async with Pool.connect(database.url("atlas_worker")) as bus:
        await seal_audit(bus, KEY.encode())
        await db.execute("select atlas.renew_audit_key()")
        await seal_audit(bus, b"n" * 32)
        await finish(db, "after?")
        await seal_audit(bus, b"n" * 32)
    file = tmp_path / "audit.jsonl"
    file.write_text(await atlas_on(database, "audit", "export"))
    both, new, wrong = f"{'n' * 32}\n{KEY}", "n" * 32, f"{KEY} {'n' * 32}"
    for words in (("verify",), ("verify", "--file", str(file))):
        assert "3 seals" in await atlas_on(database, "audit", *words, ATLAS_AUDIT_KEY=both)
        assert "seal 1 was made with another key" in await atlas_on(database, "audit", *words, code=7, ATLAS_AUDIT_KEY=new)
        assert "made with another key" in await atlas_on(database, "audit", *words, code=7, ATLAS_AUDIT_KEY=wrong), (
            "an older key after a newer one"
        )


async def test_the_audit_of_a_copy_in_a_younger_server_goes_on(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    async with Pool.connect(database.url("atlas_worker")) as bus:
        await finish(db, "before?")
        await seal_audit(bus, KEY.encode())
        await finish(db, "copied, and not sealed?")
        async with database.connect("supabase_admin") as admin:
            # as a copy whose original had counted much further
            await admin.execute("set session_replication_role = replica")
            await admin.execute("update atlas.audit set xact = (xact::text::bigint + 1000000)::text::xid8")
            await admin.execute("update atlas.audit_checkpoint set upto = (upto::text::bigint + 1000000)::text::xid8")
        await finish(db, "here, before anybody noticed?")
        assert await seal_audit(bus, KEY.encode()) == 0
        await finish(db, "and after?")
        sealed = await seal_audit(bus, KEY.encode())
        assert sealed == 10, "three tasks of three rows each, and that the audit goes on"
        assert await db.fetchval("select atlas.continue_audit()") is False
    assert await db.fetch("select * from atlas.verify_audit()") == []
    file = tmp_path / "audit.jsonl"
    file.write_text(await atlas_on(database, "audit", "export"))
    assert json.loads(file.read_text().splitlines()[0])["rows"] == 13
    # the key of a seal covers the numbers that were changed here by hand
    assert "seal 2" not in await atlas_on(database, "audit", "verify", "--file", str(file), code=7, ATLAS_AUDIT_KEY=KEY)
    assert "2 seals" in await atlas_on(database, "audit", "verify", "--file", str(file))


async def test_a_copy_that_was_sealed_to_its_end_goes_on_too(database: Database, db: asyncpg.Connection) -> None:
    async with Pool.connect(database.url("atlas_worker")) as bus:
        await finish(db, "before?")
        await seal_audit(bus, KEY.encode())
        async with database.connect("supabase_admin") as admin:
            await admin.execute("set session_replication_role = replica")
            # as far ahead as a copy may be, and sealed to its end
            await admin.execute("update atlas.audit set xact = (xact::text::bigint + 1000000)::text::xid8")
            await admin.execute("update atlas.audit_checkpoint set upto = (upto::text::bigint + 1000000)::text::xid8")
        for n in range(5):
            await finish(db, f"here, before anybody noticed? {n}")
        assert await seal_audit(bus, KEY.encode()) == 0
        assert await seal_audit(bus, KEY.encode()) == 16
    assert await db.fetch("select * from atlas.verify_audit()") == []


async def test_the_answer_to_a_younger_command_stays_when_its_question_is_trimmed(db: asyncpg.Connection) -> None:
    question = await finish(db, "old?")
    await age(db, question, 9)
    command = await told(db, question, "ops")
    await db.execute("select atlas.set_retention('1 day')")
    assert (await trim(db))[0] == 1
    assert (
        await db.fetchval(
            "select count(*) from public.architect_out o join atlas.task t on t.out_id = o.id where t.id = $1", command
        )
        == 1
    )
    assert await db.fetch("select * from atlas.verify_audit()") == []
    await age(db, command, 9)
    assert (await trim(db))[0] == 1
    assert await db.fetchval("select count(*) from public.architect_out") == 0
