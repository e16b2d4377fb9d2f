"""One call of a model: its turn, its reservation, its events read to the end, its settlement."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from atlas.architect.kept import kept
from atlas.architect.ports import Models, Money, Progress, Prompts, Rates
from atlas.architect.reading import Reading
from atlas.architect.run import FinishedCall, GeneratedText, Run
from atlas.backoff import full_jitter, pause_after
from atlas.llm.errors import ModelError, NoText, RateLimited, Refused, Returned, StreamCut, UpstreamFailed, WayLost
from atlas.llm.models import Model
from atlas.llm.port import Delta, Finished, Generator, ModelCall, ModelEvent, RateLimits, Snapshot, Started
from atlas.logs import PROMPTS
from atlas.metrics.worker import Metrics
from atlas.record.plan import PlanText
from atlas.task import NOTHING_USED, Inherited, Usage
from atlas.tracing import names

log = logging.getLogger("atlas.calls")

_MOST_CUTS = 4
"""How often the way to a response is tried again at once; then the task waits for it without a slot."""


class Calls:
    """Makes calls for runs. tier: the service tier that is asked for, and reserved at its price."""

    def __init__(
        self, *, generator: Generator, money: Money, prompts: Prompts, progress: Progress, models: Models, rates: Rates,
        metrics: Metrics, tier: str = "default",
    ) -> None:  # fmt: skip
        self._generator = generator
        self._money = money
        self._prompts = prompts
        self._progress = progress
        self._models = models
        self._rates = rates
        self._metrics = metrics
        self._tier = tier

    async def make(
        self, run: Run, call: ModelCall, *, input_tokens: int, may_wait: bool, reading: Reading | None = None
    ) -> GeneratedText:
        """One call, settled unless it is the one that gives the text. reading: the text that it continues.

        Raises Returned when the reservation put the task back, Refused when the budget has no room, else ModelError.
        """
        await self.settle_finished(run)
        await self._rates.draw(call.model.name, input_tokens + call.max_output_tokens)
        number = run.next_call
        answer = await self._money.reserve(
            {
                "attempt_id": str(run.task.attempt_id), "call": number, "model": call.model.name,
                "input_tokens": input_tokens, "output_tokens": call.max_output_tokens, "may_wait": may_wait,
                "tier": self._tier, "completion_window": call.completion_window,
            }
        )  # fmt: skip
        if answer["outcome"] == "lost" or (may_wait and answer["outcome"] in ("wait", "defer")):
            raise Returned(answer.get("message", "the lease is lost"))
        if answer["outcome"] != "reserved":
            raise Refused(answer["message"], answer["code"])
        run.next_call += 1
        run.counted_tokens += answer["tokens"]
        run.open_call, run.open_model = number, call.model.name
        if not call.model.is_offline:
            # before its breaker is asked: nothing may come between that and the call
            await self._prompts.keep(kept(call, run.task.attempt_id, number, self._tier))
        entrance = await self._models.enter(call.model)
        if entrance == "shut":
            await self._settle(run, answer["spend_id"], answer["tokens"], NOTHING_USED, call.model.name)
            raise UpstreamFailed(f"the breaker of {call.model.name} is open", code="breaker_open")
        named = {"task": str(run.task.task_id), "attempt": str(run.task.attempt_id), "call": str(answer["spend_id"])}
        if PROMPTS.isEnabledFor(logging.DEBUG):
            turns = "\n\n".join(f"{role}: {text}" for role, text in call.turns)
            PROMPTS.debug("%s: %s\n\n%s", call.model.name, call.instructions, turns)
        name, attributes = names.call(call.model.name, max_output_tokens=call.max_output_tokens, tier=self._tier)
        run.calls[number] = run.span.child(name, kind="client", attributes=attributes)
        events = self._generator.generate(replace(call, metadata=named))
        opening = [call.opening] if call.opening else []
        reading = reading or Reading(
            parts=opening, begins=len(call.opening), shape=PlanText() if call.schema and not call.model.is_offline else None
        )
        reading.fresh, reading.trial = True, entrance == "trial"
        return await self._finish(run, call.model, number, answer["spend_id"], answer["tokens"], events, reading)

    async def resume(self, run: Run, inherited: Inherited, model: Model, *, shaped: bool = False) -> GeneratedText:
        """Goes on with the response of an earlier attempt. shaped: it is JSON, which is read again from its beginning."""
        run.open_response, run.open_call, run.open_model = inherited.response_id, 0, model.name
        run.next_call, run.counted_tokens = 1, inherited.reserved_tokens
        reading = Reading(
            parts=[inherited.text] if inherited.text else [], last=None if shaped else inherited.sequence_number,
            begins=inherited.response_offset, age=inherited.age_seconds, window=inherited.completion_window,
            inherited=inherited.text, response=inherited.response_id, shape=PlanText() if shaped else None,
        )  # fmt: skip
        name, attributes = names.call(model.name)
        run.calls[0] = run.span.child(name, kind="client", attributes=attributes)
        events = self._generator.resume(inherited.response_id, reading.last, age=reading.age, window=reading.window)
        return await self._finish(run, model, 0, inherited.spend_id, inherited.reserved_tokens, events, reading)

    async def settle_finished(self, run: Run) -> None:
        """Settles the call that gave a text which is not the reply."""
        if run.finished:
            done, run.finished = run.finished, None
            await self._settle(run, done.spend_id, done.reserved_tokens, done.usage, done.model, done.response)

    async def _finish(
        self, run: Run, model: Model, number: int, spend_id: int, reserved: int, events: AsyncIterator[ModelEvent],
        reading: Reading,
    ) -> GeneratedText:  # fmt: skip
        span = run.calls[number]
        try:
            text = await self._read(run, model, number, events, reading)
        except ModelError as error:
            span.fail(error.code, str(error))
            if isinstance(error, RateLimited) and error.limits:
                await self._rates.record(model.name, list(error.limits), error.retry_after)
            if error.kept:
                # it stays with the task, to be asked for again: nothing is settled, and nobody guesses
                raise
            if error.usage is None:
                error.usage = await self._give_up(run)
            await self._settle(run, spend_id, reserved, error.usage, model.name, reading.response)
            raise
        finally:
            span.stop()
        span.add(names.answered(text.usage, response=reading.response, truncated=text.truncated, refused=text.refused))
        run.finished = FinishedCall(
            call=number, spend_id=spend_id, reserved_tokens=reserved, usage=text.usage, model=model.name,
            response=reading.response,
        )  # fmt: skip
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

    async def _settle(
        self, run: Run, spend_id: int, reserved: int, usage: Usage | None, model: str, response: str | None = None
    ) -> None:
        """Settles a call that does not end its task. usage None: nobody will know, so all of it counts."""
        run.open_response = run.open_call = None
        held = usage is None or usage.known == "held"
        run.counted_tokens -= 0 if held or usage is None else reserved - usage.tokens
        await asyncio.shield(self._money.settle(spend_id, run.task.attempt_id, usage, model, response))

    async def _read(
        self, run: Run, model: Model, number: int, events: AsyncIterator[ModelEvent], reading: Reading
    ) -> GeneratedText:
        """Reads a response to its end; resumes it when the way to it breaks."""
        began = time.monotonic()
        opens = reading.generation is None and reading.fresh and reading.begins > 0
        if reading.generation is None:
            reading.generation = run.next_generation
            run.next_generation += 1
        reading.began = reading.resumable = False
        wrote = len("".join(reading.parts)) > reading.begins
        cuts = 0
        while True:
            try:
                async for event in events:
                    match event:
                        case RateLimits():
                            await self._rates.record(model.name, list(event.rows))
                        case Started() if not reading.began:
                            reading.began, reading.resumable = True, event.resumable
                            run.open_response = reading.response = event.response_id if event.resumable else None
                            await self._say_started(run, model, number, event, reading)
                            if opens:
                                self._progress.delta(run.task.attempt_id, "".join(reading.parts), None)
                            if reading.fresh:
                                # it answers: a breaker that waits for this call need not wait for its end
                                await self._models.learned(model, None, trial=reading.trial)
                        case Started():
                            pass
                        case Delta():
                            if not wrote:
                                wrote = True
                                self._metrics.first_token.observe(since := time.monotonic() - began)
                                run.calls[number].add({names.TIME_TO_FIRST_TEXT: since})
                            if part := reading.add(event):
                                self._progress.delta(run.task.attempt_id, part, event.sequence_number)
                        case Snapshot():
                            await self._take(run, model, number, event, reading)
                        case Finished():
                            return await self._end(run, model, number, reading, event)
                raise StreamCut(f"{model.name} ended its stream without an end", code="stream_cut", usage=None)
            except (UpstreamFailed, RateLimited) as error:
                response = run.open_response
                if response is None or error.terminal or not reading.resumable or (error.usage is not None and not error.kept):
                    raise
                cuts += 1
                if cuts > _MOST_CUTS or (error.kept and error.code == "timeout"):
                    raise WayLost(f"the way to {response} is broken: {error}", code=error.code) from error
                log.info("%s: %s; resuming %s after %s", model.name, error, response, reading.last)
                await asyncio.sleep(pause_after(full_jitter(0.4, 2), cuts))
                age = reading.age + time.monotonic() - began
                events = self._generator.resume(response, reading.last, age=age, window=reading.window)

    async def _say_started(self, run: Run, model: Model, number: int, event: Started, reading: Reading) -> None:
        assert reading.generation is not None
        inherited, reading.inherited = reading.inherited, ""
        await self._progress.started(
            run.task.attempt_id, call=number, generation=reading.generation, model=model.name,
            response_id=event.response_id, resumable=event.resumable, begins=reading.begins, inherited=inherited,
            sequence_number=reading.last,
        )  # fmt: skip

    async def _take(self, run: Run, model: Model, number: int, event: Snapshot, reading: Reading) -> None:
        """All of the text so far: what is new of it; where it differs from what readers have, a new generation."""
        text, whole = reading.whole(event.text), "".join(reading.parts)
        have = whole[reading.begins :]
        if not text.startswith(have):
            if have.startswith(text):
                return
            reading.generation = run.next_generation
            run.next_generation += 1
            reading.parts = [whole[: reading.begins]] if reading.begins else []
            started = Started(response_id=run.open_response or "", resumable=reading.resumable)
            await self._say_started(run, model, number, started, reading)
            if reading.begins:
                self._progress.delta(run.task.attempt_id, whole[: reading.begins], None)
            have = ""
        if part := reading.add_shown(text[len(have) :]):
            self._progress.delta(run.task.attempt_id, part, None)

    async def _end(self, run: Run, model: Model, number: int, reading: Reading, end: Finished) -> GeneratedText:
        run.open_response = run.open_call = None
        await self._models.learned(model, None, trial=reading.fresh and reading.trial)
        if part := reading.end():
            self._progress.delta(run.task.attempt_id, part, None)
        text = "".join(reading.parts)
        if not text[reading.begins :].strip():
            code = "cut_before_text" if end.truncated else "no_text"
            raise NoText(f"{model.name} ended without text", code=code, usage=end.usage)
        return GeneratedText(
            text=text, model=model, call=number, usage=end.usage, truncated=end.truncated, refused=end.refused,
            json=reading.shape.json if reading.shape else None,
        )  # fmt: skip
