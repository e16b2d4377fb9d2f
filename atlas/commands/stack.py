"""up, down, logs: the embedded stack."""

from __future__ import annotations

import asyncio
import os
import shlex
from typing import Annotated

import typer

from atlas.commands.common import JsonFlag, Steps, dump, runs, settings
from atlas.commands.console import say, spoken, tell
from atlas.environment import environment
from atlas.errors import StackError, UsageError
from atlas.local.postgres import Cluster
from atlas.local.process import RunningProcess
from atlas.local.stack import Stack


def _own_stack() -> Stack:
    known = settings()
    if known.database_url is not None:
        raise UsageError("DATABASE_URL is set: the embedded stack is not used", "unset it, or run `atlas worker`")
    return Stack(known.home)


async def bring_up(stack: Stack, steps: Steps, *, owner: str = "up") -> tuple[Cluster, RunningProcess]:
    """Postgres, migrations, and a worker: three steps."""
    with steps.step("Postgres"):
        # not in a thread: a Ctrl-C must find it done or not begun
        cluster = stack.start_postgres()
    with steps.step("migrations"):
        await stack.prepare(cluster)
    found = environment(os.environ)
    if changed := stack.changed(found):
        tell(f"the worker starts anew: {', '.join(name.removesuffix('_FILE') for name in changed)} changed")
        stack.worker.stop()
    with steps.step("worker"):
        worker = stack.start_worker(found, owner=owner)
        worker = await stack.worker.until(worker, "/readyz")
    return cluster, worker


@runs
async def up(as_json: JsonFlag = False) -> None:
    """Start the embedded Postgres, a worker, and the stand-in for Supabase's clients, in the background."""
    stack = _own_stack()
    with stack.only_one():
        steps = Steps(4)
        cluster, worker = await bring_up(stack, steps)
        with steps.step("stand-in for Supabase"):
            stand_in = stack.start_stand_in(os.environ)
            stand_in = await stack.stand_in.until(stand_in, "/auth/v1/health")
    url, keys = f"http://127.0.0.1:{stand_in.port}", stack.keys()
    if as_json:
        say(
            dump({
                "postgres": cluster.url(), "port": cluster.port, "worker_pid": worker.pid, "http_port": worker.port,
                "supabase_url": url, "publishable_key": keys.publishable, "secret_key": keys.secret,
                "anon_key": keys.anon, "service_role_key": keys.service_role,
            })
        )  # fmt: skip
        return
    say(spoken(f"Atlas is up: metrics at http://127.0.0.1:{worker.port}/metrics, `atlas down` stops it"))
    say(f"Supabase's clients: SUPABASE_URL={url} SUPABASE_PUBLISHABLE_KEY={keys.publishable}")
    say(f"psql: {shlex.quote(str(stack.postgres.binaries / 'psql'))} {shlex.quote(cluster.url())}")


@runs
async def down(
    erase: Annotated[bool, typer.Option("--erase", help="Also remove all data.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Stop the embedded stack."""
    stack = _own_stack()
    with stack.only_one(), Steps(1).step("stopping"):
        ran = stack.runs()
        stack.down()
        if erase:
            stack.postgres.erase()
    if as_json:
        say(dump({"stopped": ran, "erased": erase, "home": str(stack.home)}))
    else:
        said = "stopped" if ran else f"nothing was running in {stack.home}"
        say(f"{said}, and all data removed" if erase else f"{said}; the data stays")


@runs
async def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it is written.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0)] = 50,
) -> None:
    """Show the log of the worker that `atlas up` started."""
    path = _own_stack().worker.log
    if not path.exists():
        raise StackError("there is no worker's log yet", "run `atlas up`")
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file.readlines()[-lines:] if lines else ():
            say(line, end="")
        while follow:
            line = file.readline()
            if line:
                say(line, end="")
            else:
                await asyncio.sleep(0.2)


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (up, down, logs):
        app.command()(command)
