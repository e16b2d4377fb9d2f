"""One event of a stream of the Responses API: what is needed of it, checked as far as it is read."""

from __future__ import annotations

import json
from typing import Any, Literal

import orjson

from atlas.llm.openai_errors import of_code, of_malformed
from atlas.task import JsonObject

NEEDED = {
    "response.output_text.delta": ("delta", str), "response.refusal.delta": ("delta", str),
    **{f"response.{name}": ("response", dict) for name in (
        "created", "queued", "in_progress", "completed", "incomplete", "failed", "cancelled")},
}  # fmt: skip
"""What is read of an event of a type, and of which kind it is; openai.types.responses has the whole."""


def read_event(data: bytes, name: str, stage: Literal["call", "stream"]) -> JsonObject:
    """An event, checked as far as it is read. Raises the ModelError of one that tells of an error, or is malformed."""
    try:
        event: JsonObject = _loads(data)
        kind = event.setdefault("type", "")
    except (ValueError, AttributeError) as error:
        raise of_malformed(error, name, stage) from error
    if event.get("error") or kind == "error":
        told = event["error"] if isinstance(event.get("error"), dict) else event
        raise of_code(told.get("code"), f"{name}: {told.get('message') or 'an error occurred during streaming'}", None)
    if (needed := NEEDED.get(kind)) is not None:
        field, of = needed
        if not isinstance(event.get(field), of) or (of is dict and not isinstance(event[field].get("id"), str)):
            raise of_malformed(ValueError(f"{kind} without its {field}"), name, stage)
    return event


def _loads(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        # half of a surrogate pair, whose other half comes with the next delta, is refused there
        return json.loads(data)
