"""What the README and the docs say is true: their commands exist, their SQL runs, their tables are whole."""

from __future__ import annotations

import asyncio
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from atlas.errors import SQLSTATES
from atlas.local.postgres import free_port
from atlas.metrics.worker import Metrics
from tests.support.access import acting, furnish
from tests.support.core import ROOT, Database, Workers, ask, clean_environment, ended, run_atlas
from tests.support.people import ANN

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
        "> **An example for the example team: no model was called.**",
        "--- kill -9 of worker ",
        "status       completed",
        "workers      2; the second took up what the first was writing",
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


SQL = (ROOT / "docs" / "sql.md").read_text()
RECIPES = re.findall(r"```sql\n(.*?)```", SQL, re.DOTALL)


@pytest.mark.cooks_the_books
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: " ".join(recipe.split())[:40])
async def test_a_recipe_runs_and_finds_something(database: Database, db: asyncpg.Connection, recipe: str) -> None:
    tasks = await furnish(database, db)
    await ask(db, "Still queued?")
    if "read_parts" in recipe:
        # the last question is one whose reply was written in parts
        await db.execute("update atlas.task set queued_at = queued_at + interval '1 hour' where id = $1", tasks["user A"])
    await db.execute("insert into auth.users (email) values ('ann@example.com')")
    await db.execute("update atlas.spend set known = 'unknown' where task_id = $1", tasks["user B"])
    if "presumed_none" in recipe:
        await db.execute("update atlas.spend set known = 'presumed_none', tokens = 0 where task_id = $1", tasks["user B"])
    if recipe.startswith(("insert", "alter")):
        # undone: roles belong to the whole cluster
        undone = db.transaction()
        await undone.start()
        await db.execute(recipe)
        assert await db.fetchval(
            "select count(*) from atlas.member m join atlas.project p on p.id = m.project_id where p.name = 'payments'"
        ) == (recipe.startswith("insert"))
        await undone.rollback()
        return
    rows = await db.fetch(recipe)
    assert rows, "it finds nothing among the tests' rows"


async def test_recipes_show_people_their_own(database: Database, db: asyncpg.Connection) -> None:
    await furnish(database, db)
    reading = [recipe for recipe in RECIPES if recipe.startswith("select") and "retry_task" not in recipe]
    assert len(reading) > 12
    async with acting(database, "user A") as ann:
        for recipe in reading:
            await ann.execute(recipe)
        (row,) = await ann.fetch(next(recipe for recipe in RECIPES if "by_sender" in recipe))
        assert row["sender_key"] == str(ANN)


async def test_the_second_path_works_in_its_three_lines(database: Database, workers: Workers, tmp_path: Path) -> None:
    """`supabase start` needs Docker; what follows it runs as it stands, with this Postgres instead of that one."""
    (block,) = re.findall(r"## With Supabase\n\n```bash\n(.*?)```", README, re.DOTALL)
    start, migrate, worker = block.strip().splitlines()
    assert start.startswith("supabase start")
    cluster = database.cluster

    def here(line: str) -> str:
        line = line.replace("postgres:postgres@", f"postgres:{cluster.postgres_password}@").replace(
            ".venv/bin/atlas", f"{sys.executable} -m atlas.cli"
        )
        return line.replace("127.0.0.1:54322/postgres", f"127.0.0.1:{cluster.port}/{database.name}")

    env = clean_environment() | {"PYTHONPATH": str(ROOT), "ATLAS_HTTP_PORT": str(free_port())}

    def run(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", here(line)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=60
        )

    try:
        done = await asyncio.to_thread(run, migrate)
        assert done.returncode == 0, done.stderr
        assert stat.S_IMODE((tmp_path / ".worker_password").stat().st_mode) == 0o600
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", f"exec env {here(worker)}", cwd=tmp_path, env=env, stderr=subprocess.DEVNULL
        )
        try:
            async with database.connect() as db:
                task = await ask(db, "Does it work?")
                assert (await ended(db, task))["state"] == "completed"
        finally:
            process.terminate()
            assert await process.wait() == 0
    finally:
        async with database.connect() as db:
            await db.execute(f"alter role atlas_worker password '{cluster.worker_password}'")


async def test_what_money_md_shows_runs(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "money.md").read_text()
    await db.execute("select atlas.record_model('gpt-4.1', 'ok')")
    statements = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    assert [bool(await db.fetch(statement)) for statement in statements] == [False, True, True], "the books agree"
    env = clean_environment() | {"DATABASE_URL": database.url(), "ATLAS_HOME": str(tmp_path)}
    lines = [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 5
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[1] == "ask" and "--price" not in words:
            words.append("--detach")
        done = await asyncio.to_thread(run_atlas, *words[1:], env=env)
        assert done.returncode == 0, line + done.stderr
    assert await db.fetchval("select data #>> '{metadata,completion_window}' from public.architect_in") == "2h"


def test_every_metric_of_wake_ups_is_explained() -> None:
    text = (ROOT / "docs" / "realtime.md").read_text()
    metrics = Metrics().process.text().decode()
    about = [
        name
        for name in re.findall(r"# HELP (\w+) ", metrics)
        if re.match(r"atlas_(wake|realtime|claims)\w*(?<!_created)$", name)
    ]
    assert len(about) == 6
    assert [name for name in about if name not in text] == []
    for name in re.findall(r"`(atlas_\w+?)[`{]", text):
        assert f"# HELP {name} " in metrics, name
