"""One generated text: which models are tried, what is reserved and settled, when a call is made again.

ModelError                what upstream did; `spent` says whether it may have cost something
├── RateLimited           429: tried again after retry-after
├── UpstreamFailed        5xx, a refused or lost connection, a time-out: tried again
│   └── StreamCut         the stream broke after the response had begun: taken up where that is possible
├── Unavailable           insufficient_quota, 401, 403: not tried again, the next model is
├── ModelMissing          model_not_found: its successor is called
├── ContextOverflow       a model with more room is called
├── BadRequest            the request is wrong: not tried again
└── NoText                the response ended without text: the next model is called
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from atlas.budget import output_limit
from atlas.errors import AtlasError
from atlas.metrics import Metrics
from atlas.models import Chain, Model, larger
from atlas.ports import Delta, Finished, Generator, ModelCall, ModelEvent, Progress, Started
from atlas.task import NOTHING_USED, Carried, ClaimedTask, JsonObject, Usage
from atlas.tokens import MESSAGE_OVERHEAD, Vocabularies, with_margin

log = logging.getLogger("atlas.generation")

LONGEST_WAIT = 30.0
"""Seconds that a retry-after is waited for within an attempt; a longer one goes to the next model."""


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


class Refused(AtlasError):
    """No model of the chain fits the budget."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A generated text and how it came about."""

    text: str
    model: Model
    call: int
    usage: Usage | None
    truncated: bool
    refused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedCall:
    """A call that ended with a text, not settled yet."""

    call: int
    spend_id: int
    reserved_tokens: int
    usage: Usage | None


@dataclass(slots=True)
class Run:
    """What an attempt has done so far. Mutable: the one place that counts its calls."""

    task: ClaimedTask
    per_run: int
    next_call: int = 0
    next_generation: int = 0
    held_tokens: int = 0
    open_response: str | None = None
    open_call: int | None = None
    finished: FinishedCall | None = None
    """The call that gave the text: settled when the attempt ends, or before the next call."""

    @property
    def usages(self) -> dict[str, JsonObject]:
        """What the end of the attempt settles; a call that is missing here counts in full."""
        if self.finished is None or self.finished.usage is None:
            return {}
        return {str(self.finished.call): self.finished.usage.as_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """The calls that move money, as the worker batches them."""

    reserve: Callable[[JsonObject], Awaitable[JsonObject]]
    settle: Callable[[int, Usage | None], Awaitable[None]]


class Generation:
    """Generates texts for runs, over one chain of models."""

    def __init__(
        self,
        *,
        generator: Generator,
        money: Money,
        progress: Progress,
        learned: Callable[[Model, ModelError | None], Awaitable[None]],
        vocabularies: Vocabularies,
        metrics: Metrics,
    ) -> None:
        self._generator = generator
        self._money = money
        self._progress = progress
        self._learned = learned
        self._vocabularies = vocabularies
        self._metrics = metrics

    async def generate(self, run: Run, call: ModelCall, chain: Chain, *, may_wait: bool = True) -> Text:
        """The text of the first model of the chain that gives one.

        Raises Returned when the reservation put the task back, Refused when no model fits the budget, else the last
        ModelError.
        """
        failure: ModelError | Refused | None = None
        models = list(chain.models)
        now = datetime.now(UTC)
        while models:
            model = models.pop(0)
            if model.open_until and model.open_until > now and models:
                log.info("%s is passed over: its breaker is open", model.name)
                continue
            if failure is not None:
                self._metrics.fallbacks.labels(model=model.name).inc()
            try:
                return await self._with_retries(run, replace(call, model=model), may_wait=may_wait)
            except Refused as error:
                failure = failure if isinstance(failure, ModelError) else error
            except ContextOverflow as error:
                failure = error
                models = larger(models, model)
                await self._learned(model, None)
            except ModelError as error:
                log.warning("%s: %s", model.name, error)
                failure = error
                await self._learned(model, error)
                successor = chain.successor_of(model, now.date()) if isinstance(error, ModelMissing) else None
                if successor and successor not in models:
                    models.insert(0, successor)
        raise failure or Refused("no model is left in the chain: see `atlas doctor`", "no_model")

    async def take_up(self, run: Run, carried: Carried, model: Model) -> Text:
        """Goes on with the response of a lost attempt. Raises ModelError where the provider does not have it."""
        run.open_response, run.open_call = carried.response_id, 0
        run.next_call, run.held_tokens = 1, carried.reserved_tokens
        try:
            text = await self._read(
                run, model, 0, self._generator.resume(carried.response_id, carried.sequence_number), text=carried.text
            )
        except ModelError as error:
            usage = error.usage if error.usage != NOTHING_USED else None
            await self._settle(run, carried.spend_id, carried.reserved_tokens, usage)
            raise
        run.finished = FinishedCall(
            call=0, spend_id=carried.spend_id, reserved_tokens=carried.reserved_tokens, usage=text.usage
        )
        return text

    async def _with_retries(self, run: Run, call: ModelCall, *, may_wait: bool) -> Text:
        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.retry_after if isinstance(error, ModelError) else None
            # full jitter on top of what the provider asked for
            return (asked or 0.0) + wait_random_exponential(multiplier=0.25, max=8)(state)

        def worth_it(state: RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            patient = not isinstance(error, ModelError) or (error.retry_after or 0) <= LONGEST_WAIT
            return patient and bool(retry_if_exception_type((RateLimited, UpstreamFailed))(state))

        failure: ModelError | None = None
        async for attempt in AsyncRetrying(stop=stop_after_attempt(3), wait=wait, retry=worth_it, reraise=True):
            with attempt:
                try:
                    return await self._once(run, call, may_wait=may_wait)
                except ModelError as error:
                    failure = error
                    raise
                except Refused:
                    # a call of unknown cost may have used the run up: then its failure is what counts
                    if failure is not None:
                        raise failure from None
                    raise
        raise AssertionError("unreachable")

    async def _once(self, run: Run, call: ModelCall, *, may_wait: bool) -> Text:
        """One call: reserved, made, settled unless it is the one that gives the text."""
        if run.finished:
            done, run.finished = run.finished, None
            await self._settle(run, done.spend_id, done.reserved_tokens, done.usage)
        count = self._vocabularies.counter(call.model.vocabulary)
        input_tokens = count(call.instructions) + sum(count(text) + MESSAGE_OVERHEAD for _, text in call.turns)
        limit = output_limit(call.model, per_run=run.per_run, used=run.held_tokens, input_tokens=input_tokens)
        if call.model.name == "offline":
            input_tokens, limit, reserved_input, reserved_output = 0, call.model.max_output, 0, 0
        else:
            reserved_input, reserved_output = with_margin(input_tokens), limit
        if limit == 0:
            raise Refused(
                f"{call.model.name}: {input_tokens} tokens of input leave no room for an answer in a run of "
                f"{run.per_run}, {run.held_tokens} of them used; raise TOKEN_BUDGET_PER_RUN or ask for less",
                "run_budget",
            )
        number = run.next_call
        answer = await self._money.reserve(
            {
                "attempt_id": str(run.task.attempt_id), "call": number, "model": call.model.name,
                "input_tokens": reserved_input, "output_tokens": reserved_output, "may_wait": may_wait,
            }
        )  # fmt: skip
        if answer["outcome"] == "lost" or (may_wait and answer["outcome"] in ("wait", "defer")):
            raise Returned(answer.get("message", "the lease is lost"))
        if answer["outcome"] != "reserved":
            raise Refused(answer["message"], answer["code"])
        run.next_call += 1
        run.held_tokens += answer["tokens"]
        run.open_call = number
        try:
            text = await self._read(run, call.model, number, self._generator.generate(replace(call, max_output_tokens=limit)))
        except ModelError as error:
            await self._settle(run, answer["spend_id"], answer["tokens"], error.usage)
            raise
        run.finished = FinishedCall(
            call=number, spend_id=answer["spend_id"], reserved_tokens=answer["tokens"], usage=text.usage
        )
        return text

    async def _settle(self, run: Run, spend_id: int, reserved: int, usage: Usage | None) -> None:
        """Settles a call that does not end its task. usage None: nobody knows, so all of it counts."""
        run.open_response = run.open_call = None
        run.held_tokens -= reserved - (usage.tokens if usage else reserved)
        await asyncio.shield(self._money.settle(spend_id, usage))

    async def _read(self, run: Run, model: Model, number: int, events: AsyncIterator[ModelEvent], *, text: str = "") -> Text:
        """Reads a response to its end; takes it up again, twice at most, when the stream is cut."""
        parts = [text] if text else []
        generation = run.next_generation
        run.next_generation += 1
        last: int | None = None
        cuts = 0
        attempt = run.task.attempt_id
        began = False
        resumable = False
        while True:
            try:
                async for event in events:
                    if isinstance(event, Started):
                        if began:
                            continue
                        began, resumable = True, event.resumable
                        run.open_response = event.response_id if event.resumable else None
                        await self._progress.started(
                            attempt, call=number, generation=generation, model=model.name,
                            response_id=event.response_id, resumable=event.resumable,
                        )  # fmt: skip
                        if text:
                            self._progress.delta(attempt, text, None)
                    elif isinstance(event, Delta):
                        part = clean(event.text)
                        parts.append(part)
                        last = event.sequence_number if event.sequence_number is not None else last
                        self._progress.delta(attempt, part, event.sequence_number)
                    else:
                        return await self._finish(run, model, number, "".join(parts), event)
                raise StreamCut(f"{model.name} ended its stream without an end", code="stream_cut", usage=None)
            except StreamCut as error:
                cuts += 1
                if not (resumable and run.open_response) or cuts > 2:
                    raise
                log.info("%s: %s; taking %s up after %s", model.name, error, run.open_response, last)
                events = self._generator.resume(run.open_response, last)

    async def _finish(self, run: Run, model: Model, number: int, text: str, end: Finished) -> Text:
        if not text.strip():
            raise NoText(f"{model.name} ended without text", code="no_text", usage=end.usage)
        run.open_response = run.open_call = None
        await self._learned(model, None)
        return Text(text=text, model=model, call=number, usage=end.usage, truncated=end.truncated, refused=end.refused)


def clean(text: str) -> str:
    """Text as Postgres can hold it: NUL and lone surrogates become U+FFFD."""
    if text.isascii() and "\x00" not in text:
        return text
    return "".join("\ufffd" if c == "\x00" or "\ud800" <= c <= "\udfff" else c for c in text)
