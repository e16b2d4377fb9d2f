"""An operator's one connection: who gives up a statement takes nobody else's with it."""

from __future__ import annotations

import asyncio
import time

import sqlalchemy as sa

from atlas.database.operator import connect
from tests.support.core import Database


async def test_a_statement_that_is_given_up_ends_before_the_next_one(database: Database) -> None:
    async with connect(database.url()) as operator:
        session = await operator.first(sa.text("select pg_backend_pid()"))
        for _ in range(5):
            given_up = asyncio.create_task(operator.first(sa.text("select pg_sleep(0.2)")))
            await asyncio.sleep(0.05)
            waiting = [asyncio.create_task(operator.call("today")) for _ in range(3)]
            await asyncio.sleep(0)
            given_up.cancel()
            assert len({await one for one in waiting}) == 1
            assert given_up.cancelled()
        assert await operator.first(sa.text("select pg_backend_pid()")) == session, "the connection is the same"


async def test_a_long_statement_holds_nobody_up_who_leaves(database: Database) -> None:
    began = time.monotonic()
    async with connect(database.url()) as operator:
        given_up = asyncio.create_task(operator.first(sa.text("select pg_sleep(60)")))
        await asyncio.sleep(0.1)
        given_up.cancel()
    assert time.monotonic() - began < 10
