"""rag serve, worker, refresh, status; rag eval and calibrate are in atlas.commands.measure."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

from atlas import logs
from atlas.commands import measure
from atlas.commands.common import JsonFlag, dump, runs, settings, show_rows
from atlas.commands.console import complain, say
from atlas.commands.search import opened
from atlas.local.address import database_url

app = typer.Typer(help="The knowledge service: serve, index in the background, measure.", no_args_is_help=True)


@runs
async def serve(
    host: Annotated[str | None, typer.Option(help="Where to listen; RAG_HTTP_HOST.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The port; RAG_HTTP_PORT.")] = None,
) -> None:
    """Serve search over HTTP, and index in the background. GET /openapi.json describes it."""
    from atlas.rag.service import processes as service

    found = settings()
    changed = {"rag_http_host": host, "rag_http_port": port}
    found = found.model_copy(update={name: value for name, value in changed.items() if value is not None})
    logs.set_up(found.atlas_log_format)
    await service.serve(found, database_url(found, "atlas_rag"), lambda url: complain(f"the RAG service listens on {url}"))


@runs
async def worker() -> None:
    """Index in the background: batches that were sent to the service, and repositories that docs.added names."""
    from atlas.rag.service import processes as service

    found = settings()
    logs.set_up(found.atlas_log_format)
    working = asyncio.create_task(service.work(found, database_url(found, "atlas_rag")))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, working.cancel)
    try:
        await working
    except asyncio.CancelledError:
        complain("stopped: unfinished jobs go on in another process")


@runs
async def refresh() -> None:
    """Look again at every repository that was indexed before; what did not change is not embedded again."""
    async with opened(settings()) as known:
        count = await known.store.refresh_all()
    say(f"{count} repositories are queued: `atlas rag worker` (or the service) indexes them")


@runs
async def status(as_json: JsonFlag = False) -> None:
    """What is indexed, by which embedder, what it cost, and which jobs wait."""
    async with opened(settings()) as known:
        facts = await known.store.index_status()
    if as_json:
        say(dump({**facts, "retrieval": known.mode()}))
        return
    say(f"retrieval: {known.mode()}")
    say(f"{facts['documents']} documents, {facts['chunks']} chunks, {facts['passages']} texts")
    say(f"{facts['jobs_waiting']} jobs wait, {facts['jobs_failed']} failed")
    numbers = ("dimensions", "vectors", "threshold", "tokens", "usd")
    heads = {name: name.upper() for name in ("embedder", "model", "state", *numbers)}
    show_rows(facts["embedding_indexes"], heads, as_json=False, empty="no embedder was used yet", right=numbers)


def register(top: typer.Typer) -> None:
    """Adds these commands."""
    app.command()(serve)
    app.command()(worker)
    app.command()(refresh)
    app.command()(status)
    measure.register(app)
    top.add_typer(app, name="rag")
