"""How a task is followed at the command line: a live status line, one clean document, a line with what it cost."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from uuid import UUID

import typer
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from atlas.commands.common import cell
from atlas.commands.console import EXIT_ASKED, EXIT_REFUSED, EXIT_TRUNCATED, complain, say, spoken, tell
from atlas.errors import AtlasError, StackError, TaskFailed
from atlas.ids import short_id
from atlas.tasks.follow import Changed, Ended, Event, MoreText, Restart, follow
from atlas.tasks.port import Tasks
from atlas.tasks.values import Row
from atlas.text import visible

Answer = TypeVar("Answer")

LOOK = 2.0
"""Seconds between two looks at what a task waits behind."""
REFUSED_KEY = frozenset({"invalid_api_key", "http_401", "http_403"})
"""Codes that waiting does not help."""
TAIL = 8000
"""Characters of a running reply that a screen may need."""


class LocalWorker(Protocol):
    """The worker of this machine's own stack."""

    def running(self) -> object | None:
        """The process, if it runs."""

    def last_words(self, lines: int = 1) -> str:
        """The end of its log."""


def standing(state: Row, progress: Row) -> str:
    """Where a task stands, why it waits, and what to do: one line."""
    after = f" until {cell(state['run_after'])} UTC" if state["run_after"] else ""
    said = f": {state['error_message']}" if state["error_message"] else ""
    if state["state"] == "running":
        tokens = f", about {progress['characters'] // 4} tokens so far" if progress["characters"] else ""
        cost = f", ${float(progress['usd']):.4f} spent" if float(progress["usd"]) else ""
        most = f", at most ${float(progress['reserved_usd']):.4f} more" if float(progress["reserved_usd"]) else ""
        return f"{state['model'] or 'looking for what the team knows'}{tokens}{cost}{most}"
    if state["state"] != "queued":
        return str(state["state"])
    if progress["paused_at"] is not None:
        why = f" ({progress['pause_reason']})" if progress["pause_reason"] else ""
        return f"the queue is paused{why}: it waits until an operator says `atlas resume`"
    if not progress["workers"]:
        return "queued, and no worker is alive: `atlas up` starts one here, `atlas worker` in the foreground"
    match state["wait_reason"]:
        case None:
            return f"queued, {_nth(progress['place'])} in turn" if progress["place"] else "queued"
        case "scheduled":
            return f"scheduled{after}"
        case "reserved_budget":
            return f"waits for room in the budget: calls that run have reserved it{said}"
        case "settled_budget":
            return f"the budget is spent{said}; it waits{after}, or until `atlas budget set` raises it"
        case "upstream" if state.get("error_code") in REFUSED_KEY:
            todo = "`atlas keys set openai` stores another, and `atlas up` starts the worker with it"
            return f"the provider refuses the key{said}; {todo}"
        case "upstream":
            return f"the provider is in trouble{said}; asked again{after.replace(' until', ' at')}"
        case "held":
            return f"a call was sent and not answered: asked again{after.replace(' until', ' at')}"
        case "response":
            by = f", by {cell(state['expected_at'])} UTC at the latest" if state["expected_at"] else ""
            return f"the provider is writing the reply{by}"
        case _:
            return f"waits to be tried again{after}{said}"


def _nth(place: int) -> str:
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"


@dataclass(slots=True)
class _Screen:
    """What a terminal shows while a reply is written: the end of its text, and where it stands. Mutable: it is redrawn."""

    text: str = ""
    status: str = "asking"
    began: float = field(default_factory=time.monotonic)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = max(1, options.size.height - 2)
        if self.text:
            lines = console.render_lines(Text(visible(self.text[-TAIL:])), options.update(height=None), pad=False)
            for line in lines[-room:]:
                yield from line
                yield Segment.line()
        status = Text(f"{time.monotonic() - self.began:4.0f} s  {visible(self.status)}", style="dim")
        status.truncate(options.max_width, overflow="ellipsis")
        yield status


class _Telling:
    """Says what changes, a line each, where nobody looks at a terminal."""

    def __init__(self) -> None:
        self._last = ""

    def stands(self, status: str, *, running: bool) -> None:
        if not running and status != self._last:
            tell(status)
        self._last = status


async def show_stream(
    reads: Tasks, task_id: UUID, *, quiet: bool = False, raw: bool = False, worker: LocalWorker | None = None
) -> Row:
    """Follows a task to its end, and prints its final reply once. What happens in between goes to stderr.

    quiet: not the reply. raw: the text as it is written, whatever becomes of it. worker: of this machine; where it dies,
    following ends, and StackError has its last words.
    """
    screen = _Screen()
    watched = sys.stderr.isatty()
    shows_text = watched and sys.stdout.isatty() and not quiet and not raw
    telling = _Telling()
    written = ""
    nudged = asyncio.Event()

    async def look() -> None:
        while True:
            try:
                # the state last: of a task that is claimed in between, no place in the queue is said
                progress = await reads.progress(task_id)
                state = await reads.state(task_id)
                screen.status = spoken(standing(state, progress))
                if not watched:
                    telling.stands(screen.status, running=state["state"] == "running")
            except AtlasError as error:
                screen.status = f"no news: {error.line}"
            nudged.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await nudged.wait()

    async with AsyncExitStack() as stack:
        if watched and not raw:
            stack.enter_context(Live(screen, console=Console(stderr=True), transient=True, refresh_per_second=8))
        looking = asyncio.create_task(look())
        stack.push_async_callback(_end, looking)
        events = await stack.enter_async_context(aclosing(_watched(follow(reads, task_id), worker)))
        async for event in events:
            match event:
                case MoreText(text=text):
                    if not written:
                        nudged.set()  # by now it is known who writes
                    written += text
                    if raw and not quiet:
                        say(text, end="")
                case Restart(text=text):
                    if raw and not quiet:
                        if written and not written.endswith("\n"):
                            say()
                        tell("--- the reply begins anew ---")
                        say(text, end="")
                    written = text
                case Ended(task=task):
                    break
                case Changed():
                    nudged.set()
            if shows_text:
                screen.text = written
    if not quiet:
        if not raw and task["state"] in ("completed", "needs_input"):
            say(written, end="")
        if written and not written.endswith("\n"):
            say()
    return task


async def _watched(events: AsyncIterator[Event], worker: LocalWorker | None) -> AsyncGenerator[Event]:
    """The events, for as long as the worker lives."""
    gone, was_seen = 0, worker is not None and worker.running() is not None
    coming = asyncio.ensure_future(anext(events))
    try:
        while True:
            await asyncio.wait({coming}, timeout=1.0)
            if coming.done():
                try:
                    yield coming.result()
                except StopAsyncIteration:
                    return
                coming = asyncio.ensure_future(anext(events))
                continue
            # one that `atlas up` starts anew is away for a moment; where none ran, one may run elsewhere
            runs = worker is None or worker.running() is not None
            was_seen = was_seen or runs
            gone = 0 if runs else gone + 1
            if worker is not None and was_seen and gone > 3:
                raise StackError(f"the worker has died; its last words: {worker.last_words(5)}",
                                 "the task waits: `atlas up` starts a worker, `atlas logs` shows more")  # fmt: skip
    finally:
        await _end(coming)


async def _end(job: asyncio.Future[Any]) -> None:
    """Cancels a job, and waits for its end: what it did with the connection is over then."""
    job.cancel()
    await asyncio.wait({job})


def receipt(task: Row) -> None:
    """One line with what matters of a task that has ended, and its warnings."""
    metadata = task["metadata"]
    facts = [str(task["model"] or "no model")]
    taken, given = (sum(call[name] or 0 for call in task["calls"]) for name in ("input_tokens", "output_tokens"))
    if taken or given:
        facts.append(f"{cell(taken)} tokens in, {cell(given)} out")
    if task["usd"] is not None:
        facts.append(f"${float(task['usd']):.4f}")
    if task["took"] is not None:
        facts.append(cell(task["took"]))
    facts += [word for word, is_so in (("truncated", metadata.get("truncated")), ("refused", is_refused(task))) if is_so]
    warnings = metadata.get("warnings", [])
    if warnings:
        facts.append(f"{len(warnings)} warning{'s' if len(warnings) > 1 else ''}")
    for line in of_record(metadata):
        tell(line)
    tell(" · ".join(facts))
    for warning in warnings:
        complain(f"warning: {warning}")


def of_record(metadata: Row) -> list[str]:
    """What a reply is, how it stands to what is decided, and what its sentences rest on: a line each."""
    lines = []
    if why := metadata.get("kind_chosen"):
        lines.append(f"{metadata.get('kind')}: {why} (--kind asks for another)")
    if (metadata.get("read_first") or {}).get("verdict") == "new" and metadata.get("kind") in ("adr", "comparison"):
        lines.append("new: nothing that is decided speaks of it")
    if claims := metadata.get("claims"):
        counts = [f"{claims[name]} {name}" for name in ("cited", "inferred", "assumed", "unmarked") if claims.get(name)]
        wrong = len(claims.get("unsupported") or ())
        lines.append(f"claims: {', '.join(counts) or 'none'}" + (f"; {wrong} not in its source" if wrong else ""))
    return lines


def is_refused(task: Row) -> bool:
    """Whether the model would not answer."""
    return bool(task["metadata"].get("kind") == "refusal")


def end_with(task: Row) -> None:
    """Ends with the exit code of how a task ended; returns where all is well."""
    fail_unless_completed(task)
    if is_refused(task):
        raise typer.Exit(EXIT_REFUSED)
    if task["metadata"].get("truncated"):
        raise typer.Exit(EXIT_TRUNCATED)


def fail_unless_completed(task: Row) -> None:
    """Raises TaskFailed for a task that ended without a reply; one that asks back ends with a code of its own."""
    if task["state"] == "needs_input":
        tell(f'it asks back: atlas answer {short_id(task["id"])} "…"')
        raise typer.Exit(EXIT_ASKED)
    if task["state"] != "completed":
        short = short_id(task["id"])
        hint = {"cancelled": "ask again", "dead_lettered": f"`atlas retry {short}` retries it"}.get(task["state"])
        if hint is None and str(task["error_code"]).endswith("_budget"):
            hint = f"raise it with `atlas budget set`, or the setting that is in force, and `atlas retry {short}`"
        raise TaskFailed(
            f"task {short} is {task['state']} ({task['error_code']}): {task['error_message']}", hint or "fix it and ask again"
        )


PATIENCE = 3.0
"""Seconds in which a second Ctrl-C cancels the task."""


@asynccontextmanager
async def _interrupts() -> AsyncIterator[asyncio.Queue[None] | None]:
    """Each Ctrl-C, as an item; None where this system has no such signals for a loop."""
    presses: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGINT, presses.put_nowait, None)
    except NotImplementedError:
        yield None
        return
    try:
        yield presses
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def unless_interrupted(work: Awaitable[Answer], task_id: UUID, cancel: Callable[[], Awaitable[str]]) -> Answer:
    """What work answers. Ctrl-C leaves it, and the task goes on; a second one cancels the task. Exits with 130 then."""
    async with _interrupts() as presses:
        following = asyncio.ensure_future(work)
        if presses is None:
            return await following
        pressed = asyncio.ensure_future(presses.get())
        try:
            await asyncio.wait({following, pressed}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                return following.result()
            following.cancel()
            await asyncio.wait({following})
            short = short_id(task_id)
            tell(f"task {short} goes on: `atlas tail {short}` follows it, `atlas cancel {short}` cancels it, Ctrl-C again too")
            try:
                async with asyncio.timeout(PATIENCE):
                    await presses.get()
            except TimeoutError:
                pass
            else:
                state = await cancel()
                tell(f"task {short} is cancelled" if state == "cancelled" else f"task {short} was told to stop")
            raise typer.Exit(130)
        finally:
            pressed.cancel()
            following.cancel()
