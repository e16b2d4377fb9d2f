"""search, and what other commands of retrieval share."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.console import Console

from atlas.commands.common import JsonFlag, runs, settings, show_rows
from atlas.commands.console import complain, say
from atlas.database.pool import Pool
from atlas.errors import NotFoundError, UsageError
from atlas.local.address import database_url
from atlas.rag.search import Query
from atlas.rag.wiring import Knowledge, knowledge
from atlas.settings import Settings

if TYPE_CHECKING:
    from atlas.rag.people import PeopleKnowledge

DEFAULT_PROJECT = "default"


@asynccontextmanager
async def opened(found: Settings, url: str | None = None) -> AsyncIterator[Knowledge]:
    """Retrieval for an operator's command. Raises DatabaseDown."""
    async with (
        Pool.connect(url or database_url(found, "postgres"), size=2, patience=10) as bus,
        knowledge(found, bus, attempts=4, patience=30) as known,
    ):
        yield known


@asynccontextmanager
async def opened_for_caller(found: Settings) -> AsyncIterator[Knowledge | PeopleKnowledge]:
    """Retrieval for whoever calls: DATABASE_URL for operators, else SUPABASE_URL for people, else the embedded stack."""
    if found.database_url is None and found.supabase_url is not None:
        from atlas.rag.people import people_knowledge  # imported here: it brings the supabase client

        async with people_knowledge(found) as known:
            yield known
        return
    async with opened(found) as ours:
        yield ours


async def project_id(known: Knowledge | PeopleKnowledge, name: str | None) -> UUID | None:
    """The project of that id or name. Raises NotFoundError."""
    if name is None:
        return None
    found = await known.store.project(name)
    if found is None:
        raise NotFoundError(f"no project {name!r}", "see select id, name from atlas.project")
    return found


@runs
async def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=200)] = 10,
    project: Annotated[str | None, typer.Option(help="Whose documents (id or name).")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Search what is indexed, as a task would."""
    if not query.strip():
        raise UsageError("the query is empty", "ask something")
    found = settings()
    async with opened_for_caller(found) as known:
        if isinstance(known, Knowledge):
            whose = await project_id(known, project or DEFAULT_PROJECT)
            result = await known.searcher.search(
                Query(text=query, top_k=top_k, collapse=found.rag_collapse_by_file, project=whose)
            )
            chunks, warnings = result.chunks, result.warnings
        else:
            whose = await project_id(known, project)
            chunks = await known.search(query, top_k=top_k, collapse=found.rag_collapse_by_file, project=whose)
            warnings = ()
    for warning in warnings:
        complain(warning)
    if as_json:
        rows = [{**{name: getattr(chunk, name) for name in chunk.__slots__}, "place": chunk.place} for chunk in chunks]
        say(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    if sys.stdout.isatty() and chunks:
        for number, chunk in enumerate(chunks, 1):
            close = "" if chunk.similarity is None else f", {chunk.similarity_kind} {chunk.similarity:.2f}"
            say(f"{number:2}. {chunk.place}  ({chunk.score:.3f}{close})")
            # the place is whole, to be copied; what follows is cut at the width
            for line in (chunk.heading, " ".join(chunk.text.split())):
                say("    " + shorten(line, Console().width - 4, placeholder=" …"))
        return
    shown = [
        {
            "score": f"{chunk.score:.3f}",
            "similarity": "" if chunk.similarity is None else f"{chunk.similarity:.2f}",
            "place": chunk.place,
            "heading": chunk.heading,
            "text": " ".join(chunk.text.split())[:100],
        }
        for chunk in chunks
    ]
    kinds = {chunk.similarity_kind for chunk in chunks}
    heads = {
        "score": "SCORE",
        "similarity": kinds.pop().upper() if len(kinds) == 1 else "SIMILARITY",
        "place": "PLACE",
        "heading": "HEADING",
        "text": "TEXT",
    }
    show_rows(shown, heads, as_json=False, empty="nothing found: `atlas index PATH` adds documents",
              right=("score", "similarity"))  # fmt: skip


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(search)
