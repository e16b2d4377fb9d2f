"""The worker as a process: `python -m atlas.main`, `atlas worker`, `uvicorn atlas.main:app`.

The ASGI app runs the worker in its lifespan, and serves /healthz, /livez, /readyz and /metrics.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from atlas import __version__, logs, loop
from atlas.environment import environment
from atlas.errors import AtlasError, SettingsError
from atlas.extras import missing
from atlas.local.address import database_url
from atlas.metrics.process import CONTENT_TYPE
from atlas.rotation import ignore_early, reads_again
from atlas.service import Service, build
from atlas.serving import PromptHeaders, SignalledServer, listen, tell_port
from atlas.settings import Settings
from atlas.task import JsonObject
from atlas.tls import load_again, server_options
from atlas.variables import load

if TYPE_CHECKING:
    from atlas.mcp.http import McpEndpoint

log = logging.getLogger("atlas.main")


def create_app(service: Service | None = None) -> Starlette:
    """The app over a service; without one it builds its own when it starts, from the environment."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        stopping = app.state.stopping = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            if service is None:
                found = load(environment(os.environ))
                logs.set_up(found.atlas_log_format, prompts=found.atlas_log_prompts)
                if server_options(found):
                    raise SettingsError(
                        ["ATLAS_TLS_CERT is for `atlas worker`: give uvicorn its own --ssl-certfile and --ssl-keyfile"]
                    )
                running = await stack.enter_async_context(build(found, database_url(found)))
            else:
                running = service
            app.state.service = running
            if (endpoint := agents_endpoint(running.settings)) is not None:
                app.router.routes.append(endpoint.route)
                await stack.enter_async_context(endpoint.running())
            stack.enter_context(reads_again(running.current))
            app.state.worker = worker = asyncio.create_task(running.run(stopping), name="service")
            worker.add_done_callback(_say_death)
            try:
                yield
            finally:
                stopping.set()
                with contextlib.suppress(BaseExceptionGroup):  # said by _say_death
                    await worker

    routes = [
        Route("/livez", _livez),
        Route("/readyz", _readyz),
        Route("/healthz", _healthz),
        Route("/metrics", _metrics),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def agents_endpoint(settings: Settings) -> McpEndpoint | None:
    """/mcp, where Supabase is there to say who calls, and the package is installed."""
    if settings.supabase_url is None or settings.public_key is None:
        return None
    try:
        # imported here: it takes most of a second, which nobody without Supabase should wait for
        from atlas.mcp.http import McpEndpoint
        from atlas.mcp.server import server_of
    except ModuleNotFoundError as error:
        if missing(error) is None:
            raise
        return None
    from atlas.supabase.tasks import connect_as

    return McpEndpoint(server_of(lambda token: connect_as(settings, token or "")))


def _say_death(worker: asyncio.Task[None]) -> None:
    if not worker.cancelled() and worker.exception() is not None:
        log.critical("the worker died", exc_info=worker.exception())
        # a process whose worker is dead must not look alive: end it the way an operator would
        os.kill(os.getpid(), signal.SIGTERM)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _livez(request: Request) -> Response:
    """Alive: the worker's loop has not ended."""
    dead = request.app.state.worker.done()
    return PlainTextResponse("dead" if dead else "ok", status_code=503 if dead else 200)


async def _readyz(request: Request) -> Response:
    """Ready: alive, claiming, and Postgres answers. Says how the models are, and does not mind."""
    service = _service(request)
    database = not request.app.state.worker.done() and await service.ready()
    ready = database and service.claims.is_set()
    status = "ok" if ready else "it is starting" if database else "Postgres does not answer"
    body: JsonObject = {"status": status, "database": database}
    if ready:
        body["models"] = await _breakers(service)
    return JSONResponse(body, status_code=200 if ready else 503)


async def _healthz(request: Request) -> Response:
    """Healthy: ready, and some model of the chain answers a probe that is at most 30 s old."""
    service = _service(request)
    database = not request.app.state.worker.done() and await service.ready()
    body: JsonObject = {"status": "unhealthy", "version": __version__, "database": database, "retrieval": service.retrieval}
    if database:
        with contextlib.suppress(AtlasError):
            body["models"] = await _breakers(service)
            found = await service.watch.health()
            body |= {"model": found.model, "since": found.since.isoformat(timespec="seconds"), "said": found.said}
            if found.ok:
                body["status"] = "ok"
    return JSONResponse(body, status_code=200 if body["status"] == "ok" else 503)


async def _breakers(service: Service) -> list[JsonObject]:
    """The models of the chain: whether each is called, and since when."""
    try:
        chain, _ = await service.book.current()
    except AtlasError:
        return []
    return [
        {
            "name": model.name, "breaker": model.breaker, "error": model.last_error,
            "since": model.breaker_since.isoformat(timespec="seconds") if model.breaker_since else None,
        }
        for model in chain.models
    ]  # fmt: skip


async def _metrics(request: Request) -> Response:
    return Response(_service(request).metrics.text(), media_type=CONTENT_TYPE)


async def serve(settings: Settings, *, port_file: Path | None = None) -> int:
    """Runs the worker with its HTTP server until a signal; answers the exit code. Raises DatabaseDown at the start.

    port_file: where the port is left for a process that started this one; another one is taken then where it is in use.
    """
    ignore_early()
    door = listen(settings.atlas_http_host, settings.atlas_http_port, "ATLAS_HTTP_PORT", or_any=port_file is not None)
    with door:
        tell_port(port_file, door)
        return await _serve(settings, door)


async def _serve(settings: Settings, door: socket.socket) -> int:
    async with build(settings, database_url(settings)) as service:
        app = create_app(service)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=3, http=PromptHeaders, lifespan="on",
            log_level=logging.WARNING, **server_options(settings),
        )  # fmt: skip
        service.current.when_renewed(lambda _changed: load_again(config))

        def stop_claiming() -> None:
            stopping: asyncio.Event | None = getattr(app.state, "stopping", None)
            if stopping is not None:
                stopping.set()

        server = SignalledServer(config, stop_claiming)
        await server.serve(sockets=[door])
        worker: asyncio.Task[None] | None = getattr(app.state, "worker", None)
        if worker is None or not server.started:
            return 3
        return 1 if worker.done() and not worker.cancelled() and worker.exception() is not None else 0


def main() -> int:
    """The entry of `python -m atlas.main`."""
    parser = argparse.ArgumentParser(prog="python -m atlas.main", description="A worker; `atlas worker` is the same.")
    parser.add_argument("--port-file", type=Path, help="leave the port here; take another one where it is in use")
    arguments = parser.parse_args()
    try:
        settings = load(environment(os.environ))
        logs.set_up(settings.atlas_log_format, prompts=settings.atlas_log_prompts)
        return loop.run(serve(settings, port_file=arguments.port_file))
    except AtlasError as error:
        print(f"atlas: {error.line}", file=sys.stderr)  # noqa: T201  its one line on the way out
        return error.exit_code


app = create_app()

if __name__ == "__main__":
    sys.exit(main())
