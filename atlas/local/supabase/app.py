"""The stand-in as one ASGI app: /realtime/v1, /rest/v1 and /auth/v1, as Supabase's gateway has them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from atlas.errors import StackError
from atlas.local.supabase.access import Access, Keys, new_signing_key
from atlas.local.supabase.auth import Auth
from atlas.local.supabase.changes import Visibility
from atlas.local.supabase.conduct import Conduct
from atlas.local.supabase.realtime import Realtime
from atlas.local.supabase.rest import Rest
from atlas.serving import PromptHeaders, QuietServer, listen, tell_port
from atlas.supabase.keys import TokenRefused, Verifier

log = logging.getLogger("atlas.supabase")

Handler = Callable[[Request], Awaitable[Response]]

START_WITHIN = 15.0
"""Seconds for the replication to begin and the port to be bound."""

KEPT = "delete from realtime.messages where inserted_at < now() at time zone 'UTC' - interval '1 hour'"


class StandIn:
    """A running stand_in. conduct and auth.lasts may be changed while it runs."""

    def __init__(
        self, keys: Keys, conduct: Conduct, auth: Auth, realtime: Realtime, server: uvicorn.Server, running: asyncio.Task[None]
    ) -> None:
        self.keys = keys
        self.conduct = conduct
        self.auth = auth
        self.realtime = realtime
        self.running = running
        """Ends when the stand-in is no longer whole."""
        self._server = server

    @property
    def port(self) -> int:
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """What SUPABASE_URL is set to."""
        return f"http://127.0.0.1:{self.port}"

    def cut(self, code: int = 1006) -> None:
        """Ends every socket: 1006 as if the process was killed, any other code politely."""
        for socket in list(self.realtime.sockets):
            socket.cut(code)


@contextlib.asynccontextmanager
async def open_stand_in(
    url: str,
    keys: Keys,
    *,
    port: int = 0,
    conduct: Conduct | None = None,
    host: str = "127.0.0.1",
    port_file: Path | None = None,
) -> AsyncIterator[StandIn]:
    """Serves until the context ends. url: Postgres, as a role that may replicate and become the API roles (postgres).

    port_file: where the port is left for a process that started this one; another one is taken then where it is in use.
    """
    conduct = conduct or Conduct()
    async with asyncpg.create_pool(url, min_size=1, max_size=8, timeout=10) as pool:
        auth = Auth(pool, keys.signing_key or new_signing_key())
        access = Access(keys, Verifier(secret=keys.jwt_secret, fetch=auth.jwks, keep=1), lives=auth.lives)
        realtime = Realtime(url, access, Visibility(pool), conduct)
        config = uvicorn.Config(
            _app(realtime, Rest(pool, access), auth, access), log_config=None, access_log=False,
            ws="websockets-sansio", ws_ping_interval=None, lifespan="off", log_level=logging.WARNING,
            timeout_graceful_shutdown=1, http=PromptHeaders,
        )  # fmt: skip
        server = QuietServer(config)
        door = listen(host, port, "--port", or_any=port_file is not None)
        tell_port(port_file, door)

        async def run() -> None:
            async with asyncio.TaskGroup() as group:
                jobs = [group.create_task(realtime.run()), group.create_task(_trim(pool))]
                await server.serve(sockets=[door])
                for job in jobs:
                    job.cancel()

        running = asyncio.create_task(run())
        end = time.monotonic() + START_WITHIN
        while not (server.started and realtime.replication.ready.is_set()) and not running.done():
            await asyncio.sleep(0.01)  # uvicorn has no event for it
            if time.monotonic() > end:
                break
        try:
            if running.done():
                await running
                raise StackError("the stand-in ended at once", "see its log")
            if not realtime.replication.ready.is_set():
                raise StackError(
                    f"changes cannot be read from Postgres ({realtime.replication.problem})", "free a replication slot"
                )
            yield StandIn(keys, conduct, auth, realtime, server, running)
        finally:
            server.should_exit = True
            await running
            door.close()


async def _trim(pool: asyncpg.Pool) -> None:
    """Keeps realtime.messages small, as Supabase does by dropping old partitions."""
    while True:
        with contextlib.suppress(asyncpg.PostgresError, OSError, asyncpg.InterfaceError):
            await pool.execute(KEPT)
        await asyncio.sleep(300)


def _app(realtime: Realtime, rest: Rest, auth: Auth, access: Access) -> Starlette:
    async def user(request: Request) -> Response:
        return await auth.user(request, access)

    async def log_out(request: Request) -> Response:
        return await auth.log_out(request, access)

    def keyed(handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            try:
                access.check_apikey(request.headers.get("apikey"))
            except TokenRefused as error:
                return JSONResponse({"message": str(error), "hint": error.hint}, status_code=401)
            return await handler(request)

        return checked

    async def socket(websocket: WebSocket) -> None:
        await realtime.serve(websocket)

    return Starlette(
        routes=[
            WebSocketRoute("/realtime/v1/websocket", socket),
            WebSocketRoute("/socket/websocket", socket),
            Route("/realtime/v1/api/broadcast", realtime.api_broadcast, methods=["POST"]),
            Route("/rest/v1/rpc/{name}", rest.function, methods=["POST"]),
            Route("/rest/v1/{name}", rest.table, methods=["GET", "POST"]),
            Route("/auth/v1/signup", keyed(auth.sign_up), methods=["POST"]),
            Route("/auth/v1/token", keyed(auth.token), methods=["POST"]),
            Route("/auth/v1/user", user),
            Route("/auth/v1/logout", log_out, methods=["POST"]),
            Route("/auth/v1/health", auth.health),
            Route("/auth/v1/.well-known/jwks.json", auth.show_jwks),
        ],
        # UI clients come from other origins; the keys, not the origin, decide
        middleware=[Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])],
    )
