"""The protocol over HTTP, beside what else the port serves: each request under the caller's own login, none without."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

LARGEST = 1_000_000
"""Bytes of a request."""
LONGEST_TOKEN = 8_000


class McpEndpoint:
    """/mcp: clients POST requests and get JSON back. The endpoint is stateless, so any process can answer any request."""

    def __init__(self, server: MCPServer) -> None:
        self._server = server
        # every request needs a bearer token, which a page rebinding DNS does not have, so any Host is accepted
        server.streamable_http_app(
            stateless_http=True, json_response=True, max_request_body_size=LARGEST,
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )  # fmt: skip

    @property
    def route(self) -> Route:
        """Where it is mounted."""
        return Route("/mcp", self)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Requests are answered within it."""
        async with self._server.session_manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        said = headers.get(b"authorization", b"").decode("latin-1")
        if scope["method"] != "POST":
            await JSONResponse({"error": "method not allowed"}, 405, headers={"Allow": "POST"})(scope, receive, send)
        elif not said.lower().startswith("bearer ") or len(said) > LONGEST_TOKEN or said.count(".") != 2:
            refusal = {"error": "unauthorized", "hint": "send the access token of a Supabase login: Authorization: Bearer …"}
            await JSONResponse(refusal, 401, headers={"WWW-Authenticate": 'Bearer realm="atlas"'})(scope, receive, send)
        else:
            await self._server.session_manager.handle_request(scope, receive, send)
