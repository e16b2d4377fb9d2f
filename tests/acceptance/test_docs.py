"""What the README and the docs say is true: their commands exist, their SQL runs, their tables are whole."""

from __future__ import annotations

import re
import subprocess

import asyncpg

from atlas.errors import SQLSTATES
from tests.support import ROOT, run_atlas

README = (ROOT / "README.md").read_text()


def test_every_command_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"(?:`|bin/)atlas ([a-z]+)", README))
    assert {"up", "index", "ask", "tasks", "down", "migrate", "worker", "schema"} <= named
    for name in named:
        done = run_atlas(name, "--help", env={})
        assert done.returncode == 0, name
    for script in re.findall(r"\./scripts/(\w+)", README):
        subprocess.run(["bash", "-n", ROOT / "scripts" / script], check=True)


async def test_the_readmes_sql_asks_a_question(db: asyncpg.Connection) -> None:
    (statement,) = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
    await db.execute(statement)
    assert await db.fetchval("select title from atlas.task") == "Design a minimal CI pipeline"


def test_the_readme_shows_the_demos_own_output() -> None:
    shown = re.findall(r"```text\n(.*?)```", README, re.DOTALL)[0]
    for line in (
        "[1/5] packages … ",
        "[5/5] knowledge … ",
        "> **No model was called.**",
        "status       completed",
        "Try next:",
    ):
        assert line in shown


def test_every_sqlstate_stands_in_the_table_of_errors() -> None:
    table = (ROOT / "docs" / "errors.md").read_text()
    used = set(re.findall(r"'(AT\d{3})'", "".join(path.read_text() for path in (ROOT / "migrations").glob("*.sql"))))
    assert used == set(SQLSTATES) - {"AT000"}
    assert [state for state in used if f"`{state}`" not in table] == []


def test_no_lock_file_names_an_index() -> None:
    for path in [*ROOT.glob("requirements*.lock"), ROOT / "tests/package-lock.json"]:
        assert not re.search(r"index-url|\"resolved\"", path.read_text()), path
