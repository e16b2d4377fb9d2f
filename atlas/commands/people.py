"""login, logout, whoami; project create, list, members."""

from __future__ import annotations

import getpass
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from atlas.commands.common import JsonFlag, dump, operator, runs, settings, show_rows
from atlas.commands.console import say
from atlas.database.tasks import PostgresTasks
from atlas.errors import NotFoundError, UsageError
from atlas.settings import Settings
from atlas.tasks.statements import projects


def _project_key(known: Settings) -> str:
    if known.supabase_url is None:
        raise UsageError("SUPABASE_URL is not set", "set it to your project's URL, or to what `atlas up` prints")
    if known.public_key is None:
        raise UsageError("there is no key to log in with", "set SUPABASE_PUBLISHABLE_KEY (or SUPABASE_ANON_KEY)")
    return known.public_key


@runs
async def login(
    email: Annotated[str, typer.Argument(help="Your e-mail address at the Supabase project.")],
    password_file: Annotated[
        Path | None, typer.Option(help="Read the password from a file; `-` is standard input. Without it you are asked.")
    ] = None,
    sign_up: Annotated[bool, typer.Option("--sign-up", help="Create the user first, where the project allows it.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Log in to the project of SUPABASE_URL. The session is kept, readable by you only, until `atlas logout`."""
    from atlas.supabase import tasks as rest

    known = settings()
    client = await rest.open_client(known, _project_key(known))
    credentials = {"email": email, "password": _password(password_file)}
    work = client.auth.sign_up if sign_up else client.auth.sign_in_with_password
    answer = await rest.guarded(work(credentials))  # type: ignore[arg-type]
    if answer.session is None or answer.user is None:
        say(f"a mail was sent to {email}: follow its link, then log in")
        return
    say(dump({"user": answer.user.id, "email": email}) if as_json else f"logged in at {known.supabase_url} as {email}")


def _password(file: Path | None) -> str:
    if file is None:
        if not sys.stdin.isatty():
            raise UsageError("there is no terminal to ask for the password", "use --password-file FILE, or `-`")
        return getpass.getpass("Password: ")
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read", "name a readable file") from error
    if not text.strip():
        raise UsageError(f"{file} holds no password", "write it into the file")
    return text.strip("\r\n")


@runs
async def logout(as_json: JsonFlag = False) -> None:
    """Forget the login of the project of SUPABASE_URL."""
    from atlas.supabase import tasks as rest

    known = settings()
    client = await rest.open_client(known, _project_key(known))
    session = await rest.guarded(client.auth.get_session())
    if session is not None:
        await rest.guarded(client.auth.sign_out())
    say(dump({"logged_out": session is not None}) if as_json else "logged out" if session else "nobody was logged in")


@runs
async def whoami(as_json: JsonFlag = False) -> None:
    """Show who is logged in, until when, and which projects they see."""
    from atlas.supabase import tasks as rest

    known = settings()
    client = await rest.open_client(known, _project_key(known))
    session = await rest.guarded(client.auth.get_session())
    if session is None:
        raise UsageError(f"nobody is logged in at {known.supabase_url}", "log in with `atlas login`")
    projects = await rest.guarded(client.schema("atlas").table("project").select("id,name").order("name").execute())
    ends = datetime.fromtimestamp(session.expires_at or 0, UTC)
    found = {"user": session.user.id, "email": session.user.email, "token_until": ends, "projects": projects.data}
    if as_json:
        say(dump(found))
        return
    say(f"{session.user.email} ({session.user.id}) at {known.supabase_url}, token until {ends:%Y-%m-%d %H:%M:%S} UTC")
    names = ", ".join(row["name"] for row in projects.data if isinstance(row, dict))
    say(f"projects: {names or 'none: your questions go to the default project, and only you see them'}")


project = typer.Typer(help="Projects: whose members read each other's tasks, replies and spend.", no_args_is_help=True)


@project.command("create")
@runs
async def project_create(
    name: Annotated[str, typer.Argument(help="a-z, 0-9, dot, dash, underscore.")], as_json: JsonFlag = False
) -> None:
    """Create a project."""
    async with operator() as reads:
        found = await reads.call("create_project", name)
        if found is None:
            raise UsageError(f"project {name} is there already", "see `atlas project list`")
    say(dump({"id": found, "name": name}) if as_json else f"project {name} is {found}")


@project.command("list")
@runs
async def project_list(as_json: JsonFlag = False) -> None:
    """List projects with the number of their members."""
    async with operator() as reads:
        rows = await reads.rows(projects())
    columns = {"name": "NAME", "members": "MEMBERS", "created_at": "SINCE", "id": "ID"}
    show_rows(
        [row | {"id": str(row["id"]) + " "} if not as_json else row for row in rows],
        columns,
        as_json=as_json,
        empty="no project",
    )


@project.command("members")
@runs
async def project_members(
    name: Annotated[str, typer.Argument(metavar="PROJECT", help="Its name or id.")],
    add: Annotated[list[str] | None, typer.Option("--add", help="Add a user: e-mail address or id.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="Remove a user.")] = None,
    role: Annotated[
        str, typer.Option(help="Of those who are added: member, decider (accepts and rejects), or admin (also budgets).")
    ] = "member",
    as_json: JsonFlag = False,
) -> None:
    """List a project's members, after adding and removing some."""
    if role not in ("member", "decider", "admin"):
        raise UsageError(f"--role {role} is not known", "use member, decider or admin")
    async with operator() as reads:
        found = await PostgresTasks(reads).project(name)
        for who in add or ():
            await reads.call("add_member", found, who, role)
        for who in remove or ():
            if not await reads.call("remove_member", found, who):
                raise NotFoundError(f"{who} is not a member of {name}", f"see `atlas project members {name}`")
        rows = await reads.call_rows("list_members", found)
    columns = {"email": "E-MAIL", "role": "ROLE", "created_at": "SINCE", "user_id": "USER"}
    show_rows(rows, columns, as_json=as_json, empty=f"project {name} has no members: add them with --add")


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (login, logout, whoami):
        app.command()(command)
    app.add_typer(project, name="project")
