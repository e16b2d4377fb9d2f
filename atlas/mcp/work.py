"""Long work by the protocol's Tasks extension, over Atlas's own tasks: they last, so a client goes on after any restart.

Of io.modelcontextprotocol/tasks, as of 2026-07-28: tasks/get, tasks/update and tasks/cancel. The id is that of the Atlas task,
and the database says who may read it.
"""

from __future__ import annotations

from typing import Any, Literal

from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver.server import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolResult, RequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, Field, ValidationError

from atlas.errors import AtlasError, NotFoundError, UsageError
from atlas.mcp import texts
from atlas.mcp.tools import LONGEST_QUESTION, Tools, answer, refused
from atlas.task import JsonObject

IDENTIFIER = "io.modelcontextprotocol/tasks"
POLL_MS = 1_000
_STATES = {
    "queued": "working", "running": "working", "needs_input": "input_required", "completed": "completed",
    "cancelled": "cancelled", "failed": "completed", "dead_lettered": "completed",
}  # fmt: skip
"""What a task of the protocol is for each state of Atlas's; one that failed is completed with a result that is an error."""


class TaskParams(RequestParams):
    """Which task."""

    task_id: str = Field(alias="taskId")


class UpdateParams(TaskParams):
    """What was answered to a task that asked back."""

    input_responses: dict[str, Any] = Field(alias="inputResponses")


class AskArguments(BaseModel):
    """Arguments of the tool ask that agree to its price."""

    question: str = Field(min_length=3, max_length=LONGEST_QUESTION)
    at_most_usd: float = Field(ge=0)
    kind: Literal["adr", "answer", "comparison", "review", "plan"] | None = None
    anew: bool = False
    project: str | None = Field(None, max_length=100)


class LongWork(Extension):
    """Answers `ask` with a task where the client knows them."""

    identifier = IDENTIFIER

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def methods(self) -> list[MethodBinding]:
        versions = frozenset(MODERN_PROTOCOL_VERSIONS)
        return [
            MethodBinding("tasks/get", TaskParams, self.get, protocol_versions=versions),
            MethodBinding("tasks/cancel", TaskParams, self.cancel, protocol_versions=versions),
            MethodBinding("tasks/update", UpdateParams, self.update, protocol_versions=versions),
        ]

    async def get(self, context: Any, params: Any) -> JsonObject:
        """The task as it stands, with its result where it is over."""
        require_client_extension(context, IDENTIFIER)
        found = await self._task(params.task_id)
        wire = _wire(found)
        if wire["status"] == "completed":
            done = answer(texts.of_task(found, f"atlas://tasks/{found['id']}"), task_id=str(found["id"]), state=found["state"])
            if found["state"] != "completed":
                done = CallToolResult(content=done.content, is_error=True)
            wire["result"] = done.model_dump(mode="json", by_alias=True, exclude_none=True)
        return wire

    async def cancel(self, context: Any, params: Any) -> JsonObject:
        """Asks for a task's end."""
        require_client_extension(context, IDENTIFIER)
        found = await self._task(params.task_id)
        try:
            async with self._tools.caller() as tasks:
                await tasks.cancel(found["id"])
        except AtlasError as error:
            raise MCPError(code=INVALID_PARAMS, message=error.line) from error
        return {}

    async def update(self, context: Any, params: Any) -> JsonObject:
        """Takes the answer to what the task asked back: the first text among the responses."""
        require_client_extension(context, IDENTIFIER)
        found = await self._task(params.task_id)
        said = next((value for value in params.input_responses.values() if isinstance(value, str) and value.strip()), None)
        if said is None:
            raise MCPError(code=INVALID_PARAMS, message="answer with a text")
        try:
            async with self._tools.caller() as tasks:
                await tasks.answer(found["id"], said)
        except AtlasError as error:
            raise MCPError(code=INVALID_PARAMS, message=error.line) from error
        return {}

    async def intercept_tool_call(self, params: Any, context: Any, call_next: Any) -> Any:
        """A call of `ask` that agrees to the price becomes a task, which the database holds before the client hears of it."""
        known = context.session.client_capabilities
        declared = known is not None and IDENTIFIER in (known.extensions or {})
        arguments = params.arguments or {}
        if params.name != "ask" or not declared or context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            return await call_next(context)
        if arguments.get("at_most_usd") is None:
            return await call_next(context)
        try:
            asked = AskArguments.model_validate(arguments)
        except ValidationError:
            # the tool's own check says what is wrong
            return await call_next(context)
        try:
            async with self._tools.caller() as tasks:
                sent = await self._tools.send(
                    tasks,
                    asked.question,
                    asked.at_most_usd,
                    kind=asked.kind,
                    anew=asked.anew,
                    project=asked.project,
                )
                if isinstance(sent, CallToolResult):
                    return sent
                found = await tasks.task(sent["task_id"])
        except AtlasError as error:
            return refused(error)
        return {"resultType": "task", **_wire(found)}

    async def _task(self, task_id: str) -> JsonObject:
        try:
            async with self._tools.caller() as tasks:
                return await tasks.task(await tasks.find(task_id))
        except (NotFoundError, UsageError) as error:
            raise MCPError(code=INVALID_PARAMS, message="Failed to retrieve task: Task not found") from error
        except AtlasError as error:
            raise MCPError(code=INVALID_PARAMS, message=error.line) from error


def _wire(found: JsonObject) -> JsonObject:
    ended = found.get("finished_at") or found["queued_at"]
    return {
        "taskId": str(found["id"]), "status": _STATES[found["state"]], "createdAt": found["queued_at"].isoformat(),
        "lastUpdatedAt": ended.isoformat(), "ttlMs": None, "pollIntervalMs": POLL_MS,
        **({"statusMessage": str(found["reply"])} if found["state"] == "needs_input" else {}),
        **({"statusMessage": str(found["wait_reason"])} if found["wait_reason"] else {}),
    }  # fmt: skip
