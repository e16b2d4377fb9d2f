"""demo: one question from nothing to its answer, on the embedded stack."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from atlas.commands.common import Steps, operator, runs, settings
from atlas.commands.console import complain, me, say, tell
from atlas.commands.following import fail_unless_completed, show_stream
from atlas.commands.knowledge import Pruning, index_paths
from atlas.commands.search import opened
from atlas.commands.stack import bring_up
from atlas.commands.tasks import question_of
from atlas.database.tasks import PostgresTasks
from atlas.errors import StackError, UsageError
from atlas.local.stack import Stack
from atlas.messages import chat
from atlas.tasks.values import Row

QUESTION = "Design a minimal CI pipeline"


@runs
async def demo(
    question: Annotated[str, typer.Argument(help="The question; `-` reads standard input.")] = QUESTION,
    docs: Annotated[Path | None, typer.Option("--docs", help="Index this instead of the example team.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up.")] = False,
    first_step: Annotated[int, typer.Option(hidden=True, help="Steps that scripts/demo did before.")] = 0,
) -> None:
    """Set all up, ask a question, stream the reply, show what it cost."""
    known = settings()
    for name, value in (("DATABASE_URL", known.database_url), ("SUPABASE_URL", known.supabase_url)):
        if value is not None:
            raise UsageError(f"{name} is set, and the demo has a Postgres of its own", "unset it, or use `atlas ask`")
    text = question_of(question, None)
    examples = docs or Path(__file__).parent.parent.parent / "examples"
    if not examples.exists():
        raise UsageError(f"{examples} is not there", "name a folder of documents with --docs")
    # a stack of its own, which `atlas up` elsewhere never meets
    stack = Stack(known.atlas_home or Path(".atlas"))
    os.environ["ATLAS_HOME"] = str(stack.home)
    with stack.only_one():
        _stop_on_signals()
        before = stack.worker.running()
        # a stack that `atlas up` started stays up; one that a killed demo left behind does not
        keep = keep or (before is not None and before.owner == "up")
        steps = Steps(first_step + 4, done=first_step)
        try:
            if before is not None:
                # it may have other settings: the demo shows today's
                stack.worker.stop()
            cluster, worker = await bring_up(stack, steps, owner="up" if keep else "demo")
            with steps.step("knowledge"):
                async with opened(known, cluster.url()) as index:
                    # the example team has a name of its own, wherever Atlas is installed
                    named = None if docs is not None else "examples"
                    report = await index_paths(index, [examples], project=None, pruning=Pruning.ALWAYS, named=named)
            tell(f"      {report.files} documents: {report.indexed} indexed, {report.unchanged} unchanged")
            if known.openai_api_key is None:
                tell("No OPENAI_API_KEY: the offline architect answers, and no model is called.\n")
            else:
                tell(f"Asking {known.openai_model}.\n")
            began = time.monotonic()
            async with operator() as reads:
                people = PostgresTasks(reads)
                sent = await people.submit(chat(text))
                raw = not sys.stdout.isatty()
                task = await show_stream(people, UUID(str(sent["task_id"])), raw=raw, worker=stack.worker)
                budgets = await reads.call("get_budgets")
            _summary(task, list(budgets), time.monotonic() - began, stack.home)
            fail_unless_completed(task)
        finally:
            if keep:
                with contextlib.suppress(StackError, UnboundLocalError):
                    say(f"\nThe stack stays up (worker {worker.pid}); `{me()} down` stops it. Reach it with:")
                    say(f"  {shlex.quote(str(stack.postgres.binaries / 'psql'))} '{cluster.url()}'")
            else:
                # no await and no further Ctrl-C: nothing may be left behind
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                stack.down()


def _stop_on_signals() -> None:
    """SIGTERM and a closed terminal end the demo as Ctrl-C does: with everything stopped."""
    task = asyncio.current_task()
    if task is not None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def _summary(task: Row, budgets: list[Row], took: float, home: Path) -> None:
    calls = task["calls"]
    first = min((a["first_delta_at"] for a in task["attempt_list"] if a["first_delta_at"]), default=task["finished_at"])
    limit = next((row for row in budgets if row["scope"] == "global"), {})
    cap = limit.get("usd_daily")
    sources = [source for source in task["metadata"].get("sources", []) if source.get("cited")]
    spent = sum(float(call["usd"] or 0) for call in calls)
    reserved = sum(float(call["reserved_usd"] or 0) for call in calls)
    rows = {
        "task": str(task["id"]),
        "status": task["state"],
        "model": task["model"] or "",
        "tokens": f"{sum(c['input_tokens'] or 0 for c in calls)} in, {sum(c['output_tokens'] or 0 for c in calls)} out",
        "USD": f"{reserved:.4f} reserved, {spent:.4f} spent, "
        + (f"capped at {float(cap):.2f} a day" if cap is not None else f"capped at {limit.get('daily')} tokens a day"),
        "sources": ", ".join(source["path"] for source in sources) or "none cited",
        "first token": f"{(first - task['queued_at']).total_seconds():.2f} s" if first else "never",
        "total": f"{took:.2f} s",
    }
    say("\n" + "─" * 72)
    for name, value in rows.items():
        say(f"{name:12} {value}")
    for warning in task["metadata"].get("warnings", []):
        complain(f"warning: {warning}")
    say("\nTry next:")
    say(f"  export ATLAS_HOME={shlex.quote(str(home))}   # the demo's own stack")
    say(f'  {me()} up && {me()} ask "How do we roll back a release?"')
    say(f"  {me()} show last")
    say(f"  {me()} spend --by model")


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(demo)
