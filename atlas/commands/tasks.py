"""ask, tail, tasks, show, cancel, retry, dlq."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import Markdown
from rich.segment import Segment

from atlas.commands.common import JsonFlag, TaskArgument, cell, dump, face, local_worker, runs, show_rows
from atlas.commands.console import complain, say, tell
from atlas.commands.following import end_with, of_record, receipt, show_stream, unless_interrupted
from atlas.errors import UsageError
from atlas.messages import chat
from atlas.tasks.follow import ENDED
from atlas.tasks.port import Tasks
from atlas.text import visible

StreamFlag = Annotated[
    bool,
    typer.Option("--stream", help="Print the text as it is written, also what a repair replaces; else the final reply, once."),
]
STATES = ("queued", "running", "needs_input", "completed", "failed", "cancelled", "dead_lettered")


def question_of(words: str | None, file: Path | None) -> str:
    """The question: words, `-` for standard input, or a file. Raises UsageError where there is none."""
    if words is not None and file is not None:
        raise UsageError("both a question and --file are given", "give one of them")
    try:
        if file is not None:
            text = file.read_text(encoding="utf-8")
        elif words == "-":
            text = sys.stdin.buffer.read().decode("utf-8")
        else:
            text = words or ""
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror})", "name a readable file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file or 'standard input'} is not UTF-8", "save it as UTF-8") from error
    if not text.strip():
        raise UsageError("there is no question", 'ask with `atlas ask "…"`, --file PATH, or `-` for standard input')
    if "\x00" in text:
        raise UsageError("the question holds a NUL character", "send text")
    return text.strip()


async def show_price(project: str | None, window: str, *, as_json: bool) -> None:
    """What a question would cost at most and usually, and what is left."""
    async with face() as reads:
        found = await reads.quote(await reads.project(project) if project else None, window)
    if as_json:
        say(dump(found))
        return
    show_rows(
        found["models"], {"model": "MODEL", "worst_usd": "AT MOST USD", "likely_usd": "LIKELY USD", "breaker": "BREAKER"},
        as_json=False, empty="no worker is alive, so nobody knows which models are called: run `atlas worker`",
        right=("worst_usd", "likely_usd"),
    )  # fmt: skip
    for row in found["left"] or []:
        unit = "USD" if row["unit"] == "usd" else row["unit"]
        most, left = (f"{float(row[name]):,.2f}" if unit == "USD" else f"{int(row[name]):,}" for name in ("most", "left"))
        say(f"{left} {unit} left of {most} this {row['period']} ({row['scope']})")


@runs
async def ask(
    question: Annotated[str | None, typer.Argument(help="The question; `-` reads standard input.", show_default=False)] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the question from a file.")] = None,
    parent: Annotated[str | None, typer.Option(help="An earlier task that this one goes on from.")] = None,
    project: Annotated[str | None, typer.Option(help="The project it belongs to.")] = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, help="Higher goes first.")] = None,
    task_id: Annotated[str | None, typer.Option(help="An id of your own: asking again with it asks once.")] = None,
    when: Annotated[str, typer.Option(help="soonest, or cheaper: 2h or 8h; then the reply does not stream.")] = "soonest",
    kind: Annotated[
        str | None, typer.Option(help="adr, answer, comparison, review or plan; without it, Atlas chooses.")
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Answer also what is decided already.")] = False,
    price: Annotated[bool, typer.Option("--price", help="Say what it would cost, and do not ask.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the id and leave.")] = False,
    stream: StreamFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Ask a question and follow the reply."""
    if when not in ("soonest", "2h", "8h"):
        raise UsageError(f"--when {when!r} is not known", "use soonest, 2h or 8h")
    from atlas.architect.kinds import KINDS  # imported here: it brings a Markdown parser

    if kind is not None and kind not in KINDS:
        raise UsageError(f"--kind {kind!r} is not known", f"use one of {', '.join(KINDS)}")
    if price:
        await show_price(project, when, as_json=as_json)
        return
    text = question_of(question, file)
    if task_id is not None:
        try:
            own: UUID | None = UUID(task_id)
        except ValueError:
            raise UsageError(f"{task_id!r} is not a UUID", "leave --task-id out, or give a UUID") from None
    else:
        own = None
    async with face() as reads:
        parent_id = str(await reads.find(parent)) if parent else None
        message = chat(text, task_id=own, parent_id=parent_id, project=project, priority=priority,
                       completion_window=None if when == "soonest" else when, kind=kind,
                       anew=anew or None)  # fmt: skip
        await send(reads, message, detach=detach, raw=stream, as_json=as_json)


async def send(reads: Tasks, message: dict[str, Any], *, detach: bool, raw: bool, as_json: bool) -> None:
    """Sends a question, and follows it unless somebody wants to leave."""
    sent = await reads.submit(message)
    found = UUID(str(sent["task_id"]))
    if not sent["created"]:
        tell(f"task {found} was asked before, and is {sent['state']}")
    if detach:
        say(dump({"task_id": found, "state": sent["state"], "created": sent["created"]}) if as_json else str(found))
        return
    tell(f"task {found}")
    await follow_to_end(reads, found, raw=raw, as_json=as_json)


async def follow_to_end(reads: Tasks, task_id: UUID, *, raw: bool, as_json: bool) -> None:
    """Shows a reply as it is written, then what it cost; ends with the exit code of how it ended."""
    following = show_stream(reads, task_id, quiet=as_json, raw=raw, worker=local_worker())
    task = await unless_interrupted(following, task_id, lambda: reads.cancel(task_id))
    if as_json:
        say(dump(task))
    if task["state"] == "completed":
        receipt(task)
    end_with(task)


@runs
async def tail(
    task: Annotated[str, typer.Argument(help="A task id, a prefix of one, or `last`.")] = "last",
    stream: StreamFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Follow a task's reply, from its beginning."""
    async with face() as reads:
        await follow_to_end(reads, await reads.find(task), raw=stream, as_json=as_json)


@runs
async def tasks(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000)] = 20,
    state: Annotated[str | None, typer.Option(help=f"One of {', '.join(STATES)}.")] = None,
    sender: Annotated[str | None, typer.Option(help="Only of this sender (key or e-mail).")] = None,
    project: Annotated[str | None, typer.Option(help="Only of this project (id or name).")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also control messages.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List questions, newest first."""
    if state is not None and state not in STATES:
        raise UsageError(f"state {state!r} is not known", f"use one of {', '.join(STATES)}")
    async with face() as reads:
        if project is not None:
            await reads.project(project)
        if sender is not None:
            sender = await reads.sender(sender)
        rows = await reads.tasks(limit=limit, state=state, sender=sender, project=project, every=every)
    columns = {
        "id": "ID", "state": "STATE", "wait_reason": "WAITS FOR", "model": "MODEL", "tokens": "TOKENS", "usd": "USD",
        "took": "TOOK", "queued_at": "QUEUED", "asker": "ASKER", "title": "QUESTION",
    }  # fmt: skip
    show_rows(
        rows, columns, as_json=as_json, empty='no task yet: ask with `atlas ask "…"`',
        right=("tokens", "usd", "took", "queued_at", "id"),
        rank=("id", "state", "title", "wait_reason", "asker", "queued_at", "usd", "took", "tokens", "model"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Visible:
    """What is rendered, with what would act on a terminal written out: Markdown may spell it as an entity, such as &#x202e;."""

    content: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.content, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


@runs
async def show(
    task: TaskArgument,
    audit: Annotated[bool, typer.Option("--audit", help="Also the audit's rows.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show a task: question, reply, attempts, calls."""
    async with face() as reads:
        found = await reads.task(await reads.find(task))
    if as_json:
        say(dump(found))
        return
    for name in ("id", "state", "wait_reason", "model", "attempts", "tokens", "usd", "queued_at", "took", "error_message"):
        if found[name] is not None:
            say(f"{name + ':':15}{found[name] if name == 'id' else cell(found[name], name)}")
    say(f"\n{found['question']}\n")
    show_rows(
        found["calls"],
        {
            "call": "CALL", "model": "MODEL", "state": "STATE", "reserved_tokens": "RESERVED", "input_tokens": "IN",
            "output_tokens": "OUT", "usd": "USD", "known": "KNOWN",
        },
        as_json=False, empty="no call yet",
    )  # fmt: skip
    for line in of_record(found["metadata"]):
        say(line)
    for warning in found["metadata"].get("warnings", []):
        complain(f"warning: {warning}")
    if found["reply"]:
        say()
        if sys.stdout.isatty():
            Console().print(_Visible(Markdown(found["reply"], hyperlinks=False)))
        else:
            say(found["reply"])
    if audit:
        show_rows(found["audit"], {"seq": "SEQ", "at": "AT", "event": "EVENT", "actor": "ACTOR", "detail": "DETAIL"},
                  as_json=False, empty="no audit")  # fmt: skip


@runs
async def cancel(task: TaskArgument, as_json: JsonFlag = False) -> None:
    """Cancel a task: at once when it is queued, by its worker when it runs."""
    async with face() as reads:
        found = await reads.find(task)
        before = (await reads.state(found))["state"]
        state = await reads.cancel(found)
    words = {"cancelled": "is cancelled", "running": "runs: its worker was told to stop", "queued": "will be cancelled"}
    said = f"was {before} before" if before in ENDED else words.get(state, f"is {state}")
    say(dump({"task_id": found, "state": state}) if as_json else f"task {found} {said}")


@runs
async def retry(task: TaskArgument, as_json: JsonFlag = False) -> None:
    """Retry a failed, cancelled, dead or waiting task."""
    async with face() as reads:
        found = await reads.find(task)
        state = await reads.retry(found)
    say(dump({"task_id": found, "state": state}) if as_json else f"task {found} is {state} again")


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (ask, tail, tasks, show, cancel, retry):
        app.command()(command)
