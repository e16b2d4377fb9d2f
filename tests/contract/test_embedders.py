"""The port of embedders. The one in this process is in tests/models, with the same suite."""

from __future__ import annotations

import pytest
from openai import AsyncOpenAI

from atlas.rag.models.openai_embedder import OpenAIEmbedder
from atlas.rag.ports import EmbedderDown
from tests.doubles.models import models_double
from tests.support.conformance import embedder_conforms


@pytest.mark.parametrize("name", ["openai", "supabase"])
async def test_an_embedder_over_the_network(name: str) -> None:
    async with (
        models_double() as double,
        AsyncOpenAI(api_key="sk-test", base_url=f"{double.url}/v1", max_retries=0) as client,
    ):
        await embedder_conforms(OpenAIEmbedder(client, name=name, model="words", dimensions=64))


async def test_one_that_is_away_says_so() -> None:
    async with AsyncOpenAI(api_key="sk-test", base_url="http://127.0.0.1:9/v1", max_retries=0) as client:
        with pytest.raises(EmbedderDown):
            await OpenAIEmbedder(client, name="openai", model="words", dimensions=64).embed(["x"])
