"""Rows of two users, and connections as each role."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg

from atlas.messages import chat
from tests.support.core import Database, claim, reserve, used
from tests.support.people import ANN, BOB

WHO: dict[str, tuple[str, UUID | None]] = {
    "anon": ("anon", None), "user A": ("authenticated", ANN), "user B": ("authenticated", BOB), "service_role": ("service_role", None),
    "worker": ("atlas_worker", None),
}  # fmt: skip


@asynccontextmanager
async def acting(database: Database, who: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as PostgREST makes it, or the worker's own."""
    role, user = WHO[who]
    async with database.connect("atlas_worker" if who == "worker" else "postgres") as connection:
        if who != "worker":
            claims = {"role": role} | ({"sub": str(user)} if user else {})
            await connection.execute("select set_config('request.jwt.claims', $1, false)", json.dumps(claims))
            await connection.execute(f"set role {role}")
        yield connection


async def furnish(database: Database, db: asyncpg.Connection) -> dict[str, UUID]:
    """Rows of A, of B and of nobody in particular, in every table that people may look at. Answers a task of each."""
    tasks = {}
    for who, user in (("user A", ANN), ("user B", BOB)):
        project = await db.fetchval("insert into atlas.project (name) values ($1) returning id", f"team-{who[-1].lower()}")
        await db.execute("insert into atlas.member (project_id, user_id) values ($1, $2)", project, user)
        await db.execute("insert into atlas.identity (provider, external_id, user_id) values ('github', $1, $2)", who, user)
        await db.execute(
            "insert into rag.document (project_id, source, title, kind, content_sha256) values ($1, $2, 't', 'text', '\\x00')",
            project,
            who,
        )
        for scope in (f"sender:{user}", f"project:{project}"):
            await db.execute("select atlas.set_budget($1, '{\"daily\": 100000}')", scope)
        async with acting(database, who) as connection:
            message = chat(f"a question of {who}")
            await connection.execute("insert into public.architect_in (data) values ($1)", message)
            tasks[who] = UUID(message["task_id"])
            await connection.execute("select atlas.watch_task($1, gen_random_uuid())", tasks[who])
        (row,) = await claim(db)
        attempt = row["attempt_id"]
        await reserve(db, attempt)
        item = {"attempt_id": str(attempt), "call": 0, "generation": 0, "response_id": "r", "resumable": True, "sequence_number": 1,
                "offset": 0, "text": "part", "model": "gpt-4.1"}  # fmt: skip
        await db.fetch("select * from atlas.record_progress($1)", [item])
        await db.fetchval(
            "select testing.complete_task($1, 'done', '{}', $2)", attempt, {"0": used(10 if who == "user A" else 20)}
        )
        async with acting(database, who) as connection:
            await connection.execute("insert into public.architect_in (data) values ($1)", chat("a question without an answer"))
        await db.execute("update atlas.task set max_attempts = 1 where state = 'queued'")
        (row,) = await claim(db)
        await db.fetchval("select atlas.fail_task($1, 'internal', 'it broke')", row["attempt_id"])
    await db.execute("select atlas.register_worker(gen_random_uuid(), 'w', '1', 1)")
    await db.execute("select atlas.record_model('gpt-4.1', 'failed', 'x')")
    return tasks
