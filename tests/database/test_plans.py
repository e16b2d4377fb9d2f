"""The plans of hot functions: what they must not be, wherever Postgres compiles plans that look dear."""

from __future__ import annotations

import asyncpg


async def test_a_function_that_forbids_full_scans_is_never_compiled(db: asyncpg.Connection) -> None:
    """A forbidden scan costs 1e10 in a plan, whether it is made or not, and JIT (on by default) compiles what costs 1e5."""
    rows = await db.fetch(
        "select p.oid::regprocedure::text as name, p.proconfig as settings from pg_proc p "
        "where p.pronamespace in ('atlas'::regnamespace, 'rag'::regnamespace) and p.proconfig @> array['enable_seqscan=off']"
    )
    assert len(rows) > 15
    assert [row["name"] for row in rows if "jit=off" not in row["settings"]] == []
