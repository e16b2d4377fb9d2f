"""What can go wrong between a task and a model.

ModelError                what upstream did; `spent` says whether it may have cost something
├── RateLimited           429: tried again after retry-after
├── UpstreamFailed        5xx, a refused or lost connection, a time-out: tried again
│   └── StreamCut         the stream broke after the response had begun: resumed where that is possible
├── Unavailable           insufficient_quota, 401, 403: not tried again, the next model is
├── ModelMissing          model_not_found: its successor is called
├── ContextOverflow       a model with more room is called
├── BadRequest            the request is wrong: not tried again
└── NoText                the response ended without text: the next model is called
"""

from __future__ import annotations

from atlas.errors import AtlasError
from atlas.task import NOTHING_USED, Usage


class ModelError(AtlasError):
    """A call to a model failed."""

    outage = False
    """Whether upstream is to blame for all tasks alike, not this one. What may have cost something is never tried
    without counting it, whoever is to blame."""

    def __init__(self, message: str, *, code: str = "model_error", retry_after: float | None = None,
                 usage: Usage | None = NOTHING_USED) -> None:  # fmt: skip
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.terminal = False
        """The response itself ended so: there is nothing to resume."""
        self.usage = usage
        """What it cost; None where nobody knows."""


class RateLimited(ModelError):
    """The provider asks for patience."""

    outage = True


class UpstreamFailed(ModelError):
    """The provider, or the way to it, is broken."""

    outage = True


class StreamCut(UpstreamFailed):
    """The stream broke after the response had begun."""


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


class NoText(ModelError):
    """The response ended without a word."""


class Returned(Exception):
    """The reservation put the task back into the queue; there is nothing left to do for this attempt."""


class ResponseGone(AtlasError):
    """The response of a lost attempt cannot be resumed; it is settled, and a new attempt begins afresh."""


class Refused(AtlasError):
    """No model of the chain fits the budget."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code
