"""mirror, mirror replay, export: what leaves Atlas."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer

from atlas import logs as logging_setup
from atlas.commands import statements
from atlas.commands.common import JsonFlag, TaskArgument, dump, operator, runs, settings
from atlas.commands.console import say, tell
from atlas.database.operator import Operator
from atlas.database.tasks import PostgresTasks
from atlas.errors import NotFoundError, UsageError
from atlas.local.address import database_url

mirror = typer.Typer(help="Carry the outbox to Pub/Sub and webhooks; send messages again.")


@mirror.callback(invoke_without_command=True)
def _mirror(context: typer.Context) -> None:
    """Carry the outbox to Pub/Sub and webhooks, in the foreground. Workers do it too, unless ATLAS_MIRROR=false."""
    if context.invoked_subcommand is None:
        run()


@runs
async def run() -> None:
    """Mirrors until SIGTERM or Ctrl-C; what is under way is finished first."""
    from atlas.database.pool import Pool
    from atlas.metrics.mirror import MirrorMetrics
    from atlas.metrics.process import ProcessMetrics
    from atlas.rotation import CurrentSettings
    from atlas.service import mirror_of, tracer_of
    from atlas.serving import listen, pages_of

    known = settings()
    logging_setup.set_up(known.atlas_log_format)
    metrics = MirrorMetrics()
    process = ProcessMetrics(metrics.registry, "mirror")
    # a worker of the same machine has the port already
    with listen(known.atlas_http_host, known.atlas_http_port, "ATLAS_HTTP_PORT", or_any=True) as door:
        current = CurrentSettings(known)
        url = database_url(known)
        async with Pool.connect(url, password=current.password_of(url)) as bus, tracer_of(known) as tracer:
            await bus.ping()
            process.watch_pool(bus)
            found = mirror_of(current, bus, metrics, tracer, alone=True)
            current.when_renewed(found.renew)
            job = asyncio.create_task(found.run())
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, job.cancel)
            async with pages_of(job, process, door, current):
                tell(f"mirroring, with /metrics on port {door.getsockname()[1]}: Ctrl-C stops it")
                await asyncio.gather(job, return_exceptions=True)
            if not job.cancelled():
                job.result()


@mirror.command("replay")
@runs
async def replay(
    task: Annotated[str | None, typer.Option(help="A task: id, unique prefix, or `last`.")] = None,
    since: Annotated[str | None, typer.Option(help="Since when: ISO 8601, or an age such as 2h, 30m, 1d.")] = None,
    until: Annotated[str | None, typer.Option(help="Until when, likewise.")] = None,
    destination: Annotated[str | None, typer.Option(help="To this one alone.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Send messages again, with the same event ids."""
    if task is None and since is None:
        raise UsageError("nothing is named", "give --task or --since")
    now = datetime.now(UTC)
    async with operator() as reads:
        found = await PostgresTasks(reads).find(task) if task is not None else None
        count = await reads.call("replay_outbox", found, _time(since, now), _time(until, now), destination)
        if not count and not await reads.first(statements.destinations_enabled()):
            raise NotFoundError("no destination is enabled", "add a row to atlas.destination, or set PUBSUB_PROJECT_ID")
    say(dump({"replayed": count}) if as_json else f"{count} will be sent again")


def _time(text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    units = {"m": "minutes", "h": "hours", "d": "days"}
    if text[:-1].isdecimal() and text[-1:] in units and len(text) < 8:
        return now - timedelta(**{units[text[-1]]: int(text[:-1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a time", "write 2026-12-01T09:00:00Z, or an age such as 2h") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@runs
async def export(
    task: TaskArgument = "last",
    pull_request: Annotated[bool, typer.Option("--pr", help="One pull request with docs/adr/NNNN-title.md.")] = False,
    issues: Annotated[bool, typer.Option("--issues", help="Each work item as an issue.")] = False,
    repository: Annotated[str | None, typer.Option("--repo", help="owner/name; else where the question came from.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait until it is there; 0 does not wait.")] = 60,
    as_json: JsonFlag = False,
) -> None:
    """Export a spec: to a file (stdout), a pull request, or issues. The function `deliver` does the latter two."""
    if pull_request and issues:
        raise UsageError("both --pr and --issues are given", "ask for one at a time")
    async with operator() as reads:
        found = await PostgresTasks(reads).find(task)
        if not (pull_request or issues):
            record = await PostgresTasks(reads).task(found)
            if not record["reply"]:
                raise NotFoundError(f"task {found} is {record['state']}: there is no spec yet", "see `atlas show`")
            say(dump({"task_id": found, "spec": record["reply"]}) if as_json else record["reply"])
            return
        event = UUID(str(await reads.call("request_export", found, "pull_request" if pull_request else "issues", repository)))
        rows = await _until_sent(reads, event, wait)
        urls = [] if rows != "sent" else await _urls(reads, found, "pull_request" if pull_request else "issue:%")
    if as_json:
        say(dump({"task_id": found, "event_id": event, "state": rows, "urls": urls}))
        return
    for url in urls:
        say(url)
    if rows == "pending":
        tell(f"not there yet after {wait:g} s: it goes on by itself; atlas.outbox_status and `atlas doctor` say why")
    elif rows == "dead":
        raise NotFoundError("it was refused three times", "see `atlas dlq list --kind outbox`")


async def _until_sent(reads: Operator, event: UUID, wait: float) -> str:
    end = asyncio.get_running_loop().time() + wait
    while True:
        state = str(await reads.first(statements.event_state(event)))
        if state != "pending" or asyncio.get_running_loop().time() >= end:
            return state
        await asyncio.sleep(0.1)


async def _urls(reads: Operator, task: UUID, part: str) -> Sequence[str]:
    rows = await reads.rows(statements.post_urls(task, part))
    return [row["url"] for row in rows]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(mirror, name="mirror")
    app.command()(export)
