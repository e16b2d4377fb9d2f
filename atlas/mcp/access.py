"""Who calls, and what they may: each request of a client is made under the caller's own login."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Any

from atlas.tasks.port import Tasks

Open = Callable[[str | None], AbstractAsyncContextManager[Tasks]]
"""Opens the caller's face of Atlas. Its argument is the login's token; None over standard input, where the process's own
settings say who calls. Raises the errors of atlas.errors."""

TOKEN: ContextVar[str | None] = ContextVar("atlas_mcp_token", default=None)
"""The token of the request that is being answered."""


async def remember_caller(ctx: Any, call_next: Any) -> Any:
    """Middleware of the protocol's server: whoever sends a request over HTTP is who it is answered for."""
    request = ctx.request
    said = request.headers.get("authorization", "") if request is not None else ""
    mark = TOKEN.set(said[7:].strip() if said.lower().startswith("bearer ") else None)
    try:
        return await call_next(ctx)
    finally:
        TOKEN.reset(mark)
