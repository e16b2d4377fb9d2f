"""The port of language models: events of a response, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from openai import AsyncOpenAI

from atlas.commands.demo import QUESTION
from atlas.llm.errors import BadRequest, ModelError, WayLost
from atlas.llm.models import Model
from atlas.llm.offline import OfflineGenerator, compose
from atlas.llm.openai_responses import OpenAIGenerator
from atlas.llm.port import Delta, Finished, Generator, ModelCall, ModelEvent, Snapshot, Started
from atlas.llm.replay import Either, ReplayGenerator, read_replay
from atlas.task import Chunk
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, ROOT
from tests.support.knowledge import COUNT


@asynccontextmanager
async def openai() -> AsyncIterator[Generator]:
    with OpenAIDouble() as double:
        double.plan(text=ADR)
        async with AsyncOpenAI(api_key="sk-test", base_url=double.url, max_retries=0) as client:
            yield OpenAIGenerator(client, background="auto")


@asynccontextmanager
async def offline() -> AsyncIterator[Generator]:
    yield OfflineGenerator(pause=0)


@asynccontextmanager
async def replay() -> AsyncIterator[Generator]:
    yield ReplayGenerator("How?", ADR, count=COUNT, pace=0)


WRITERS = pytest.mark.parametrize("writer", [openai, offline, replay])
CALL = ModelCall(
    model=Model(name="gpt-4.1"), instructions="Answer.", turns=(("user", "How?"),), max_output_tokens=500, question="How?"
)


async def events_of(generator: Generator) -> list[ModelEvent]:
    return [event async for event in generator.generate(CALL)]


@WRITERS
async def test_a_response_begins_writes_and_ends(writer: type) -> None:
    async with writer() as generator:
        events = await events_of(generator)
    assert isinstance(events[0], Started)
    assert events[0].response_id
    assert isinstance(events[-1], Finished)
    assert events[-1].usage is not None
    assert all(isinstance(event, Delta) for event in events[1:-1])
    assert "".join(event.text for event in events if isinstance(event, Delta)).strip()


@WRITERS
async def test_a_response_that_is_not_there_is_a_model_error(writer: type) -> None:
    async with writer() as generator:
        with pytest.raises(ModelError):
            [event async for event in generator.resume("resp_of_nobody", None)]


@WRITERS
async def test_a_response_that_can_be_resumed_gives_the_same_text_again(writer: type) -> None:
    async with writer() as generator:
        events = await events_of(generator)
        began = events[0]
        assert isinstance(began, Started)
        if not began.resumable:
            return  # it says so, and nobody asks
        again = [event async for event in generator.resume(began.response_id, None)]
    written = [[event.text for event in run if isinstance(event, (Delta, Snapshot))] for run in (events, again)]
    assert "".join(written[0]) == "".join(written[1])
    assert isinstance(again[-1], Finished)


async def test_the_offline_architect_settles_nobodys_response() -> None:
    """A worker without a key cannot know what became of it: it is asked for again, by another."""
    with pytest.raises(WayLost) as caught:
        await OfflineGenerator(pause=0).cancel("resp_of_another_worker")
    assert caught.value.kept


CITING = """> **An example.**

We ship on Fridays [[adr/ship.md]]
and never on Mondays [[adr/gone.md]].

- [[adr/ship.md]] the first
- [[adr/gone.md]] the second
"""


def chunk(source: str) -> Chunk:
    return Chunk(chunk_id=1, source=source, title="", heading="", start_line=1, end_line=1, text="", tokens=1, score=1.0)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_a_replay_goes_on_while_nobody_reads_it_and_in_another_process() -> None:
    clock = Clock()
    call = replace(CALL, sources=(chunk("team/adr/other.md"), chunk("team/adr/ship.md")), labels=("S1001", "S2002"))
    words = []
    events = ReplayGenerator("How?", CITING, count=COUNT, pace=0.001, now=clock).generate(call)
    async for event in events:
        if isinstance(event, Started):
            response, resumable = event.response_id, event.resumable
        if isinstance(event, Delta):
            words.append(event)
            clock.now += 0.001
        if len(words) == 5:
            break
    assert resumable
    clock.now += 3600
    # an instance of its own, which knows nothing but the id: all that is left comes at once
    other = ReplayGenerator("How?", CITING, count=COUNT, pace=1000, now=clock)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            [event async for event in other.resume(response, words[-1].sequence_number)]
    other = ReplayGenerator("How?", CITING, count=COUNT, pace=0.001, now=clock)
    rest = [event async for event in other.resume(response, words[-1].sequence_number)]
    written = "".join(event.text for event in [*words, *rest] if isinstance(event, Delta))
    assert written == ("> **An example.**\n\nWe ship on Fridays [S2002]\nand never on Mondays.\n\n- [S2002] the first\n"), (
        "what was not retrieved is not cited"
    )
    end = rest[-1]
    assert isinstance(end, Finished)
    assert end.usage is not None
    assert (end.usage.input_tokens, end.usage.output_tokens) == (
        COUNT(call.instructions) + COUNT("How?") + 16,
        sum(COUNT(event.text) for event in [*words, *rest] if isinstance(event, Delta)),
    )


async def test_a_cancelled_replay_costs_what_was_written() -> None:
    clock = Clock()
    writer = ReplayGenerator("How?", "one two three four", count=lambda text: len(text.split()), pace=1, now=clock)
    events = writer.generate(CALL)
    began = await anext(events)
    assert isinstance(began, Started)
    for seconds, written in ((0.0, 0), (2.5, 2), (60.0, 4)):
        clock.now = 1_000_000.0 + seconds
        usage = await writer.cancel(began.response_id)
        assert usage is not None
        assert usage.output_tokens == written


async def test_a_replay_never_writes_more_than_was_reserved() -> None:
    writer = ReplayGenerator("How?", ADR, count=COUNT, pace=0)
    with pytest.raises(BadRequest, match="may write 10: raise TOKEN_BUDGET_PER_RUN"):
        [event async for event in writer.generate(replace(CALL, max_output_tokens=10))]


@pytest.mark.parametrize("response", ["resp_1", "replay_1_1_S1.x.S2", "replay_1_1_S1]", "replay_1_1_S1\n", "offline"])
async def test_a_replay_of_another_text_is_left_to_who_has_it(response: str) -> None:
    with pytest.raises(WayLost) as caught:
        [event async for event in ReplayGenerator("How?", CITING, count=COUNT).resume(response, None)]
    assert caught.value.kept


async def test_a_replay_answers_its_question_alone() -> None:
    """Others are asked of the next model of the chain, which calls nobody."""
    question, text = read_replay((ROOT / "examples/replies/minimal-ci-pipeline.md").read_text())
    assert question == QUESTION
    assert text.startswith("> **An example")
    writer = Either(ReplayGenerator(question, text, count=COUNT, pace=0), OfflineGenerator(pause=0))
    with pytest.raises(BadRequest, match="alone"):
        [event async for event in writer.generate(replace(CALL, model=Model(name="replay")))]
    events = [event async for event in writer.generate(replace(CALL, model=Model(name="offline")))]
    assert "No model was called" in "".join(event.text for event in events if isinstance(event, Delta))
    for broken in ("no front matter", "---\nquestion:\n---\n\ntext", "---\nquestion: a\n---\n"):
        with pytest.raises(ValueError, match="does not begin"):
            read_replay(broken)


def test_a_passage_loses_no_line_but_its_own_heading() -> None:
    """A line of code that begins with # is not a heading."""
    guard = replace(
        chunk("deploy.sh"), heading="zebra_deploy", text="# NEVER without the freeze flag\nzebra_deploy() { echo go; }"
    )
    prose = replace(chunk("deploy.md"), heading="Deploy > Canary", text="## Canary\n\nFive percent first.")
    said = compose("When?", (("S1001", guard), ("S2002", prose)))
    assert "> # NEVER without the freeze flag\n> zebra_deploy() { echo go; }" in said
    assert "## 2. Deploy > Canary\n\n`deploy.md:1-1` [S2002]\n\n> Five percent first." in said
