"""migrate, init."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import asyncpg
import typer

from atlas.commands.common import JsonFlag, dump, runs, settings
from atlas.commands.console import say, tell
from atlas.database import join
from atlas.database import migrate as migrating
from atlas.database.pool import CONNECTION_LOST, SUPAVISOR_PORT
from atlas.errors import DatabaseDown, RefusedError, StackError, UsageError
from atlas.local.address import database_url


@runs
async def migrate(
    include_seed: Annotated[bool, typer.Option("--include-seed", help="Also models and prices (seed/).")] = False,
    worker_password_file: Annotated[
        Path | None, typer.Option(help="Set atlas_worker's password from this file; made if not there.")
    ] = None,
    rag_password_file: Annotated[
        Path | None, typer.Option(help="Set atlas_rag's password from this file; made if not there.")
    ] = None,
    project: Annotated[Path, typer.Option(help="The Supabase project's folder: its own migrations are known.")] = Path(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what is pending.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Apply migrations/ to DATABASE_URL, or to the embedded Postgres."""
    known = settings()
    files = {"atlas_worker": worker_password_file, "atlas_rag": rag_password_file}
    passwords = {role: _password(file, role, make=not dry_run) for role, file in files.items() if file is not None}
    if known.database_url is None:
        from atlas.local.stack import Stack  # imported here: the bare wheel has no embedded Postgres

        stack = Stack(known.home)
        if dry_run and not stack.postgres.running():
            raise StackError("the embedded Postgres is down", "run `atlas up` first; a new one gets all migrations")
        if not dry_run:
            with stack.only_one():
                cluster = stack.start_postgres()
                connection = await asyncpg.connect(cluster.url("supabase_admin"), timeout=10)
                try:
                    await _refuse_strangers(connection, project)
                finally:
                    await connection.close()
                applied = await stack.prepare(cluster)
            say(dump({"applied": applied}) if as_json else f"{applied} migrations applied")
            return
    url = database_url(known, "postgres")
    if urlsplit(url).port == SUPAVISOR_PORT:
        raise UsageError(
            "DATABASE_URL goes through a transaction pooler", "migrate over the session pooler (port 5432) or directly"
        )
    try:
        connection = await asyncpg.connect(url, timeout=10)
    except (*CONNECTION_LOST, TimeoutError, asyncpg.PostgresError) as error:
        raise DatabaseDown(f"Postgres cannot be reached ({error})", "check DATABASE_URL") from error
    try:
        await _refuse_strangers(connection, project)
        if dry_run:
            names = [f"{one.version}_{one.name}" for one in await migrating.pending(connection)]
            say(dump({"pending": names}) if as_json else "\n".join(names) or "nothing is pending")
            return
        if await migrating.provide_supabase(connection):
            tell("plain Postgres: added the roles and functions that Supabase has")
        done = await migrating.migrate(connection)
        if include_seed:
            await migrating.seed(connection)
        for role, password in passwords.items():
            await migrating.set_password(connection, role, password)
    except asyncpg.PostgresError as error:
        raise RefusedError(f"the database refuses it ({error})", "migrate as the owner, such as postgres") from error
    finally:
        await connection.close()
    names = [f"{one.version}_{one.name}" for one in done]
    say(dump({"applied": names}) if as_json else "\n".join([*names, f"{len(names)} migrations applied"]))


async def _refuse_strangers(connection: asyncpg.Connection, project: Path) -> None:
    await migrating.refuse_older(connection)
    strangers = await migrating.unknown_versions(connection, project)
    if strangers:
        raise UsageError(
            f"the history of this database holds migrations that neither Atlas nor {project / 'supabase/migrations'} knows "
            f"({', '.join(strangers[:5])}{', …' if len(strangers) > 5 else ''})",
            "run it in the repository they come from (or name it with --project), after `atlas init` there",
        )


def _password(file: Path, role: str, *, make: bool) -> str:
    """The role's password in the file, which is created with a new one if it does not exist."""
    if make and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(16) + "\n", encoding="utf-8")
        tell(f"made a password for {role}: {file}")
    try:
        password = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read", "name a readable file") from error
    if len(password) < 12:
        raise UsageError(f"{file} holds fewer than 12 characters", "write a longer password into it")
    return password


@runs
async def init(
    project: Annotated[Path, typer.Argument(help="The repository that has supabase/config.toml.")] = Path(),
    as_json: JsonFlag = False,
) -> None:
    """Let Atlas join a Supabase project: copy its migrations and seed, show what config.toml needs. Applies nothing."""
    joined = join.copy(project)
    changes = join.config_changes(project)
    if as_json:
        say(dump({"copied": joined.copied, "unchanged": joined.unchanged, "kept": joined.kept, "config": changes}))
        return
    for name in joined.copied:
        say(f"copied {name}")
    for name in joined.kept:
        say(f"kept {name}: it is yours now, and differs from Atlas's")
    if joined.unchanged:
        say(f"{len(joined.unchanged)} files were there already")
    if changes:
        say(f"\nChange in {project / 'supabase/config.toml'} (nothing was changed there):\n")
        for change in changes:
            say(change)
    say("\nThen apply them, by either tool:")
    say("  supabase db push --include-seed" + (" --include-all" if joined.out_of_order else ""))
    say("  atlas migrate --include-seed")


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (migrate, init):
        app.command()(command)
