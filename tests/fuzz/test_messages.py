"""Hypothesis on what may be inserted: whatever it is, it is refused by name or works; nothing else comes of it."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import asyncpg
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from atlas.database.pool import Pool
from atlas.database.queue import PostgresQueue
from atlas.errors import RefusedError
from atlas.messages import chat, control
from atlas.metrics.worker import Metrics
from atlas.worker.control import Controller, Server
from tests.support.core import Database, claim
from tests.support.people import ANN, acting

REFUSED = {"AT001", "AT004", "AT005", "AT006", "23505", "22P05", "22P02", "54001", "22021"}
"""Ours; a task id that is taken; a text that Postgres cannot hold; nesting that it will not read."""

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=40)
    | st.sampled_from(["architect", "chat", "spec", "control", "completed", str(uuid4()), "1", "x_y", "2h", "-1", "1e400", "\x00", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
METADATA = st.dictionaries(
    st.sampled_from([
        "tokens", "model", "parent_id", "status", "schema_ver", "chunk", "sources", "usage", "error", "priority", "reply_to", "sender_key",
        "run_after", "completion_window", "kind", "warnings", "traceparent", "project", "truncated", "x_mine", "command", "modle",
    ]),
    VALUES, max_size=4,
)  # fmt: skip
FIELDS = st.dictionaries(
    st.sampled_from(["task_id", "role", "msg_type", "content", "metadata", "more"]), VALUES | METADATA, max_size=4
)
COMMANDS = (
    st.sampled_from(["flush_cache", "heartbeat", "set_budget", "escalate", "cancel", "pause", "resume", "nonsense"]) | VALUES
)
ARGUMENTS = st.dictionaries(
    st.sampled_from(["per_run", "daily", "usd_daily", "monthly", "scope", "task_id", "reason", "code", "message", "enforcement", "when_spent"]), VALUES,
    max_size=4,
)  # fmt: skip
EASY = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


async def insert(connection: asyncpg.Connection, message: Any) -> str | None:
    """The SQLSTATE of what refused it; None where it was taken."""
    try:
        text = json.dumps(message)
        async with connection.transaction():
            await connection.execute("insert into public.architect_in (data) values (($1::text)::jsonb)", text)
    except asyncpg.PostgresError as error:
        return str(error.sqlstate)
    return None


@EASY
@given(changes=FIELDS, metadata=METADATA, user=st.booleans())
@example(changes={}, metadata={}, user=True)
@example(changes={}, metadata={"schema_ver": 1}, user=False)
async def test_a_message_is_taken_or_refused_by_name(
    database: Database, db: asyncpg.Connection, changes: dict[str, Any], metadata: dict[str, Any], user: bool
) -> None:
    message = chat("How?") | {"metadata": metadata} | changes
    if user:
        async with acting(database, "authenticated", ANN) as ann:
            state = await insert(ann, message)
    else:
        state = await insert(db, message)
    assert state is None or state in REFUSED, (state, message)
    assert state is None or changes or metadata, (state, message)
    await db.execute("update atlas.task set state = 'cancelled', finished_at = now() where state = 'queued'")


@EASY
@given(command=COMMANDS, arguments=ARGUMENTS)
@example(command="heartbeat", arguments={})
@example(command="flush_cache", arguments={})
@example(command="set_budget", arguments={"per_run": 8000})
@example(command="cancel", arguments={"task_id": str(uuid4())})
async def test_a_command_is_taken_or_refused_and_a_worker_survives_it(
    database: Database, db: asyncpg.Connection, command: Any, arguments: dict[str, Any]
) -> None:
    try:
        content = json.dumps({"command": command} | arguments)
    except ValueError:
        return
    state = await insert(db, control(content, task_id=uuid4()))
    assert state is None or state in REFUSED, (state, content)
    assert state is None or arguments or command not in ("heartbeat", "flush_cache", "pause", "resume")
    async with Pool.connect(database.url("atlas_worker")) as pool:
        queue = PostgresQueue(pool)
        controller = Controller(queue, Server(version="1", models=("gpt-4.1",), started=0.0), Metrics())
        claimed = await queue.claim_tasks(uuid4(), chats=0, controls=10, lease=60)
        assert len(claimed) == (1 if state is None else 0)
        for task in claimed:
            try:
                completion = await controller.execute(task)
            except RefusedError as error:
                # as a worker does with what SQL refuses: the command fails, and says why
                await queue.fail_task(task.attempt_id, code=error.sqlstate, message=error.line, kind="final")
            else:
                assert await queue.complete_tasks([completion.as_json()]) == {task.attempt_id}
        await queue.resume()
    assert await claim(db, 1) == []
