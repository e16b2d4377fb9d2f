"""One generated text: which models are tried, what is reserved and settled, when a call is made again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from atlas.architect.ports import Models, Money, Progress
from atlas.architect.reading import Reading
from atlas.architect.room import output_limit
from atlas.backoff import full_jitter, pause_after
from atlas.llm.errors import (
    ContextOverflow,
    ModelError,
    ModelMissing,
    NoText,
    RateLimited,
    Refused,
    ResponseGone,
    Returned,
    StreamCut,
    UpstreamFailed,
)
from atlas.llm.models import Chain, Model, larger
from atlas.llm.port import Delta, Finished, Generator, ModelCall, ModelEvent, Started
from atlas.llm.tokens import MESSAGE_OVERHEAD, Vocabularies, with_margin
from atlas.metrics import Metrics
from atlas.task import NOTHING_USED, ClaimedTask, Inherited, JsonObject, Usage

log = logging.getLogger("atlas.generation")

LONGEST_WAIT = 30.0
"""Seconds that a retry-after is waited for within an attempt; a longer one goes to the next model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedText:
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
    model: str


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


class Generation:
    """Generates texts for runs, over one chain of models."""

    def __init__(
        self,
        *,
        generator: Generator,
        money: Money,
        progress: Progress,
        models: Models,
        vocabularies: Vocabularies,
        metrics: Metrics,
    ) -> None:
        self._generator = generator
        self._money = money
        self._progress = progress
        self._models = models
        self._vocabularies = vocabularies
        self._metrics = metrics

    async def generate(self, run: Run, call: ModelCall, chain: Chain, *, may_wait: bool = True) -> GeneratedText:
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
                failure = failure or UpstreamFailed(f"the breaker of {model.name} is open", code="breaker_open")
                continue
            if failure is not None:
                self._metrics.fallbacks.labels(model=model.name).inc()
            try:
                # a fallback that the budget has no room for is passed over: the outage is what the task waits for
                waits = may_wait and failure is None
                return await self._with_retries(run, replace(call, model=model), may_wait=waits)
            except Refused as error:
                failure = failure if isinstance(failure, ModelError) else error
            except ContextOverflow as error:
                failure = error
                models = larger(models, model)
                await self._models.learned(model, None)
            except ModelError as error:
                log.warning("%s: %s", model.name, error)
                self._metrics.model_errors.labels(model=model.name, code=error.code).inc()
                failure = error
                await self._models.learned(model, error)
                successor = chain.successor_of(model, now.date()) if isinstance(error, ModelMissing) else None
                if successor and successor not in models:
                    models.insert(0, successor)
        raise failure or Refused("no model is left in the chain: see `atlas doctor`", "no_model")

    async def resume(self, run: Run, inherited: Inherited, model: Model) -> GeneratedText:
        """Goes on with the response of a lost attempt.

        Raises ModelError while the way to the provider is broken (the response stays inherited), ResponseGone where the
        provider does not have it any more.
        """
        run.open_response, run.open_call = inherited.response_id, 0
        run.next_call, run.held_tokens = 1, inherited.reserved_tokens
        after = inherited.sequence_number
        events = self._generator.resume(inherited.response_id, after)
        try:
            # without a sequence number the response is read from its start
            text = await self._read(run, model, 0, events, text=inherited.text if after is not None else "", after=after)
        except ModelError as error:
            if error.outage and not error.terminal:
                # the way to it is broken, not the response: it stays inherited, and costs this attempt nothing
                error.usage = NOTHING_USED
                raise
            usage = error.usage if error.usage != NOTHING_USED else await self._give_up(run)
            await self._settle(run, inherited.spend_id, inherited.reserved_tokens, usage, model.name)
            raise ResponseGone(f"{inherited.response_id} cannot be resumed ({error})") from error
        run.finished = FinishedCall(
            call=0, spend_id=inherited.spend_id, reserved_tokens=inherited.reserved_tokens, usage=text.usage, model=model.name
        )
        return text

    async def _give_up(self, run: Run) -> Usage | None:
        """A background response goes on, and costs, without us: it is cancelled; its usage, where the provider says it."""
        if run.open_response is None:
            return None
        try:
            async with asyncio.timeout(10):
                return await self._generator.cancel(run.open_response)
        except (ModelError, TimeoutError) as error:
            log.warning("cannot confirm that %s is cancelled: %s", run.open_response, error)
            return None

    async def _with_retries(self, run: Run, call: ModelCall, *, may_wait: bool) -> GeneratedText:
        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.retry_after if isinstance(error, ModelError) else None
            # full jitter on top of what the provider asked for
            return (asked or 0.0) + full_jitter(0.25, 8)(state)

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

    async def _once(self, run: Run, call: ModelCall, *, may_wait: bool) -> GeneratedText:
        """One call: reserved, made, settled unless it is the one that gives the text."""
        if run.finished:
            done, run.finished = run.finished, None
            await self._settle(run, done.spend_id, done.reserved_tokens, done.usage, done.model)
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
            if error.usage is None:
                error.usage = await self._give_up(run)
            await self._settle(run, answer["spend_id"], answer["tokens"], error.usage, call.model.name)
            raise
        run.finished = FinishedCall(
            call=number,
            spend_id=answer["spend_id"],
            reserved_tokens=answer["tokens"],
            usage=text.usage,
            model=call.model.name,
        )
        return text

    async def _settle(self, run: Run, spend_id: int, reserved: int, usage: Usage | None, model: str) -> None:
        """Settles a call that does not end its task. usage None: nobody knows, so all of it counts."""
        run.open_response = run.open_call = None
        run.held_tokens -= reserved - (usage.tokens if usage else reserved)
        await asyncio.shield(self._money.settle(spend_id, run.task.attempt_id, usage, model))

    async def _read(
        self,
        run: Run,
        model: Model,
        number: int,
        events: AsyncIterator[ModelEvent],
        *,
        text: str = "",
        after: int | None = None,
    ) -> GeneratedText:
        """Reads a response to its end; resumes it, four times at most, when the way to it breaks.

        text, after: what a lost attempt had read of it already.
        """
        reading = Reading(parts=[text] if text else [], last=after)
        began = time.monotonic()
        generation = run.next_generation
        run.next_generation += 1
        cuts = 0
        attempt = run.task.attempt_id
        while True:
            try:
                async for event in events:
                    if isinstance(event, Started):
                        if reading.began:
                            continue
                        reading.began, reading.resumable = True, event.resumable
                        run.open_response = event.response_id if event.resumable else None
                        await self._progress.started(
                            attempt, call=number, generation=generation, model=model.name,
                            response_id=event.response_id, resumable=event.resumable,
                        )  # fmt: skip
                        if text:
                            self._progress.delta(attempt, text, after)
                    elif isinstance(event, Delta):
                        if not reading.parts:
                            self._metrics.first_token.observe(time.monotonic() - began)
                        part = reading.add(event)
                        if part:
                            self._progress.delta(attempt, part, event.sequence_number)
                    else:
                        return await self._finish(run, model, number, "".join(reading.parts), event)
                raise StreamCut(f"{model.name} ended its stream without an end", code="stream_cut", usage=None)
            except (StreamCut, UpstreamFailed, RateLimited) as error:
                if reading.began and error.usage == NOTHING_USED:
                    # it is the way to a response that broke, and the response may have cost something
                    error.usage = None
                cuts += 1
                if error.terminal or not (reading.resumable and run.open_response) or cuts > 4 or error.usage is not None:
                    raise
                log.info("%s: %s; resuming %s after %s", model.name, error, run.open_response, reading.last)
                await asyncio.sleep(pause_after(full_jitter(0.4, 2), cuts))
                if reading.last is None:
                    reading.parts.clear()
                events = self._generator.resume(run.open_response, reading.last)
            except ModelError as error:
                if reading.began and error.usage == NOTHING_USED:
                    error.usage = None
                raise

    async def _finish(self, run: Run, model: Model, number: int, text: str, end: Finished) -> GeneratedText:
        if not text.strip():
            raise NoText(f"{model.name} ended without text", code="no_text", usage=end.usage)
        run.open_response = run.open_call = None
        await self._models.learned(model, None)
        return GeneratedText(text=text, model=model, call=number, usage=end.usage, truncated=end.truncated, refused=end.refused)
