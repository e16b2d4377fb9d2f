"""What a connection may do, and what it leaves open: for `atlas doctor --production`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

_ROLE = (
    "select rolname as name, rolsuper or rolbypassrls or exists (select from pg_namespace n "
    "where n.nspname in ('atlas', 'rag') and pg_has_role(r.oid, n.nspowner, 'usage')) as powerful "
    "from pg_roles r where rolname = current_user"
)
_OPEN_TABLES = (
    "select format('%s.%s', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace "
    "where c.relkind in ('r', 'p') and not c.relrowsecurity and n.nspname in ('public', 'atlas', 'rag') order by 1"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """powerful: it owns Atlas's schemas, or is above row level security. open_tables: those without row level security.

    webhooks: the addresses of enabled ones, where the role may list them.
    """

    role: str
    powerful: bool
    open_tables: Sequence[str]
    webhooks: Sequence[str]


async def inspect_connection(url: str) -> Inspection:
    """Raises what asyncpg raises."""
    db = await asyncpg.connect(url, timeout=10)
    try:
        role = await db.fetchrow(_ROLE)
        tables = [row["name"] for row in await db.fetch(_OPEN_TABLES)]
        rows = []
        if await db.fetchval("select has_function_privilege('atlas.list_destinations()', 'execute')"):
            rows = await db.fetch("select target from atlas.list_destinations() where kind = 'webhook'")
    finally:
        await db.close()
    return Inspection(
        role=role["name"], powerful=role["powerful"], open_tables=tables, webhooks=[row["target"] for row in rows]
    )
