"""What can go wrong between a task and a model.

ModelError                what upstream did; `usage` is what the call is settled with
├── RateLimited           429: tried again after retry-after
├── UpstreamFailed        5xx, a refused connection: it cost nothing, and is tried again
│   ├── CallHeld          sent, and not answered: nobody knows yet whether it was made
│   ├── StreamCut         the stream broke after the response had begun: resumed where that is possible
│   └── WayLost           a response is known, and the way to it is broken: it is asked for again later
├── Pending               a response is known, and not written yet: it is asked for again later
├── ResponseGone          the provider does not have the response any more: a new one is generated, once
├── Unavailable           insufficient_quota, 401, 403: not tried again, the next model is
├── ModelMissing          model_not_found: its successor is called
├── ContextOverflow       a model with more room is called
├── BadRequest            the request is wrong: not tried again
│   └── NoWindow          no completion window can be asked for: the reply is asked for at once
└── NoText                the response ended without text: the next model is called
"""

from __future__ import annotations

from atlas.errors import AtlasError
from atlas.task import HELD, NOTHING_USED, JsonObject, Usage


class ModelError(AtlasError):
    """A call to a model failed."""

    outage = False
    """Whether upstream is to blame for all tasks alike, not this one."""

    kept = False
    """Whether the response stays with the task, to be asked for again: nothing is settled."""

    def __init__(self, message: str, *, code: str = "model_error", retry_after: float | None = None,
                 usage: Usage | None = NOTHING_USED) -> None:  # fmt: skip
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.terminal = False
        """The response itself ended so: there is nothing to resume."""
        self.usage = usage
        """What it cost; None where nobody will ever know: then all that was reserved counts."""


class RateLimited(ModelError):
    """The provider asks for patience. limits: what it said of them, as atlas.llm.port.RateLimits has it."""

    outage = True
    limits: tuple[JsonObject, ...] = ()


class UpstreamFailed(ModelError):
    """The provider, or the way to it, is broken."""

    outage = True


class CallHeld(UpstreamFailed):
    """The request was sent in full, and no answer came."""

    def __init__(self, message: str, *, code: str = "no_answer") -> None:
        super().__init__(message, code=code, usage=HELD)


class StreamCut(UpstreamFailed):
    """The stream broke after the response had begun."""


class WayLost(UpstreamFailed):
    """The way to a response that is known is broken."""

    kept = True


class Pending(ModelError):
    """A response that is known is not written yet."""

    kept = True


class ResponseGone(ModelError):
    """The provider does not have a response any more: what it cost nobody will know."""


class Unavailable(ModelError):
    """The provider does not serve this account now."""

    outage = True


class ModelMissing(ModelError):
    """There is no such model any more."""

    outage = True


class ContextOverflow(ModelError):
    """The input does not fit the model."""


class BadRequest(ModelError):
    """The provider rejects the request itself."""


class NoWindow(BadRequest):
    """The server does not support background responses, which a completion window needs."""


class NoText(ModelError):
    """The response ended without any text."""


class Returned(Exception):
    """The reservation put the task back into the queue; there is nothing left to do for this attempt."""


class Refused(AtlasError):
    """No model of the chain fits the budget."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code
