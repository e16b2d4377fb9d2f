"""demo: one question from nothing to its answer, on the embedded stack.

Without a key its own question gets an answer that ships with the example team, replayed through the whole path, and the worker
is killed while it writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from atlas.commands.audit import check_audit
from atlas.commands.common import Steps, counted, operator, runs, settings
from atlas.commands.console import complain, me, say, tell
from atlas.commands.following import fail_unless_completed, show_stream
from atlas.commands.knowledge import Pruning, index_paths
from atlas.commands.search import opened
from atlas.commands.stack import bring_up
from atlas.commands.tasks import question_of
from atlas.database.operator import Operator
from atlas.database.tasks import PostgresTasks
from atlas.environment import environment
from atlas.errors import StackError, UsageError
from atlas.local.stack import Stack
from atlas.messages import chat
from atlas.shipped import folder
from atlas.tasks.follow import Ended, MoreText, Restart, follow
from atlas.tasks.values import Row

QUESTION = "Design a minimal CI pipeline"
KILLED_AFTER = 1_500
"""Characters of the reply after which its worker is killed, in mid-sentence."""
EXAMPLE = "replay (an example, at gpt-4.1's prices: nobody is paid)"
LEASE = "2"
"""Seconds for which the demo's next worker waits for the one that was killed."""


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
    documents = docs or folder("examples") / "team"
    if not documents.exists():
        raise UsageError(f"{documents} is not there", "name a folder of documents with --docs")
    replayed = known.openai_api_key is None and docs is None and text.split() == QUESTION.split()
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
                if before.owner == "up":
                    tell("The stack that `atlas up` started is used: its worker starts anew with these settings.")
                # it may have other settings: the demo shows today's
                stack.worker.stop()
            with _example(replayed):
                cluster, worker = await bring_up(stack, steps, owner="up" if keep else "demo")
            with steps.step("knowledge"):
                async with opened(known, cluster.url()) as index:
                    # the example team has a name of its own, wherever Atlas is installed
                    named = None if docs is not None else "example-team"
                    report = await index_paths(index, [documents], project=None, pruning=Pruning.ALWAYS, named=named)
            tell(f"      {counted(report.files, 'document')}: {report.indexed} indexed, {report.unchanged} unchanged")
            if replayed:
                tell("No OPENAI_API_KEY: an answer that ships with the example team is replayed,\nand no model is called.\n")
            elif known.openai_api_key is None:
                tell("No OPENAI_API_KEY: the offline architect shows the passages that answer,\nand no model is called.\n")
            else:
                tell(f"Asking {known.openai_model}.\n")
            began = time.monotonic()
            async with operator() as reads:
                people = PostgresTasks(reads)
                sent = await people.submit(chat(text))
                raw = not sys.stdout.isatty()
                task_id = UUID(str(sent["task_id"]))
                crashing = asyncio.create_task(_crash(people, task_id, stack)) if replayed else None
                try:
                    task = await show_stream(people, task_id, raw=raw, worker=stack.worker)
                    took = time.monotonic() - began
                    seen = await crashing if crashing is not None else None
                finally:
                    if crashing is not None:
                        crashing.cancel()
                budgets = await reads.call("get_budgets")
                audit = await _audited(reads)
            _summary(task, list(budgets), audit, took, seen)
            _try_next(stack.home)
            fail_unless_completed(task)
        finally:
            if keep:
                with contextlib.suppress(StackError, UnboundLocalError):
                    if replayed and stack.worker.running():
                        # the example is over: later questions get real answers
                        stack.worker.stop()
                        worker = stack.start_worker(environment(os.environ))
                    down = f"ATLAS_HOME={shlex.quote(str(stack.home))} {me()} down"
                    say(f"\nThe stack stays up (worker {worker.pid}); `{down}` stops it. Reach it with:")
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


@contextlib.contextmanager
def _example(replayed: bool) -> Iterator[None]:
    """Settings of a worker that replays the example's answer, and is not waited for long when it is killed."""
    if not replayed:
        yield
        return
    before = dict(os.environ)
    os.environ.update(ATLAS_REPLAY=str(folder("examples") / "replies" / "minimal-ci-pipeline.md"), ATLAS_LEASE_SECONDS=LEASE)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


async def _crash(people: PostgresTasks, task_id: UUID, stack: Stack) -> str:
    """Kills the worker while it writes, starts another one, and reads on. Answers with what a reader saw of the text."""
    written, anew, killed_after = "", 0, 0
    async for event in follow(people, task_id):
        match event:
            case MoreText(text=text):
                written += text
            case Restart(text=text):
                written, anew = text, anew + 1
            case Ended(task=task):
                whole = not anew and written == task["reply"]
                said = "each once" if whole else f"begun anew {anew} times" if anew else "and the reply is another one"
                return f"{len(written)} characters, {said}" + (f"; cut after {killed_after} by kill -9" if killed_after else "")
        if not killed_after and len(written) > KILLED_AFTER and written[-1] not in ".!?\n":
            killed_after = len(written)
            before = stack.worker.running()
            pid = stack.worker.kill()
            with _example(replayed=True):
                worker = stack.start_worker(environment(os.environ), owner=before.owner if before else "demo")
            tell(f"\n--- kill -9 of worker {pid}, after {killed_after} characters; worker {worker.pid} starts ---\n")
            await stack.worker.until(worker, "/readyz")
    raise AssertionError("unreachable")


async def _audited(reads: Operator) -> str:
    """What `atlas audit verify` finds, in a line."""
    findings: list[tuple[str, str]] = []
    await check_audit(settings(), reads, lambda level, _what, text: findings.append((level, text)))
    worst = next((text for level, text in findings if level == "problem"), None)
    return f"broken: {worst}" if worst else "; ".join(text for _, text in findings)


def _summary(task: Row, budgets: list[Row], audit: str, took: float, seen: str | None) -> None:
    """The receipt: what the answer took, what it cost, whether the audit holds."""
    calls, attempts = task["calls"], task["attempt_list"]
    first = min((a["first_delta_at"] for a in attempts if a["first_delta_at"]), default=None)
    limit = next((row for row in budgets if row["scope"] == "global"), {})
    cap = limit.get("usd_daily")
    sources = [source for source in task["metadata"].get("sources", []) if source.get("cited")]
    spent = sum(float(call["usd"] or 0) for call in calls)
    reserved = sum(float(call["reserved_usd"] or 0) for call in calls)
    rows = {
        "task": str(task["id"]),
        "status": task["state"],
        "model": EXAMPLE if task["model"] == "replay" else task["model"] or "",
        "workers": str(len(attempts))
        + ("; the second took up what the first was writing" if len(attempts) > len(calls) == 1 else ""),
        "text": (seen if task["state"] == "completed" else None) or f"{len(task['reply'] or '')} characters",
        "tokens": f"{sum(c['input_tokens'] or 0 for c in calls)} in, {sum(c['output_tokens'] or 0 for c in calls)} out, "
        f"in {counted(len(calls), 'call')}",
        "USD": f"{reserved:.4f} reserved, {spent:.4f} spent, {max(0.0, reserved - spent):.4f} given back",
        "budget": f"{float(cap):.2f} USD a day" if cap is not None else f"{limit.get('daily')} tokens a day",
        "cited": f"{len(sources)} of {len(task['metadata'].get('sources', []))} sources",
        "audit": audit,
        "first token": f"{(first - task['queued_at']).total_seconds():.2f} s" if first else "never",
        "total": f"{took:.2f} s",
    }
    say("\n" + "─" * 72)
    for name, value in rows.items():
        say(f"{name:12} {value}")
        if name == "cited":
            for source in sources:
                say(f"{'':12} {source['path']}")
    for warning in task["metadata"].get("warnings", []):
        complain(f"warning: {warning}")


def _try_next(home: Path) -> None:
    say("\nTry next:")
    say(f"  export ATLAS_HOME={shlex.quote(str(home))}   # the demo's own stack")
    say(f"  {me()} up")
    say(f'  {me()} ask "How do we roll back a release?"')
    say(f"  {me()} show last")
    say(f"  {me()} spend --by model")


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(demo)
