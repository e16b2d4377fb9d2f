"""The names of spans and of their attributes, in one place.

Those that begin with gen_ai are OpenTelemetry's conventions for generative AI, which are not stable: when they change, this
file changes and no other (github.com/open-telemetry/semantic-conventions-genai). They have no name for money: Langfuse and
OpenLIT look for it in `gen_ai.usage.cost`. Those that begin with messaging are OpenTelemetry's for queues.
"""

from __future__ import annotations

from typing import Any

from atlas.task import ClaimedTask, Usage
from atlas.tracing.port import Attributes

COST = "gen_ai.usage.cost"
"""US dollars, settled: what atlas.spend says."""
TIME_TO_FIRST_TEXT = "gen_ai.response.time_to_first_chunk"
"""Seconds."""
OUTCOME = "atlas.outcome"
KNOWN = "atlas.usage.known"
DOCUMENTS = "atlas.retrieval.documents"
RETRIEVAL = "retrieval"


def attempt(task: ClaimedTask) -> tuple[str, Attributes]:
    """The span of one attempt at a task."""
    what = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "architect"} if task.kind == "chat" else {}
    name = "invoke_agent architect" if task.kind == "chat" else "process control"
    return name, what | {
        "messaging.operation.name": "process",
        "messaging.destination.name": "architect_in",
        "messaging.message.id": str(task.task_id),
        "atlas.attempt.id": str(task.attempt_id),
        "atlas.attempt.number": task.attempt,
        "atlas.project.id": str(task.project_id),
    }


def retrieval() -> Attributes:
    """The span of the search of what a team knows."""
    return {"gen_ai.operation.name": "retrieval"}


def call(model: str, *, max_output_tokens: int | None = None, tier: str | None = None) -> tuple[str, Attributes]:
    """The span of a call of a model; without its limits where it takes up what another attempt began."""
    found: dict[str, Any] = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": model,
        "gen_ai.request.stream": True,
    }  # fmt: skip
    if max_output_tokens is not None:
        found["gen_ai.request.max_tokens"] = max_output_tokens
    if tier is not None:
        found["openai.request.service_tier"] = tier
    return f"chat {model}", found


def answered(usage: Usage | None, *, response: str | None, truncated: bool, refused: bool) -> Attributes:
    """What a call that ended with a text has used."""
    reason = "content_filter" if refused else "length" if truncated else "stop"
    found: dict[str, Any] = {"gen_ai.response.finish_reasons": (reason,)} | used(usage)
    if response is not None:
        found["gen_ai.response.id"] = response
    return found


def used(usage: Usage | None) -> dict[str, Any]:
    """Tokens, where the provider said them."""
    if usage is None or usage.known not in ("reported", "estimated"):
        return {}
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }


def delivery(destination: str, *, kind: str, event: str, task: str) -> tuple[str, Attributes]:
    """The span of an event on its way to a destination. kind: pubsub or webhook."""
    return f"send {destination}", {
        "messaging.operation.name": "send",
        "messaging.system": "gcp_pubsub" if kind == "pubsub" else "webhook",
        "messaging.destination.name": destination,
        "messaging.message.id": event,
        "messaging.message.conversation_id": task,
    }
