"""Ids are UUIDv7, here, in Postgres and in the edge functions."""

from __future__ import annotations

import time
from uuid import UUID

import asyncpg

from atlas.ids import new_id, short_id
from tests.support.core import ROOT
from tests.support.router import deno


def test_an_id_is_a_uuidv7_of_its_moment() -> None:
    # the example of RFC 9562, appendix A.6
    assert new_id(0x017F22E279B0, bytes.fromhex("0cc398c4dc0c0c07398f")) == UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
    before = time.time_ns() // 1_000_000
    made = new_id()
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000
    assert len({new_id() for _ in range(1000)}) == 1000


def test_what_people_call_a_task_tells_tasks_of_two_milliseconds_apart() -> None:
    assert short_id(new_id(1_800_000_000_000)) != short_id(new_id(1_800_000_000_001))
    assert len({short_id(new_id(1_800_000_000_000)) for _ in range(20)}) > 15, "and most of one"


async def test_postgres_makes_the_same_kind(db: asyncpg.Connection) -> None:
    made = await db.fetchval("select atlas.new_id()")
    assert UUID(str(made)).version == 7
    assert abs((made.int >> 80) - time.time() * 1000) < 60_000


def test_an_edge_function_makes_the_same_kind() -> None:
    bytes_ = ", ".join(str(byte) for byte in bytes.fromhex("0cc398c4dc0c0c07398f"))
    script = (
        f'import {{ newId }} from "{ROOT}/functions/_shared/message.ts";'
        f"console.log(newId(0x017f22e279b0, new Uint8Array([{bytes_}])));"
        "console.log(newId());"
    )
    done = deno("eval", script)
    assert done.returncode == 0, done.stderr
    fixed, now = done.stdout.split()
    assert fixed == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
    assert UUID(now).version == 7
