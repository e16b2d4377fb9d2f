"""One generated text: which models are tried, how much each call may write, when a call is made again, or continued."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from atlas.architect.calls import Calls
from atlas.architect.ports import Models, Progress
from atlas.architect.prompt import CONTINUE, InputTooLarge
from atlas.architect.reading import Reading
from atlas.architect.room import Room, how_to_raise, output_limit
from atlas.architect.run import GeneratedText, Run
from atlas.backoff import full_jitter, pause_after
from atlas.llm.errors import (
    CallHeld,
    ContextOverflow,
    ModelError,
    ModelMissing,
    NoText,
    NoWindow,
    RateLimited,
    Refused,
    UpstreamFailed,
)
from atlas.llm.models import Chain, Model, larger
from atlas.llm.port import Generator, ModelCall
from atlas.llm.tokens import MESSAGE_OVERHEAD, Count, Vocabularies, with_margin
from atlas.metrics.worker import Metrics
from atlas.task import Inherited

log = logging.getLogger("atlas.generation")

LONGEST_WAIT = 30.0
"""Seconds that a retry-after is waited for within an attempt; a longer one goes to the next model."""

MOST_TRIES = 3
"""Of one model within an attempt."""

_WORTH_SOURCES = 1_000
"""Output tokens under which a continuation is sent without the sources."""

_MOST_CONTINUATIONS = 3
"""The first one has all that is left of the run; more are needed where a model's own limit is smaller."""

Build = Callable[[Model, Count, int], ModelCall]
"""Makes the call for a model, its prompt within the room (tokens in and out) as that model counts. Raises InputTooLarge."""


def room_for(run: Run, model: Model) -> int:
    """Tokens that a call of this model may hold now: what is left of the run, within the model's context."""
    return max(0, min(run.per_run - run.counted_tokens, model.context))


class Generation:
    """Generates texts for runs, over one chain of models."""

    def __init__(
        self, *, calls: Calls, generator: Generator, progress: Progress, models: Models, vocabularies: Vocabularies,
        metrics: Metrics,
    ) -> None:  # fmt: skip
        self._calls = calls
        self._generator = generator
        self._progress = progress
        self._models = models
        self._vocabularies = vocabularies
        self._metrics = metrics

    async def generate(
        self, run: Run, build: Build, chain: Chain, *, may_wait: bool = True, window: str = "soonest"
    ) -> GeneratedText:
        """The text of the first model of the chain that gives one. window: the completion window that is asked for.

        Raises Returned when the reservation put the task back; the last ModelError; where no model fits the budget, the first
        Refused; where none has room for the question, the first InputTooLarge.
        """
        # what an earlier text did not use of its reservation is there for this one
        await self._calls.settle_finished(run)
        failure: ModelError | None = None
        refusal: Refused | InputTooLarge | None = None
        models = list(chain.models)
        today = datetime.now(UTC).date()
        while models:
            model = models.pop(0)
            if not await self._models.may_try(model):
                log.info("%s is passed over: its breaker is open", model.name)
                failure = failure or UpstreamFailed(f"the breaker of {model.name} is open", code="breaker_open")
                continue
            if failure is not None:
                self._metrics.fallbacks.labels(model=model.name).inc()
            try:
                # a fallback that the budget has no room for is passed over: the outage is what the task waits for
                call, tokens = await self._prepare(run, build, model, window)
                return await self._with_retries(run, call, tokens, may_wait=may_wait and failure is None and refusal is None)
            except (Refused, InputTooLarge) as error:
                refusal = refusal or error
            except ModelError as error:
                log.warning("%s: %s", model.name, error)
                if error.code != "breaker_open":
                    self._metrics.model_failed(model.name, error.code)
                if error.kept or isinstance(error, CallHeld):
                    # this task's call may be answered still: it is waited for, and nobody else is asked
                    raise
                if isinstance(error, NoWindow):
                    log.warning("%s: the reply is asked for at once, at its full price", error)
                    window = "soonest"
                    models.insert(0, model)
                    continue
                failure = error
                if isinstance(error, ContextOverflow):
                    models = larger(models, model)
                successor = chain.successor_of(model, today) if isinstance(error, ModelMissing) else None
                if successor and successor not in models:
                    models.insert(0, successor)
        raise failure or refusal or Refused("no model is left in the chain: see `atlas doctor`", "no_model")

    async def resume(
        self, run: Run, inherited: Inherited, model: Model, build: Build, *, shaped: bool = False
    ) -> GeneratedText:
        """Goes on with the response of an earlier attempt, and continues it where it was cut. shaped: it is JSON.

        Raises ModelError; kept while the response is still to be had.
        """
        try:
            text = await self._calls.resume(run, inherited, model, shaped=shaped)
        except ModelError as error:
            if error.outage:
                await self._models.learned(model, error)
            raise
        if not text.truncated or shaped:
            return text
        try:
            call, tokens = await self._prepare(run, build, model)
        except InputTooLarge:
            return text
        return await self._continued(run, call, tokens, text)

    async def _prepare(self, run: Run, build: Build, model: Model, window: str = "soonest") -> tuple[ModelCall, int]:
        """The call for a model, and its input in tokens: by its vocabulary; else as the provider counts; else by bytes, the
        upper bound, which leaves the least room for sources."""
        cached = str(run.task.project_id)
        room = room_for(run, model)
        if model.vocabulary is not None or model.is_offline:
            count = self._vocabularies.counter(model.vocabulary)
            call = build(model, count, room)
            return replace(call, cache_key=cached, completion_window=window), call.input_tokens(count)
        near = self._vocabularies.counter("o200k_base")
        scale = 1.0
        for _ in range(2):
            # by a vocabulary that is near, then scaled by what the provider counted
            def scaled(text: str, by: float = scale) -> int:
                return math.ceil(near(text) * by)

            try:
                guess = build(model, scaled, room)
                counted = await self._generator.count(guess)
            except InputTooLarge:
                break
            except ModelError as error:
                log.info("%s cannot be asked to count: %s", model.name, error)
                break
            if counted is None:
                break
            if counted <= Room(per_run=room).input:
                return replace(guess, cache_key=cached, completion_window=window), counted
            scale = 1.02 * counted / max(1, guess.input_tokens(near))
        count = self._vocabularies.counter(None)
        call = build(model, count, room)
        return replace(call, cache_key=cached, completion_window=window), call.input_tokens(count)

    async def _with_retries(self, run: Run, call: ModelCall, tokens: int, *, may_wait: bool) -> GeneratedText:
        failure: ModelError | None = None
        for tries in range(1, MOST_TRIES + 1):
            if failure is not None:
                # full jitter on top of what the provider asked for
                await asyncio.sleep((failure.retry_after or 0.0) + pause_after(full_jitter(0.25, 8), tries - 1))
            try:
                return await self._written(run, call, tokens, may_wait=may_wait)
            except ModelError as error:
                failure = error
                # each failure counts at once, for the whole fleet; an answer of any kind shows that the model is up
                if error.code != "breaker_open":
                    await self._models.learned(call.model, error if error.outage else None)
                if tries == MOST_TRIES or not _worth_another(error):
                    raise
                if error.outage and not await self._models.closed(call.model):
                    raise
            except Refused:
                # a call of unknown cost may have used the run up: then its failure is what counts
                if failure is not None:
                    raise failure from None
                raise
        raise AssertionError("unreachable")

    async def _written(self, run: Run, call: ModelCall, tokens: int, *, may_wait: bool) -> GeneratedText:
        """A text, and its continuation where it was cut. The first call reserves what replies usually need; a reply that needs
        more is continued in the same run, so that a day holds as many questions as it can."""
        most = self._limit(run, call, tokens)
        # half a JSON object cannot be continued: it gets all of the run at once
        first = replace(call, max_output_tokens=most if call.schema else min(most, call.model.first_output))
        try:
            text = await self._calls.make(run, first, input_tokens=_reserved(call, tokens), may_wait=may_wait)
        except NoText as error:
            if error.code != "cut_before_text" or most <= first.max_output_tokens:
                raise
            try:
                whole = replace(call, max_output_tokens=self._limit(run, call, tokens))
            except Refused:
                raise error from None
            log.info("%s thought through all that was reserved: it gets the rest of the run", call.model.name)
            return await self._calls.make(run, whole, input_tokens=_reserved(call, tokens), may_wait=False)
        return await self._continued(run, call, tokens, text)

    async def _continued(self, run: Run, call: ModelCall, tokens: int, text: GeneratedText) -> GeneratedText:
        for _ in range(_MOST_CONTINUATIONS):
            if not text.truncated or call.model.is_offline or call.schema:
                break
            count = self._vocabularies.counter(call.model.vocabulary)
            turns = (*call.turns, ("assistant", text.text), ("user", CONTINUE))
            again = replace(call, turns=turns, completion_window="soonest")
            needs = tokens + count(text.text) + count(CONTINUE) + 2 * MESSAGE_OVERHEAD
            try:
                await self._calls.settle_finished(run)
                await self._progress.flush([run.task.attempt_id])
                if output_limit(call.model, per_run=run.per_run, used=run.counted_tokens, input_tokens=needs) < _WORTH_SOURCES:
                    # the question and what is written say enough to go on where the sources leave no room
                    again = replace(again, turns=(("user", call.question), *turns[-2:]))
                    needs = again.input_tokens(count)
                again = replace(again, max_output_tokens=self._limit(run, again, needs))
                reading = Reading(parts=[text.text], begins=len(text.text), generation=run.next_generation - 1)
                more = await self._calls.make(run, again, input_tokens=_reserved(again, needs), may_wait=False, reading=reading)
            except (Refused, ModelError) as error:
                if isinstance(error, ModelError) and error.kept:
                    raise
                log.info("the reply stays cut: %s", error)
                return text
            usage = text.usage + more.usage if text.usage and more.usage else None
            text = replace(more, usage=usage)
        return text

    def _limit(self, run: Run, call: ModelCall, tokens: int) -> int:
        """The most output tokens that a call may have now. Raises Refused where that is too few for an answer."""
        if call.model.is_offline:
            # it calls nobody, and costs nothing
            return 0
        limit = output_limit(call.model, per_run=run.per_run, used=run.counted_tokens, input_tokens=tokens)
        if limit == 0:
            raise Refused(
                f"{call.model.name}: {tokens} tokens of input leave no room for an answer in a run of {run.per_run}, "
                f"{run.counted_tokens} of them used; {how_to_raise(run.task.per_run_scope)}, or ask for less",
                "run_budget",
            )
        return limit


def _worth_another(error: ModelError) -> bool:
    """Whether a call that failed is made again at once: what may have cost something is not."""
    if not isinstance(error, (RateLimited, UpstreamFailed)) or isinstance(error, CallHeld):
        return False
    return not error.kept and error.usage is not None and (error.retry_after or 0) <= LONGEST_WAIT


def _reserved(call: ModelCall, tokens: int) -> int:
    return 0 if call.model.is_offline else with_margin(tokens)
