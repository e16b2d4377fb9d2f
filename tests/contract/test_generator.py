"""The port of language models: events of a response, in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from openai import AsyncOpenAI

from atlas.llm.errors import ModelError, WayLost
from atlas.llm.models import Model
from atlas.llm.offline import OfflineGenerator
from atlas.llm.openai_responses import OpenAIGenerator
from atlas.llm.port import Delta, Finished, Generator, ModelCall, ModelEvent, Snapshot, Started
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR


@asynccontextmanager
async def openai() -> AsyncIterator[Generator]:
    with OpenAIDouble() as double:
        double.plan(text=ADR)
        async with AsyncOpenAI(api_key="sk-test", base_url=double.url, max_retries=0) as client:
            yield OpenAIGenerator(client, background="auto")


@asynccontextmanager
async def offline() -> AsyncIterator[Generator]:
    yield OfflineGenerator(pause=0)


WRITERS = pytest.mark.parametrize("writer", [openai, offline])
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
