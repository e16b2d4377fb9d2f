"""What a failed call of OpenAI's client means: what it cost, who is to blame, what comes next. Pure.

By where the call broke: before the request was written in full it cost nothing; after, without an answer, nobody knows yet.
By who answered: the provider's own error costs nothing; of a gateway's bare one nobody knows whether the provider got the call.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal

import httpx2
import openai

from atlas.llm.errors import (
    BadRequest,
    CallHeld,
    ContextOverflow,
    ModelError,
    ModelMissing,
    RateLimited,
    ResponseGone,
    StreamCut,
    Unavailable,
    UpstreamFailed,
    WayLost,
)
from atlas.llm.sse import EventTooLong
from atlas.llm.transport import NEVER_SENT, NotSent
from atlas.task import JsonObject, Usage

Stage = Literal["call", "stream", "response", "question"]
"""call: a response is being made. stream: it has begun. response: one that is known is asked for. question: costs nothing."""

_NOT_FORWARDED = frozenset({503, 521, 522, 523, 525, 526})
"""Bare answers of a gateway that never reached the provider: no backend, or no connection to it."""

_KINDS: dict[str, type[ModelError]] = {
    "context_length_exceeded": ContextOverflow,
    "string_above_max_length": ContextOverflow,
    "rate_limit_exceeded": RateLimited,
    "insufficient_quota": Unavailable,
    "model_not_found": ModelMissing,
    "invalid_prompt": BadRequest,
}


@asynccontextmanager
async def translated(name: str, stage: Stage) -> AsyncIterator[None]:
    """Turns the client's exceptions into ModelErrors. name: the model, or the response."""
    try:
        yield
    except openai.APIStatusError as error:
        raise of_status(error, name, stage) from error
    except (openai.APITimeoutError, openai.APIConnectionError) as error:
        cause = error.__cause__ or error
        raise of_connection(cause, name, stage) from error
    except httpx2.RequestError as error:
        # reading a stream raises it bare
        raise of_connection(error, name, stage) from error
    except openai.APIError as error:
        # an error event within a stream
        raise of_code(error.code, f"{name}: {error.message}", None) from error
    except (json.JSONDecodeError, openai.OpenAIError, UnicodeDecodeError, EventTooLong) as error:
        raise of_malformed(error, name, stage) from error


def of_malformed(error: Exception, name: str, stage: Stage) -> ModelError:
    """The error of an answer that cannot be read."""
    text = f"{name}: the answer cannot be read ({error})"
    if stage == "response":
        return WayLost(text, code="malformed")
    if stage == "call":
        return CallHeld(text, code="malformed")
    return UpstreamFailed(text, code="malformed", usage=None)


def of_connection(cause: BaseException, name: str, stage: Stage) -> ModelError:
    """The error of a connection that failed, by where it broke."""
    said = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
    slow = isinstance(cause, (httpx2.TimeoutException, TimeoutError))
    if stage == "response":
        return WayLost(f"{name} cannot be asked for ({said})", code="timeout" if slow else "connection")
    if stage == "stream":
        return StreamCut(f"{name}: the connection broke ({said})", code="timeout" if slow else "stream_cut", usage=None)
    if stage == "question" or isinstance(cause, (NotSent, *NEVER_SENT)):
        return UpstreamFailed(f"{name}: cannot connect ({said})", code="timeout" if slow else "connection")
    return CallHeld(f"{name}: the request was sent, and no answer came ({said})", code="timeout" if slow else "no_answer")


def of_status(error: openai.APIStatusError, name: str, stage: Stage) -> ModelError:
    """The error of an HTTP status, by who answered."""
    text = f"{name}: {error.message}"
    code = error.code or f"http_{error.status_code}"
    after = retry_after(error)
    own = isinstance(error.body, dict) and "message" in error.body
    if stage == "response":
        if error.status_code == 404:
            return ResponseGone(f"{name} is gone: {error.message}", code="response_gone", usage=None)
        if error.status_code in (400, 409):
            return BadRequest(text, code=code)
        return WayLost(text, code=code, retry_after=after)
    match error.status_code:
        case 429 if error.code == "insufficient_quota":
            return Unavailable(text, code=code)
        case 429:
            limited = RateLimited(text, code=code, retry_after=after)
            limited.limits = limits_of(error.response.headers)
            return limited
        case 401 | 403:
            return Unavailable(text, code=code)
        case 404 if error.code == "model_not_found":
            return ModelMissing(text, code=code)
        case 408 | 409:
            return UpstreamFailed(text, code=code, retry_after=after)
        case status if status >= 500:
            if own or status in _NOT_FORWARDED or stage == "question":
                return UpstreamFailed(text, code=code, retry_after=after)
            return CallHeld(f"{name}: a gateway answered {status} in the provider's place", code=code)
        case _:
            kind = _KINDS.get(error.code or "", BadRequest)
            return kind(text, code=error.code or "bad_request")


def of_code(code: str | None, message: str, usage: Usage | None) -> ModelError:
    """The error of a code in a response or an event. Its cost is unknown unless a usage came with it."""
    return _KINDS.get(code or "", UpstreamFailed)(message, code=code or "upstream", usage=usage)


def retry_after(error: openai.APIStatusError) -> float | None:
    """Seconds that the provider asks to wait; None where it does not."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = error.response.headers.get(name)
        try:
            if value is not None:
                return max(0.0, float(value)) * scale
        except ValueError:
            continue
    return None


def limits_of(headers: Mapping[str, str]) -> tuple[JsonObject, ...]:
    """The x-ratelimit-* headers, as atlas.record_rate takes them."""
    rows = []
    for unit in ("requests", "tokens"):
        try:
            row = {"unit": unit, "per_minute": int(headers[f"x-ratelimit-limit-{unit}"]),
                   "remaining": int(headers[f"x-ratelimit-remaining-{unit}"])}  # fmt: skip
        except (KeyError, ValueError):
            continue
        rows.append(row)
    return tuple(rows)
