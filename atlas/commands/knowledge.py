"""index: what the team knows, added, listed and removed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer.core import TyperGroup

from atlas.commands.common import JsonFlag, agreed, counted, dump, runs, settings, show_rows
from atlas.commands.console import complain, say, tell
from atlas.commands.records import outgrown
from atlas.commands.search import opened_for_caller, project_id
from atlas.errors import AtlasError, NotFoundError, UsageError
from atlas.llm.tokens import Vocabularies
from atlas.rag.files import File, find_files
from atlas.rag.index import Report
from atlas.rag.naming import Naming
from atlas.rag.repository import cloned, is_git_url, latest
from atlas.rag.wiring import Knowledge
from atlas.text import visible

if TYPE_CHECKING:
    from atlas.rag.people import PeopleKnowledge

_SHOWN = 20
"""Lines of what was skipped; the rest are counted."""


class _Index(TyperGroup):
    """`atlas index PATH` means `atlas index add PATH`: a first word that is not a subcommand is a path."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = ["add", *args]
        return super().parse_args(ctx, args)


index = typer.Typer(cls=_Index, no_args_is_help=True, help="Index what the team knows: files, folders and Git repositories.")

ProjectOption = Annotated[
    str | None, typer.Option(help="The project they belong to (id or name); without it, everybody shares them.")
]


@index.command()
@runs
async def add(
    paths: Annotated[list[str], typer.Argument(help="Files, folders, or the URL of a Git repository.")],
    project: ProjectOption = None,
    ref: Annotated[str | None, typer.Option(help="The branch or commit of a repository.")] = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Drop documents whose files are gone, without asking. Otherwise Atlas asks; without a terminal they stay.",
        ),
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and index what changes, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between looks at a repository that is watched.")] = 60,
    as_json: JsonFlag = False,
) -> None:
    """Index files, folders or Git repositories; `add` may be left out. An unchanged file costs nothing.

    Markdown, reStructuredText, code, HTML, PDF, notebooks. Sources are named by their
    repository (its remote, else the folder) and the path in it.
    """
    urls = [path for path in paths if is_git_url(path)]
    folders = [Path(path) for path in paths if not is_git_url(path)]
    if ref is not None and not urls:
        raise UsageError("--ref is of a repository", "name its URL")
    asked = Pruning.ALWAYS if prune else Pruning.ASK
    async with opened_for_caller(settings()) as known:
        kept: list[str] = []
        if folders:
            report = await index_paths(known, folders, project=project, pruning=asked)
            kept = report.stale
            _show(report, as_json=as_json)
            for folder in folders if not as_json else ():
                if (folder / ".git").exists():
                    for line in await outgrown(folder, project):
                        complain(line)
        commits = {url: await _index_url(known, url, ref, project=project, pruning=asked, as_json=as_json) for url in urls}
        if watch:
            async with asyncio.TaskGroup() as group:
                if folders:
                    group.create_task(_watch(known, folders, kept, project=project, as_json=as_json))
                for url, commit in commits.items():
                    group.create_task(_watch_url(known, url, ref, commit, every, project=project, as_json=as_json))


@index.command("list")
@runs
async def list_(as_json: JsonFlag = False) -> None:
    """List what is indexed, by repository."""
    async with opened_for_caller(settings()) as known:
        rows = await known.store.list_repositories()
    for row in rows:
        row["project"] = row["project"] or EVERYBODY
        row["repository"] = row["repository"] or "(sent one by one)"
        row["commit"] = row["commit"] and row["commit"][:12]
    heads = {"project": "PROJECT", "repository": "REPOSITORY", "documents": "DOCUMENTS", "chunks": "CHUNKS",
             "indexed_at": "INDEXED", "commit": "COMMIT"}  # fmt: skip
    show_rows(
        rows, heads, as_json=as_json, empty="nothing is indexed: `atlas index PATH` adds documents",
        right=("documents", "chunks"), rank=("repository", "documents", "project", "indexed_at", "chunks", "commit"),
    )  # fmt: skip


@index.command()
@runs
async def remove(
    name: Annotated[str, typer.Argument(help="A repository, as `atlas index list` shows it, or a file or folder of one.")],
    project: ProjectOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a repository, a folder or a file from the index."""
    async with opened_for_caller(settings()) as known:
        whose = await project_id(known, project)
        found: list[str] = []
        if not name.strip():
            raise UsageError("the name is empty", "`atlas index list` shows names and projects")
        for one in dict.fromkeys((name.rstrip("/") or name, Naming().source(Path(name)))):
            found = await known.store.stale_documents(whose, [one], [])
            if found:
                break
        else:
            of = f"in project {project}" if project else "among shared documents"
            raise NotFoundError(f"nothing is indexed under {name!r} {of}", "`atlas index list` shows names and projects")
        if not yes and not agreed(f"Remove {counted(len(found), 'document')} of {one} from the index?"):
            raise UsageError(f"nothing was removed: {counted(len(found), 'document')} of {one}", "add --yes")
        say(f"removed {counted(await known.store.forget_repository(whose, one), 'document')} of {one}")


EVERYBODY = "(everybody)"


class Pruning(Enum):
    """What becomes of documents whose files are gone."""

    ALWAYS = "dropped"
    ASK = "dropped where somebody at a terminal agrees"


async def index_paths(
    known: Knowledge | PeopleKnowledge,
    paths: list[Path],
    *,
    project: str | None,
    pruning: Pruning,
    named: str | None = None,
    commit: str | None = None,
    kept: Sequence[str] = (),
) -> Report:
    """Indexes paths, with a progress bar on a terminal; builds the configured embedding index if it does not serve yet."""
    found = find_files(paths, named=named)
    files = found.files
    indexer = await known.indexer(await project_id(known, project), Vocabularies().counter("o200k_base"))
    vectors = await known.vectors()
    price = vectors.index.usd_per_million if vectors is not None else 0
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        shown = bar.add_task("indexing", total=len(files), facts="")

        def advance(file: File) -> None:
            bar.update(shown, advance=1, description=visible(file.source[-40:]), facts=_facts(indexer.report, price))

        report = await indexer.files(files, under=found.under, commit=commit, advance=advance)
        report.skipped += found.skipped
        if vectors is not None and (vectors.index.state == "building" or await vectors.has_gaps()):
            missing = await vectors.count_missing()
            building = bar.add_task(f"vectors of {vectors.index.model}", total=missing, facts="")

            def embedded(texts: int, tokens: int) -> None:
                report.embedded += tokens
                bar.update(building, advance=texts, facts=_facts(report, price))

            if not await vectors.build(uuid4(), embedded):
                complain("another process builds the vectors now: until they are complete the old ones serve")
    report.stale = [
        source for source in report.stale
        if source not in kept and not any(source.startswith(f"{folder}/") for folder in found.unread)
    ]  # fmt: skip
    if report.stale and (pruning is Pruning.ALWAYS or _may_drop(report.stale)):
        await indexer.drop_stale()
    await known.store.collect_passages()
    return report


def _may_drop(stale: list[str]) -> bool:
    """Says what would go, and asks."""
    files = (
        "1 document is indexed whose file was" if len(stale) == 1 else f"{len(stale)} documents are indexed whose files were"
    )
    tell(f"{files} not found by these names:")
    for source in stale[:_SHOWN]:
        tell(f"  {source}")
    if len(stale) > _SHOWN:
        tell(f"  and {len(stale) - _SHOWN} more")
    return agreed("Drop what was not found?")


def _facts(report: Report, price: float | None) -> str:
    return f"{report.chunks} chunks, {report.tokens} tokens, {_cost(report, price)}"


def _cost(report: Report, price: float | None) -> str:
    if report.embedded == 0:
        return "nothing embedded"
    return f"{report.embedded} embedded" + ("" if price is None else f" (${report.embedded * price / 1_000_000:.4f})")


def _show(report: Report, *, as_json: bool) -> None:
    if as_json:
        say(dump({name: getattr(report, name) for name in report.__dataclass_fields__}))
        return
    for line in report.skipped[:_SHOWN]:
        complain(f"skipped {line}")
    for line in report.redacted[:_SHOWN]:
        complain(f"redacted {line}")
    if len(report.skipped) > _SHOWN:
        complain(f"skipped {len(report.skipped) - _SHOWN} more: --json lists them all")
    embedded = f", {report.embedded} tokens embedded" if report.embedded else ""
    say(
        f"{counted(report.files, 'file')}: {report.indexed} indexed "
        f"({counted(report.chunks, 'chunk')}, {report.tokens} tokens{embedded}), "
        f"{report.unchanged} unchanged, {len(report.skipped)} skipped, {report.dropped} dropped"
    )
    if report.stale:
        complain(f"{counted(len(report.stale), 'document')} whose files are gone: `--prune` drops them from the index")


async def _watch(
    known: Knowledge | PeopleKnowledge, paths: list[Path], kept: list[str], *, project: str | None, as_json: bool
) -> None:
    """kept: what the run before left in the index although its files were gone; it stays."""
    # imported here: nothing else needs it
    from watchfiles import awatch

    said = False
    # the first answer comes when the watch has begun: what changed until then is indexed as well
    async for changes in awatch(*paths, debounce=400, recursive=True, rust_timeout=500, yield_on_timeout=True):
        if not said:
            complain(f"watching {', '.join(str(path) for path in paths)}: what goes there leaves the index; Ctrl-C ends it")
        elif not changes:
            continue
        said = True
        try:
            report = await index_paths(known, paths, project=project, pruning=Pruning.ALWAYS, kept=kept)
        except AtlasError as error:
            # what cannot be had now is indexed with the next change
            complain(f"{len(changes)} changes are not indexed: {error.line}")
            await asyncio.sleep(1)
            continue
        if report.indexed or report.dropped:
            _show(report, as_json=as_json)


async def _index_url(
    known: Knowledge | PeopleKnowledge, url: str, ref: str | None, *, project: str | None, pruning: Pruning, as_json: bool
) -> str:
    """Answers the commit that was indexed."""
    async with cloned(url, ref) as checkout:
        report = await index_paths(
            known, [checkout.folder], project=project, pruning=pruning, named=checkout.name, commit=checkout.commit
        )
    await known.store.record_repository(checkout.name, ref, await project_id(known, project))
    _show(report, as_json=as_json)
    return checkout.commit


async def _watch_url(
    known: Knowledge | PeopleKnowledge,
    url: str,
    ref: str | None,
    commit: str,
    every: float,
    *,
    project: str | None,
    as_json: bool,
) -> None:
    complain(f"watching {url}: Ctrl-C ends it")
    while True:
        await asyncio.sleep(every)
        try:
            if await latest(url, ref) != commit:
                commit = await _index_url(known, url, ref, project=project, pruning=Pruning.ALWAYS, as_json=as_json)
        except AtlasError as error:
            complain(f"{url}: {error.line}")


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(index, name="index")
