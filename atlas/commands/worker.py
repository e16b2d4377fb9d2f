"""worker, status."""

from __future__ import annotations

import typer

from atlas import logs as logging_setup
from atlas.commands import statements
from atlas.commands.common import JsonFlag, dump, operator, runs, serves, settings, show_rows
from atlas.commands.console import say


@runs
async def status(as_json: JsonFlag = False) -> None:
    """Show the queue, the workers and the budgets."""
    async with operator() as reads:
        found = await reads.call("queue_metrics")
        workers = await reads.rows(statements.workers_alive())
    if as_json:
        say(dump(found | {"worker_list": workers}))
        return
    say(
        f"queue: {found['queued']} ready, {found['waiting']} waiting, {found['running']} running, "
        f"{found['dead_lettered']} dead letters" + (" (paused)" if found["paused"] else "")
    )
    show_rows(workers, {"name": "WORKER", "version": "VERSION", "state": "STATE", "concurrency": "SLOTS", "seen_at": "SEEN"},
              as_json=False, empty="no worker is alive: run `atlas up` or `atlas worker`")  # fmt: skip
    show_rows(
        found["budgets"],
        {"scope": "BUDGET", "daily": "DAILY", "settled_tokens": "SETTLED", "reserved_tokens": "RESERVED",
         "usd_daily": "USD DAILY", "settled_usd": "SETTLED USD"},
        as_json=False, empty="no budget yet",
    )  # fmt: skip


@serves
async def worker() -> None:
    """Run a worker in the foreground, with /healthz, /livez, /readyz and /metrics. SIGTERM drains it."""
    from atlas.main import serve  # with all that a worker needs, which takes a while to import

    known = settings()
    logging_setup.set_up(known.atlas_log_format, prompts=known.atlas_log_prompts)
    code = await serve(known)
    if code:
        raise typer.Exit(code)


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (status, worker):
        app.command()(command)
