"""The matrix of access: every table, view, function and topic against everybody, tried out and written down in docs/access.md.

An object that is not in the file, or a cell that differs, fails: `ATLAS_WRITE_SNAPSHOT=1` writes it anew, and the diff is read.
"""

from __future__ import annotations

import os
from uuid import UUID

import asyncpg
import pytest

from atlas.local.supabase.changes import Visibility
from tests.support.access import WHO, acting, furnish
from tests.support.advisors import DEFINER
from tests.support.core import ROOT, Database

MATRIX = ROOT / "docs/access.md"

RELATIONS = (
    "select c.oid::regclass::text as name, c.oid from pg_class c where c.relkind in ('r', 'v', 'm', 'p') "
    "and (c.relnamespace in ('atlas'::regnamespace, 'rag'::regnamespace) or (c.relnamespace = 'public'::regnamespace)) order by 1"
)
FUNCTIONS = (
    "select p.oid::regprocedure::text as name, p.oid, p.prorettype = 'trigger'::regtype as is_trigger from pg_proc p "
    "where p.pronamespace in ('atlas'::regnamespace, 'rag'::regnamespace, 'public'::regnamespace) order by 1"
)


async def relation_cell(
    database: Database, db: asyncpg.Connection, name: str, oid: int, seen: dict[str, set[str] | None]
) -> dict[str, str]:
    """Of one table or view: what each may do, and which rows they see."""
    everything = {row[0] for row in await db.fetch(f"select t::text from {name} t")}
    for who in WHO:
        async with acting(database, who) as connection:
            try:
                seen[who] = {row[0] for row in await connection.fetch(f"select t::text from {name} t")}
            except asyncpg.InsufficientPrivilegeError:
                seen[who] = None
    cells = {}
    for who, (role, _) in WHO.items():
        rows = seen[who]
        if rows is None:
            read = ""
        elif not everything:
            read = "reads (empty)"
        elif rows == everything and (not who.startswith("user") or (len(everything) > 1 and seen["user A"] == seen["user B"])):
            read = "reads all"
        elif not rows:
            read = "reads none"
        else:
            other = seen["user B" if who == "user A" else "user A"] or set()
            read = "reads own" if not rows & other else "reads own and shared"
        writes = await db.fetch(
            "select v from unnest(array['insert', 'update', 'delete', 'truncate']) v where has_table_privilege($1::name, $2::oid, v) "
            "or (v in ('insert', 'update') and has_any_column_privilege($1::name, $2::oid, v))",
            role, oid,
        )  # fmt: skip
        words = [read, *(f"{row['v']}s" for row in writes)]
        usable = await db.fetchval(
            "select has_schema_privilege($1::name, relnamespace, 'usage') from pg_class where oid = $2", role, oid
        )
        cells[who] = ", ".join(word for word in words if word) if usable else ""
    return cells


async def matrix(database: Database, db: asyncpg.Connection) -> str:
    """The whole of it, in Markdown."""
    tasks = await furnish(database, db)
    lines = [
        "# Who may do what", "",
        "Made by `tests/database/test_access.py`: reads are tried, rights to write and to call are asked of the catalog. It fails where",
        "anything differs. An empty cell: refused.", "",
        "A and B are users with a task and a project of their own. The worker is the role `atlas_worker`: it calls functions, and",
        "touches no table.", "",
    ]  # fmt: skip

    def table(title: str, rows: list[tuple[str, dict[str, str]]]) -> None:
        lines.extend([f"## {title}", "", "| | " + " | ".join(WHO) + " |", "| --- |" + " --- |" * len(WHO)])
        lines.extend(f"| `{name}` | " + " | ".join(cells[who] for who in WHO) + " |" for name, cells in rows)
        lines.append("")

    relations = await db.fetch(RELATIONS)
    table("Tables and views", [(r["name"], await relation_cell(database, db, r["name"], r["oid"], {})) for r in relations])
    functions = []
    for row in await db.fetch(FUNCTIONS):
        cells = {}
        for who, (role, _) in WHO.items():
            may = await db.fetchval(
                "select has_function_privilege($1::name, $2::oid, 'execute') and has_schema_privilege($1::name, "
                "(select pronamespace from pg_proc where oid = $2), 'usage')", role, row["oid"],
            )  # fmt: skip
            cells[who] = "calls" if may else ""
        functions.append((row["name"], cells))
    table("Functions", functions)
    async with asyncpg.create_pool(database.url(), min_size=1, max_size=2) as pool:
        stand_in = Visibility(pool)
        topics = []
        for name, topic in {
            "task:<A's task>": f"task:{tasks['user A']}", "task:<B's task>": f"task:{tasks['user B']}", "task:<no task>": f"task:{UUID(int=7)}",
            "task:x": "task:x", "atlas:wake": "atlas:wake", "anything else": "other",
        }.items():  # fmt: skip
            cells = {}
            for who, (role, user) in WHO.items():
                claims = {"role": role} | ({"sub": str(user)} if user else {})
                # Realtime never becomes a worker: its role is none of the API's
                words = [] if who == "worker" else [
                    word for word, may in (("hears", stand_in.may_read), ("sends", stand_in.may_write)) if await may(topic, claims)
                ]  # fmt: skip
                cells[who] = ", ".join(words)
            topics.append((name, cells))
    table("Private topics of Realtime", topics)
    lines.extend([
        "## Definer functions that people may call", "",
        "They run as their owner, past row level security (rule 0029 of Supabase's advisors). `anon` may call none (0028).", "",
        "| function | why it is safe |", "| --- | --- |", *(f"| `{name}` | {why} |" for name, why in DEFINER.items()), "",
    ])  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


@pytest.fixture
async def made(database: Database, db: asyncpg.Connection) -> str:
    return await matrix(database, db)


def rows_of(text: str) -> dict[str, dict[str, str]]:
    """The cells of a matrix, by object."""
    found = {}
    for line in text.splitlines():
        if line.startswith("| `") and line.count("|") == len(WHO) + 2:
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            found[name.strip("`")] = dict(zip(WHO, cells, strict=True))
    return found


async def test_the_matrix_is_as_written_down(made: str) -> None:
    if os.environ.get("ATLAS_WRITE_SNAPSHOT"):
        MATRIX.write_text(made)
    written, found = rows_of(MATRIX.read_text()), rows_of(made)
    assert sorted(found.keys() - written.keys()) == [], "objects without a row in docs/access.md: say who may use them"
    assert sorted(written.keys() - found.keys()) == [], "rows of objects that are gone"
    assert {name: cells for name, cells in found.items() if cells != written[name]} == {}


async def test_what_must_hold_whatever_is_written_down(made: str) -> None:
    found = rows_of(made)
    assert len(found) > 90
    for name, cells in found.items():
        assert cells["anon"] == "", name
        assert not any(
            word in cells[user] for user in ("user A", "user B") for word in ("updates", "deletes", "truncates", "sends")
        ), name
        if name != "architect_in":
            assert not any("inserts" in cells[user] for user in ("user A", "user B")), name
        if "(" not in name:
            assert cells["worker"] == "", f"the worker calls functions, and touches no table: {name}"
        assert cells["user A"] == cells["user B"] or name.startswith("task:<"), name
    private = (
        "architect_in",
        "architect_out",
        "atlas.task",
        "atlas.spend",
        "atlas.reply_part",
        "atlas.attempt",
        "atlas.task_history",
    )
    assert {found[name]["user A"].replace(", inserts", "") for name in private} == {"reads own"}
    assert found["task:<A's task>"] | {} == {
        "anon": "",
        "user A": "hears",
        "user B": "",
        "service_role": "hears, sends",
        "worker": "",
    }
    assert found["task:<B's task>"]["user A"] == ""
    assert found["atlas:wake"]["user A"] == ""


async def test_a_new_object_without_a_row_fails(database: Database, db: asyncpg.Connection) -> None:
    await db.execute("create table atlas.forgotten (id int primary key)")
    await db.execute("create function public.leak() returns int language sql as 'select 1'")
    found = rows_of(await matrix(database, db))
    assert found.keys() - rows_of(MATRIX.read_text()).keys() == {"atlas.forgotten", "leak()"}
