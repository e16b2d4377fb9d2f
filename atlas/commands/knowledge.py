"""index, search."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import asyncpg
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from atlas.adapters.postgres import CONNECTION_LOST, set_codecs, translate
from atlas.commands.common import JsonFlag, complain, dump, operator, runs, say, settings, show_rows
from atlas.errors import DatabaseDown, NotFoundError
from atlas.local.address import database_url
from atlas.rag import index as indexing
from atlas.tokens import Vocabularies

DEFAULT_PROJECT = "default"


@runs
async def index(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders.")],
    project: Annotated[str | None, typer.Option(help="Whose they are (id or name); without it, everybody's.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Index what the team knows: Markdown, text, code. An unchanged file costs nothing."""
    report = await index_paths(paths, database_url(settings(), "postgres"), project=project)
    if as_json:
        say(dump({name: getattr(report, name) for name in report.__dataclass_fields__}))
        return
    for line in report.skipped:
        complain(f"skipped {line}")
    say(
        f"{report.files} files: {report.indexed} indexed ({report.chunks} chunks, {report.tokens} tokens), "
        f"{report.unchanged} unchanged, {len(report.skipped)} skipped, {report.dropped} dropped"
    )


async def index_paths(paths: list[Path], url: str, *, project: str | None) -> indexing.Report:
    """Indexes paths over a connection of their own, with a progress bar on a terminal."""
    files = indexing.find_files(paths)
    folders = [indexing.source_name(path) for path in paths if path.is_dir()]
    try:
        connection = await asyncpg.connect(url, timeout=10)
    except (*CONNECTION_LOST, TimeoutError, asyncpg.PostgresError) as error:
        raise DatabaseDown(f"Postgres cannot be reached ({error})", "check DATABASE_URL, or run `atlas up`") from error
    try:
        await set_codecs(connection)
        project_id = await _project(connection, project)
        count = Vocabularies().counter("o200k_base")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
            shown = bar.add_task("indexing", total=len(files))
            return await indexing.index(
                connection, files, project=project_id, count=count, drop_under=folders,
                advance=lambda file: bar.update(shown, advance=1, description=file.source[-40:]),
            )  # fmt: skip
    except asyncpg.PostgresError as error:
        raise translate(error) from error
    finally:
        await connection.close()


async def _project(connection: asyncpg.Connection, name: str | None) -> UUID | None:
    if name is None:
        return None
    found = await connection.fetchval("select id from atlas.project where id::text = $1 or name = $1", name)
    if found is None:
        raise NotFoundError(f"no project {name!r}", "see select id, name from atlas.project")
    return UUID(str(found))


@runs
async def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=200)] = 10,
    project: Annotated[str, typer.Option(help="Whose documents (id or name).")] = DEFAULT_PROJECT,
    as_json: JsonFlag = False,
) -> None:
    """Search what is indexed, as a task would."""
    async with operator() as reads:
        await reads.project(project)
        rows = await reads.rows(
            "select source, start_line, end_line, heading, score, text from rag.search(:query, :k, "
            "(select id from atlas.project where id::text = :project or name = :project), :collapse)",
            {"query": query, "k": top_k, "project": project, "collapse": settings().rag_collapse_by_file},
        )
    if as_json:
        say(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    shown = [
        {
            "score": f"{row['score']:.3f}",
            "place": f"{row['source']}:{row['start_line']}-{row['end_line']}",
            "heading": row["heading"],
            "text": " ".join(row["text"].split())[:100],
        }
        for row in rows
    ]
    show_rows(shown, {"score": "SCORE", "place": "PLACE", "heading": "HEADING", "text": "TEXT"}, as_json=False,
              empty="nothing found: `atlas index PATH` adds documents", right=("score",))  # fmt: skip


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command()(index)
    app.command()(search)
