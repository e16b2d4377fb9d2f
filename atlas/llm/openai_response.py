"""A response of the Responses API: what Atlas reads of it, checked; and what its state means.

Fields as in openai.types.responses.Response, which has the whole. What a machine on the way answered instead, such as a sign-in
page with status 200, is an outage: a task must not fail by it, and a worker must not end.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atlas.llm.errors import ModelError, NoText, UpstreamFailed
from atlas.llm.openai_errors import Stage, of_code, of_malformed
from atlas.llm.port import Finished
from atlas.task import NOTHING_USED, JsonObject, Usage

TERMINAL = frozenset({"completed", "failed", "incomplete", "cancelled"})

Tokens = Annotated[int, Field(ge=0)]


class _Read(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class InputDetails(_Read):
    cached_tokens: Tokens | None = None
    cache_write_tokens: Tokens | None = None


class OutputDetails(_Read):
    reasoning_tokens: Tokens | None = None


class ReportedUsage(_Read):
    input_tokens: Tokens
    output_tokens: Tokens
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None


class OutputPart(_Read):
    type: str
    text: str | None = None
    refusal: str | None = None


class OutputItem(_Read):
    type: str
    content: tuple[OutputPart, ...] | None = Field(None, strict=False)


class Failure(_Read):
    code: str | None = None
    message: str | None = None


class Incomplete(_Read):
    reason: str | None = None


class ResponseEnd(_Read):
    """What is read of the last event of a stream, whose text came before it."""

    id: str
    status: str
    usage: ReportedUsage | None = None
    error: Failure | None = None
    incomplete_details: Incomplete | None = None
    service_tier: str | None = None

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL

    @property
    def used(self) -> Usage | None:
        """What the provider reports; None where it reports nothing (or zeros, which no answer costs)."""
        usage = self.usage
        if usage is None or not (usage.input_tokens or usage.output_tokens):
            return None
        details = usage.input_tokens_details or InputDetails()
        reasoning = (usage.output_tokens_details or OutputDetails()).reasoning_tokens or 0
        cached = min(details.cached_tokens or 0, usage.input_tokens)
        return Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=cached,
            cache_write_tokens=min(details.cache_write_tokens or 0, usage.input_tokens - cached),
            reasoning_tokens=min(reasoning, usage.output_tokens),
            tier=self.service_tier,
        )

    @property
    def cost(self) -> Usage | None:
        """What it has cost, once it is over; None where nobody knows. What failed upstream cost nothing, unless it says so."""
        return self.used or (NOTHING_USED if self.status == "failed" else None)

    def finished(self, refused: bool) -> Finished:
        """The end of a response that is over, by its status rather than by an event's name: servers differ in the latter.

        refused: a refusal was streamed. Raises the ModelError of one that did not end with a text.
        """
        failure: ModelError | None = None
        if self.status == "failed":
            error = self.error or Failure()
            failure = of_code(error.code, error.message or "the response failed", self.cost)
        elif self.status == "cancelled":
            failure = UpstreamFailed(f"{self.id} was cancelled upstream", code="cancelled_upstream", usage=self.used)
        if failure is not None:
            failure.terminal = True
            raise failure
        reason = self.incomplete_details.reason if self.incomplete_details else None
        if self.status == "incomplete" and reason not in (None, "max_output_tokens", "content_filter"):
            raise NoText(f"{self.id} is incomplete ({reason})", code="incomplete", usage=self.used)
        return Finished(
            usage=self.used,
            truncated=self.status == "incomplete" and reason != "content_filter",
            refused=refused or reason == "content_filter",
        )


class ReadResponse(ResponseEnd):
    """A whole response, as it is asked for."""

    output: tuple[OutputItem, ...] = Field(strict=False)

    @property
    def text(self) -> tuple[str, bool]:
        """Its text, and whether that is a refusal."""
        parts = [part for item in self.output if item.type == "message" for part in item.content or ()]
        refusals = [part.refusal or "" for part in parts if part.type == "refusal"]
        return "".join(part.text or "" for part in parts if part.type == "output_text") or "".join(refusals), bool(refusals)


def read_response(body: bytes, name: str, stage: Stage) -> ReadResponse:
    """A response from the body of an answer. Raises the ModelError of an answer that cannot be read."""
    try:
        return ReadResponse.model_validate_json(body)
    except ValidationError as error:
        raise of_malformed(_first(error), name, stage) from error


def read_end(response: JsonObject, name: str, stage: Literal["call", "stream"]) -> ResponseEnd:
    """The response of a stream's last event. Raises the ModelError of one that cannot be read."""
    try:
        return ResponseEnd.model_validate(response)
    except ValidationError as error:
        raise of_malformed(_first(error), name, stage) from error


def _first(error: ValidationError) -> ValueError:
    """What was wrong first, without the value: it may be text of a task."""
    found: Any = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in found["loc"])
    return ValueError(f"{where}: {found['msg']}" if where else str(found["msg"]))
