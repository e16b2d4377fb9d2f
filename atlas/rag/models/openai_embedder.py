"""Embedders over the network: OpenAI, any server that speaks its API, and Supabase's gte-small through functions/embed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI, OpenAIError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from atlas.backoff import full_jitter
from atlas.rag.ports import Embedded, EmbedderDown, EmbedderRefused

DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536, "gte-small": 384}
"""What the models answer where nothing else is asked for (their makers' pages)."""


class OpenAIEmbedder:
    """POST /embeddings. dimensions_asked: sent with each call; models before text-embedding-3 refuse it.

    attempts: how often a call is made while the server is away; one for questions, which somebody waits for.
    """

    def __init__(
        self, client: AsyncOpenAI, *, name: str, model: str, dimensions: int, dimensions_asked: bool = False, batch: int = 64,
        attempts: int = 1,
    ) -> None:  # fmt: skip
        self._client = client
        self.name = name
        self.model = model
        self.dimensions = dimensions
        self.batch = batch
        self._asked: dict[str, Any] = {"dimensions": dimensions} if dimensions_asked else {}
        self._attempts = attempts

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Raises EmbedderDown for what passes, EmbedderRefused for what does not."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(EmbedderDown), stop=stop_after_attempt(self._attempts),
            wait=full_jitter(0.5, 20), reraise=True,
        )  # fmt: skip
        async for attempt in retrying:
            with attempt:
                return await self._embed(list(texts))
        raise AssertionError("unreachable")

    async def _embed(self, texts: list[str]) -> Embedded:
        try:
            answer = await self._client.embeddings.create(model=self.model, input=texts, encoding_format="float", **self._asked)
        except APIStatusError as error:
            said = f"{self.model}: HTTP {error.status_code} {str(error.message)[:300]}"
            if error.status_code in (408, 409, 429) or error.status_code >= 500:
                raise EmbedderDown(said, "it is tried again") from error
            raise EmbedderRefused(said, "check RAG_EMBED_URL, RAG_EMBED_MODEL and the key") from error
        except APIConnectionError as error:
            raise EmbedderDown(f"{self.model}: {error}", "check RAG_EMBED_URL") from error
        except (APIError, OpenAIError, ValueError, TypeError, AttributeError) as error:
            raise EmbedderDown(f"{self.model}: the answer cannot be read ({error.__class__.__name__})") from error
        try:
            vectors = [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
            usage = answer.usage.total_tokens if answer.usage else 0
        except (TypeError, AttributeError) as error:
            raise EmbedderDown(f"{self.model}: the answer holds no vectors") from error
        return Embedded(vectors=vectors, tokens=usage or 0)


async def measured(client: AsyncOpenAI, name: str, model: str) -> int:
    """How many dimensions a model answers that nobody knows: one short text is embedded."""
    found = await OpenAIEmbedder(client, name=name, model=model, dimensions=1).embed(["dimension"])
    if not found.vectors or not found.vectors[0]:
        raise EmbedderRefused(f"{model} answered no vector", "set RAG_EMBED_DIMENSIONS, or check RAG_EMBED_URL")
    return len(found.vectors[0])
