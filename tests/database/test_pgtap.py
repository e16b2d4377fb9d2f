"""supabase/tests, as `supabase test db` runs them: here against the embedded Postgres, with pgTAP as plain SQL."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from pathlib import Path

import asyncpg
import pytest

from atlas.local.postgres import default_binaries
from tests.support.core import ROOT, Database
from tests.support.debian import debian

FILES = sorted((ROOT / "supabase/tests").glob("*.sql"))


@pytest.fixture(scope="session")
def pgtap() -> str:
    """The SQL of pgTAP."""
    return debian("pgtap", ROOT / "tests/.pgtap").read_text()


async def installed(database: Database, pgtap: str) -> None:
    """pgTAP in the schema extensions, as `supabase test db` puts it there."""
    admin = await asyncpg.connect(database.url("supabase_admin"))
    try:
        await admin.execute("grant usage on schema extensions to anon, authenticated, service_role, atlas_worker")
        await admin.execute("set search_path = extensions; " + re.sub(r"^\\.*$", "", pgtap, flags=re.MULTILINE))
    finally:
        await admin.close()


async def proved(database: Database, text: str) -> tuple[list[str], str]:
    """The lines of TAP, and what psql complained of."""
    done = await asyncio.to_thread(
        subprocess.run,
        [str(default_binaries() / "psql"), "-X", "-q", "-A", "-t", database.url()],
        input=text, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"], "PGOPTIONS": "--client-min-messages=warning"},
    )  # fmt: skip
    return [line for line in done.stdout.splitlines() if line.strip()], done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_each_file_passes(file: Path, database: Database, pgtap: str) -> None:
    await installed(database, pgtap)
    lines, complained = await proved(database, file.read_text())
    plan = re.fullmatch(r"1\.\.(\d+)", lines[0])
    assert plan is not None, [*lines[:3], complained]
    wrong = [line for line in lines if line.startswith(("not ok", "#"))]
    assert (wrong, complained) == ([], "")
    assert sum(line.startswith("ok ") for line in lines) == int(plan[1])


async def test_a_right_too_many_is_seen(database: Database, pgtap: str) -> None:
    await installed(database, pgtap)
    async with database.connect() as db:
        await db.execute("grant insert on atlas.task to authenticated; create table atlas.forgotten (id int)")
    lines, _ = await proved(database, (ROOT / "supabase/tests/privileges.test.sql").read_text())
    assert len([line for line in lines if line.startswith("not ok")]) == 2
