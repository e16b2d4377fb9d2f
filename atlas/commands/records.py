"""decisions export, import, check; check: decisions and the repository that they are for."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, cast
from uuid import UUID

import typer

from atlas.commands.common import JsonFlag, dump, face, runs, show_rows
from atlas.commands.console import say, tell
from atlas.errors import UsageError
from atlas.record import agents, files, stale
from atlas.task import JsonObject
from atlas.tasks.port import Tasks

MOST_FILES = 2_000
SHOWN = 5
LARGEST = 1_000_000
"""Bytes of a record, and of a file whose symbols are looked at."""

Checkout = Annotated[Path, typer.Argument(help="The repository's folder.", file_okay=False)]
Records = Annotated[str, typer.Option("--records", help="Where the records are, in the repository.")]
Project = Annotated[str | None, typer.Option("--project", help="A project's name or id; needed where you have several.")]


@runs
async def export(
    folder: Checkout = Path(),
    records: Records = "docs/adr",
    agent_files: Annotated[
        list[str] | None,
        typer.Option("--agents", help="A file for agents; may be repeated. Those that are there, else AGENTS.md."),
    ] = None,
    style: Annotated[
        str | None, typer.Option("--format", help="atlas, madr or nygard: of new files; else as those there.")
    ] = None,
    project: Project = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the decisions into a repository: a file each, and what binds agents into AGENTS.md or CLAUDE.md."""
    _is_folder(folder)
    if style not in (None, "atlas", "madr", "nygard"):
        raise UsageError(f"--format {style} is not known", "use atlas, madr or nygard")
    async with face() as tasks:
        rows, texts = await _decided(tasks, project)
    target = _inside(folder, records)
    present = _records_in(target) if target.is_dir() else {}
    kind = cast("files.Format", style) if style else _style_of(present)
    here = list_files(folder)
    changed: list[str] = []
    for row in rows:
        name, text = files.file_of(row, texts[row["number"]], row["supersedes"], kind)
        _write(_inside(target, name), text, folder, changed)
    holding = [row for row in rows if row["status"] == "accepted" and row["constraints"] and stale.governs(row["paths"], here)]
    named = agent_files or [name for name in ("AGENTS.md", "CLAUDE.md") if (folder / name).is_file()] or ["AGENTS.md"]
    for name in named:
        path = _inside(folder, name)
        _write(path, agents.placed(path.read_text(encoding="utf-8") if path.is_file() else "", holding, name), folder, changed)
    if as_json:
        say(dump({"decisions": len(rows), "changed": changed}))
        return
    for name in changed:
        say(name)
    tell(f"{len(rows)} decisions, {len(changed)} files changed" if changed else f"{len(rows)} decisions, nothing changed")


@runs
async def import_records(
    folder: Checkout = Path(), records: Records = "docs/adr", project: Project = None, as_json: JsonFlag = False
) -> None:
    """Read the records of a repository, Nygard's, MADR's or Atlas's, with their numbers and statuses. All or none."""
    source = _inside(folder, records)
    if not source.is_dir():
        raise UsageError(f"{source} is not a folder", "name it with --records, relative to the repository")
    found = files.read_folder(_records_in(source))
    if not found:
        raise UsageError(f"no records found in {source}", "records are named as 0007-keep-sessions-in-postgres.md")
    async with face() as tasks:
        rows, texts = await _decided(tasks, project)
        known = {row["number"]: row for row in rows}
        fresh = [record for record in found if not _is_ours(record, known, texts, source)]
        said = await tasks.import_decisions(await _project(tasks, project), [record.as_json() for record in fresh])
    total = {"added": said["added"], "unchanged": said["unchanged"] + len(found) - len(fresh)}
    say(dump(total) if as_json else f"{total['added']} imported, {total['unchanged']} unchanged")


@runs
async def check_decisions(folder: Checkout = Path(), project: Project = None, as_json: JsonFlag = False) -> None:
    """See which decisions a repository has outgrown, and which contradict each other; ends with 1 where there are any."""
    _is_folder(folder)
    async with face() as tasks:
        rows, texts = await _decided(tasks, project)
    holding = [row for row in rows if row["status"] == "accepted"]
    here = list_files(folder)
    has = symbols_of(folder, here)
    found = [one for row in holding for one in stale.gone(row, texts[row["number"]], here, has)]
    found += stale.conflicts(holding)
    shown = [
        {"adr": f"ADR-{one.number}" + (f", ADR-{one.other}" if one.other else ""), "kind": one.kind, "text": one.text}
        for one in found
    ]
    show_rows(shown, {"adr": "ADR", "kind": "KIND", "text": "WHAT"}, as_json=as_json,
              empty=f"{len(holding)} decisions hold, and nothing speaks against them")  # fmt: skip
    if found:
        raise typer.Exit(1)


async def outgrown(folder: Path, project: str | None) -> list[str]:
    """What accepted decisions speak of and a repository does not have any more, in a few lines."""
    async with face() as tasks:
        try:
            rows, texts = await _decided(tasks, project)
        except UsageError:
            # of several projects: `atlas decisions check --project` says it
            return []
    holding = [row for row in rows if row["status"] == "accepted"]
    if not holding:
        return []
    here = list_files(folder)
    has = symbols_of(folder, here)
    found = [one for row in holding for one in stale.gone(row, texts[row["number"]], here, has)]
    lines = [f"ADR-{one.number}: {one.text}" for one in found[:SHOWN]]
    return lines + ([f"and {len(found) - SHOWN} more: see `atlas decisions check`"] if len(found) > SHOWN else [])


@runs
async def check(
    folder: Checkout = Path(),
    run: Annotated[bool, typer.Option("--run", help="Run them; without it they are only listed.")] = False,
    seconds: Annotated[int, typer.Option(min=1, help="How long each may take.")] = 600,
    project: Project = None,
    as_json: JsonFlag = False,
) -> None:
    """Verify a checkout by the commands of the decisions that govern it; ends with 1 where one fails.

    The commands were written by a model and accepted by somebody: read them before --run.
    """
    _is_folder(folder)
    async with face() as tasks:
        rows, _ = await _decided(tasks, project, texts=False)
    here = list_files(folder)
    wanted = [
        {"adr": f"ADR-{row['number']}", "command": command, "outcome": "not run"}
        for row in rows
        if row["status"] == "accepted" and stale.governs(row["paths"], here)
        for command in row["checks"]
    ]
    if run:
        for one in wanted:
            tell(f"{one['adr']}: {one['command']}")
            one["outcome"] = _outcome(one["command"], folder, seconds)
    show_rows(wanted, {"adr": "ADR", "command": "COMMAND", "outcome": "OUTCOME"}, as_json=as_json,
              empty="no decision that governs it has a command")  # fmt: skip
    if wanted and not run:
        tell("to run them: atlas check --run")
    if any(one["outcome"] not in ("passed", "not run") for one in wanted):
        raise typer.Exit(1)


def list_files(folder: Path) -> list[str]:
    """The files of a repository as Git sees them, relative to it; else all that are not hidden."""
    listed = subprocess.run(  # noqa: S603  a path
        ["git", "-C", str(folder), "ls-files", "-coz", "--exclude-standard"],  # noqa: S607
        capture_output=True, check=False,
    )  # fmt: skip
    if listed.returncode == 0:
        names = listed.stdout.decode(errors="replace").split("\0")
        return sorted(name for name in names if name and (folder / name).is_file())
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if not any(part.startswith(".") for part in path.parts))


def symbols_of(folder: Path, names: Sequence[str]) -> Callable[[str], bool]:
    """Whether a word stands in the code: texts in prose do not count."""
    words: set[str] = set()
    for name in names:
        path = folder / name
        if path.suffix.lower() not in (".md", ".rst", ".txt") and path.stat().st_size <= LARGEST:
            words.update(re.findall(r"\w+", path.read_text(encoding="utf-8", errors="ignore")))
    return words.__contains__


def _outcome(command: str, folder: Path, seconds: int) -> str:
    try:
        # somebody accepted it, and somebody else asked to run it
        ended = subprocess.run(  # noqa: S603
            ["/bin/sh", "-c", command], cwd=folder, timeout=seconds, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return f"took over {seconds} s"
    return "passed" if ended.returncode == 0 else f"failed ({ended.returncode})"


async def _project(tasks: Tasks, named: str | None) -> UUID:
    return await tasks.project(named or "default")


async def _decided(tasks: Tasks, named: str | None, *, texts: bool = True) -> tuple[list[JsonObject], dict[int, str]]:
    """The decisions of one project by number, and their records."""
    project = await tasks.project(named) if named else None
    rows = await tasks.decisions(project=project)
    if project is None and len(projects := {row["project"] for row in rows}) > 1:
        raise UsageError(f"there are decisions of several projects ({', '.join(sorted(projects))})", "name one with --project")
    rows = [row for row in rows if row["title"] != "[erased]"]
    return rows, {row["number"]: await tasks.record(row["project_id"], row["number"]) for row in rows} if texts else {}


def _is_ours(record: files.FiledRecord, known: dict[int, JsonObject], texts: dict[int, str], source: Path) -> bool:
    """Whether a file is what an export wrote of a decision."""
    row = known.get(record.number)
    if row is None:
        return False
    text = (source / record.file).read_bytes().decode("utf-8")
    kinds: tuple[files.Format, ...] = ("atlas", "madr", "nygard")
    return any(files.file_of(row, texts[record.number], row["supersedes"], kind) == (record.file, text) for kind in kinds)


def _style_of(present: dict[str, str]) -> files.Format:
    styles = [files.format_of(text, name) for name, text in present.items()]
    return max(set(styles), key=styles.count) if styles else "atlas"


def _records_in(folder: Path) -> dict[str, str]:
    names = sorted(path for path in folder.glob("*.md") if re.match(r"\d+[-_ .]", path.name))
    if len(names) > MOST_FILES:
        raise UsageError(f"{folder} holds {len(names)} records", f"at most {MOST_FILES} are read at once")
    found = {}
    for path in names:
        if path.stat().st_size > LARGEST:
            raise UsageError(
                f"{path} is larger than {LARGEST:,} bytes", "a record is a text for people: move it out of the folder"
            )
        try:
            found[path.name] = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is not UTF-8", "save it as UTF-8") from error
    return found


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise UsageError(f"{name} is outside of {folder}", "name a path in the repository")
    return path


def _is_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", "name the repository's folder")


def _write(path: Path, text: str, folder: Path, changed: list[str]) -> None:
    if path.is_symlink():
        raise UsageError(f"{path} is a link", "replace it by a file")
    if path.is_file() and path.read_bytes() == text.encode():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    changed.append(str(path.relative_to(folder.resolve())))


def register(group: typer.Typer, app: typer.Typer) -> None:
    """Adds these commands."""
    group.command()(export)
    group.command(name="import")(import_records)
    group.command(name="check")(check_decisions)
    app.command()(check)
