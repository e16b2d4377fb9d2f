"""mcp: Atlas for agents, over standard input and output."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import typer

from atlas.commands.common import face, runs
from atlas.extras import missing
from atlas.tasks.port import Tasks


@asynccontextmanager
async def _own(_token: str | None) -> AsyncIterator[Tasks]:
    """Whoever started the process: its settings and its login."""
    async with face() as tasks:
        yield tasks


@runs
async def mcp() -> None:
    """Serve agents by the Model Context Protocol, over standard input and output. `claude mcp add atlas -- atlas mcp`."""
    try:
        from atlas.mcp.server import server_of  # imported here: it takes most of a second
    except ModuleNotFoundError as error:
        raise missing(error) or error from error

    # what else is printed must not come between the messages
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    await server_of(_own).run_stdio_async()


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(mcp)
