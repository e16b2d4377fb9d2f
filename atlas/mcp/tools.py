"""The tools: each opens the caller's face of Atlas, does one thing, and answers in a few lines."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Annotated, Any, Literal, TypeVar, cast
from uuid import UUID

from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from atlas.errors import AtlasError, NotFoundError, UsageError
from atlas.mcp import texts
from atlas.mcp.access import TOKEN, Open
from atlas.messages import chat
from atlas.record import stale
from atlas.task import JsonObject
from atlas.tasks.port import Tasks

LONGEST_QUESTION = 100_000

Project = Annotated[
    str | None, Field(description="A project's name or id; needed only where you are in several.", max_length=100)
]
DecisionNumber = Annotated[int, Field(description="The decision's number: 7 for ADR-7.", ge=0, le=2**31 - 1)]
TaskId = Annotated[
    str, Field(description="The task's id, or a unique beginning of at least 4 characters.", min_length=4, max_length=100)
]
ItemNumber = Annotated[int, Field(description="The work item's number, from 1.", ge=1, le=200)]
Work = TypeVar("Work", bound=Callable[..., Coroutine[Any, Any, CallToolResult]])


class Deviation(BaseModel):
    """Where work was done otherwise than a constraint asks for."""

    constraint: str = Field(description="the constraint, as the decision has it", max_length=2000)
    reason: str = Field(description="why it does not hold there", max_length=2000)


def answer(text: str, **structured: Any) -> CallToolResult:
    """A tool's answer, for people and for programs."""
    return CallToolResult(content=[TextContent(text=text)], structured_content=structured or None)


def refused(error: AtlasError) -> CallToolResult:
    """An error that the caller can do something about: what it is, and the next act."""
    return CallToolResult(content=[TextContent(text=error.line)], is_error=True)


def tool(work: Work) -> Work:
    """A tool whose errors are answers."""

    @wraps(work)
    async def guarded(*arguments: Any, **named: Any) -> CallToolResult:
        try:
            found: CallToolResult = await work(*arguments, **named)
        except AtlasError as error:
            return refused(error)
        return found

    return cast("Work", guarded)


class Tools:
    """What a client may call. opened: of atlas.mcp.access."""

    def __init__(self, opened: Open) -> None:
        self._open = opened

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Tasks]:
        """The face of whoever sends the request that is being answered."""
        async with self._open(TOKEN.get()) as tasks:
            yield tasks

    @tool
    async def ask(
        self,
        question: Annotated[str, Field(description="The design question.", min_length=3, max_length=LONGEST_QUESTION)],
        at_most_usd: Annotated[
            float | None,
            Field(description="What it may cost at most. Leave it out to hear the price first: nothing is asked then.", ge=0),
        ] = None,
        kind: Annotated[
            Literal["adr", "answer", "comparison", "review", "plan"] | None, Field(description="Leave it out: Atlas chooses.")
        ] = None,
        anew: Annotated[bool, Field(description="Answer also what is decided already.")] = False,
        project: Project = None,
    ) -> CallToolResult:
        """Ask the architect. First call it without at_most_usd to hear the price, then with it. What is decided already is
        answered from the decision, for nothing. A reply takes a minute or so: follow it with get_task."""
        async with self.caller() as tasks:
            sent = await self.send(tasks, question, at_most_usd, kind=kind, anew=anew, project=project)
            if isinstance(sent, CallToolResult):
                return sent
            return answer(
                f"Asked: task {sent['task_id']}. See get_task in some seconds.",
                task_id=str(sent["task_id"]),
                state=sent["state"],
            )

    async def send(
        self, tasks: Tasks, question: str, at_most_usd: float | None, *, kind: str | None, anew: bool, project: str | None
    ) -> JsonObject | CallToolResult:
        """The message's receipt; the price where it was not agreed to."""
        quote = await tasks.quote(await tasks.project(project) if project else None, "soonest")
        price = texts.of_price(quote)
        models = quote.get("models") or []
        # a fallback may be dearer than the first
        known = bool(models) and all(row["worst_usd"] is not None for row in models)
        worst = max(row["worst_usd"] for row in models) if known else None
        if at_most_usd is None:
            return answer(
                f"{price} To ask it, call ask again with at_most_usd.", worst_usd=None if worst is None else float(worst)
            )
        if worst is None:
            return refused(
                UsageError(f"nobody knows what it may cost: {price}", "give the models prices, or ask by `atlas ask`")
            )
        if float(worst) > at_most_usd:
            return refused(UsageError(f"it may cost ${float(worst):.4f}, more than at_most_usd", "raise it, or ask for less"))
        return await tasks.submit(chat(question, kind=kind, anew=anew or None, project=project))

    @tool
    async def get_task(self, task: TaskId) -> CallToolResult:
        """Where a task stands, why it waits, what it cost, and its reply when it is completed."""
        async with self.caller() as tasks:
            found = await tasks.task(await tasks.find(task))
        return answer(texts.of_task(found, f"atlas://tasks/{found['id']}"), task_id=str(found["id"]), state=found["state"])

    @tool
    async def answer(
        self, task: TaskId, text: Annotated[str, Field(description="The answer.", min_length=1, max_length=20_000)]
    ) -> CallToolResult:
        """Answer what a task asked back (its state is needs_input); it goes on then."""
        async with self.caller() as tasks:
            found = await tasks.find(task)
            state = await tasks.answer(found, text)
        return answer(f"Task {found} is {state}.", task_id=str(found), state=state)

    @tool
    async def search(
        self,
        query: Annotated[str, Field(description="What to look for.", min_length=2, max_length=8_000)],
        limit: Annotated[int, Field(ge=1, le=20)] = 5,
        project: Project = None,
    ) -> CallToolResult:
        """Search what the team has written: documents, code, accepted decisions."""
        async with self.caller() as tasks:
            rows = await tasks.search(query, limit=limit, project=await tasks.project(project) if project else None)
        if not rows:
            return answer("Nothing that you may read speaks of this.")
        shown = [
            f"{row['source']}:{row['start_line']}-{row['end_line']} ({row['heading']}) atlas://sources/{row['sha256']}\n"
            + texts.cut(row["text"], f"atlas://sources/{row['sha256']}", 800)
            for row in rows
        ]
        return answer("\n\n".join(shown))

    @tool
    async def decisions(
        self,
        paths: Annotated[
            list[str] | None,
            Field(
                description="Files that you are about to change, relative to the repository; without them, all decisions.",
                max_length=500,
            ),
        ] = None,
        status: Literal["proposed", "accepted", "rejected", "deprecated", "superseded"] = "accepted",
        project: Project = None,
    ) -> CallToolResult:
        """The decisions that govern files, with their constraints: call it before you change them, and obey."""
        async with self.caller() as tasks:
            rows = await tasks.decisions(project=await tasks.project(project) if project else None, status=status)
        holding = [row for row in rows if paths is None or stale.governs(row["paths"], paths)]
        return answer(texts.cut(texts.of_decisions(holding), "get_decision"), numbers=[row["number"] for row in holding])

    @tool
    async def get_decision(self, number: DecisionNumber, project: Project = None) -> CallToolResult:
        """One decision: whether it still holds, what it binds, where it was not kept, and its record."""
        async with self.caller() as tasks:
            row, text = await self.decision(tasks, number, project)
            deviations = await tasks.deviations(row["project_id"], row["number"])
        link = f"atlas://decisions/{row['project']}/{row['number']}"
        return answer(
            texts.of_decision(row, text, deviations, link), number=row["number"], status=row["status"],
            superseded_by=row["superseded_by"], task_id=str(row["task_id"]) if row["task_id"] else None,
        )  # fmt: skip

    async def decision(self, tasks: Tasks, number: int, project: str | None) -> tuple[JsonObject, str]:
        """A decision and its record. Raises NotFoundError, and UsageError where several projects have this number."""
        rows = await tasks.decisions(project=await tasks.project(project) if project else None, number=number)
        if not rows:
            raise NotFoundError(f"no decision ADR-{number}", "the tool decisions lists them")
        if len(rows) > 1:
            raise UsageError(f"ADR-{number} is in several projects ({', '.join(row['project'] for row in rows)})", "name one")
        return rows[0], await tasks.record(rows[0]["project_id"], number)

    @tool
    async def check(
        self,
        paths: Annotated[
            list[str], Field(description="Files that were changed, relative to the repository.", min_length=1, max_length=500)
        ],
        project: Project = None,
    ) -> CallToolResult:
        """What to verify before a change is done: the constraints that govern these files, the commands that check them (run
        them yourself, in your checkout), and constraints that contradict each other."""
        async with self.caller() as tasks:
            rows = await tasks.decisions(project=await tasks.project(project) if project else None, status="accepted")
        holding = [row for row in rows if stale.governs(row["paths"], paths)]
        commands = list(dict.fromkeys(command for row in holding for command in row["checks"]))
        lines = [texts.of_decisions(holding)]
        if commands:
            lines += ["", "Run:", *(f"- {command}" for command in commands)]
        if found := stale.conflicts(holding):
            lines += [
                "",
                "These contradict each other; ask before you choose:",
                *(f"- ADR-{one.number}, ADR-{one.other}: {one.text}" for one in found),
            ]
        return answer("\n".join(lines), numbers=[row["number"] for row in holding], commands=commands)

    @tool
    async def work_items(
        self,
        task: TaskId,
        item: Annotated[ItemNumber | None, Field(description="Read this one; without it, list them.")] = None,
    ) -> CallToolResult:
        """The work items of a decision's task or of a plan, with how far each is; or one of them, whole."""
        async with self.caller() as tasks:
            found = await tasks.find(task)
            rows = await tasks.work_items(found)
        if item is None:
            return answer(texts.of_items(rows, str(found)), items=[_plain(row) for row in rows])
        if item > len(rows):
            raise NotFoundError(f"task {found} has no work item {item}", f"it has {len(rows)}")
        return answer(texts.of_item(rows[item - 1]), **_plain(rows[item - 1]))

    @tool
    async def take_work_item(self, task: TaskId, item: ItemNumber) -> CallToolResult:
        """Say that you work on an item from now on, before you begin; nobody else can take it then."""
        async with self.caller() as tasks:
            found = await tasks.find(task)
            await tasks.take_work_item(found, item)
            rows = await tasks.work_items(found)
        row = rows[item - 1]
        return answer(f"It is yours ({row['decision'] or 'a plan'}).\n\n{texts.of_item(row)}", **_plain(row))

    @tool
    async def report_work_item(
        self,
        task: TaskId,
        item: ItemNumber,
        state: Annotated[Literal["taken", "done", "blocked", "dropped"], Field(description="How far it is.")],
        commit: Annotated[str | None, Field(description="The commit that does it.", pattern=r"^[0-9a-f]{7,64}$")] = None,
        note: Annotated[str | None, Field(description="What others should know.", max_length=4_000)] = None,
        deviations: Annotated[
            list[Deviation],
            Field(description="Constraints that you did not keep, and why; recorded on the decision.", max_length=50),
        ] = [],  # noqa: B006  never changed: the protocol's server reads the default
    ) -> CallToolResult:
        """Report how far an item is: its state, the commit, and every constraint that you did not keep. Says whether the
        decision changed since you took the item."""
        async with self.caller() as tasks:
            found = await tasks.find(task)
            said = await tasks.report_work_item(
                found, item, state, commit=commit, note=note, deviations=[one.model_dump() for one in deviations]
            )
        lines = [f"Item {item} is {said['state']}."]
        if said.get("changed"):
            lines.append(f"The decision changed: {said['changed']}.")
        return answer(" ".join(lines), **said)

    async def read_decision(self, project: str, number: str) -> str:
        """A resource: the record of a decision."""
        async with self.caller() as tasks:
            _, text = await self.decision(tasks, _whole(number), project)
        return text

    async def read_task(self, task: str) -> str:
        """A resource: the reply of a task."""
        async with self.caller() as tasks:
            found = await tasks.task(await tasks.find(task))
        return str(found["reply"] or "")

    async def read_source(self, sha256: str) -> str:
        """A resource: a passage, and where it stands."""
        async with self.caller() as tasks:
            rows = await tasks.read_source(sha256)
        if not rows:
            raise NotFoundError(f"no source {sha256[:64]}", "search names those that you may read")
        places = ", ".join(f"{row['source']}:{row['start_line']}-{row['end_line']}" for row in rows)
        return f"{places}\n\n{rows[0]['text']}"


def _whole(number: str) -> int:
    if not re.fullmatch(r"\d{1,9}", number):
        raise UsageError(f"{number[:20]!r} is not a decision", "give its number, such as 7")
    return int(number)


def _plain(row: JsonObject) -> JsonObject:
    """A row as JSON has it, without the item's text."""
    kept = {name: value for name, value in row.items() if name != "item" and value is not None}
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else str(value) if isinstance(value, UUID) else value
        for name, value in kept.items()
    }
