"""A server that speaks OpenAI's embeddings and the common /rerank over a real socket. A text's vector counts its words, so that
texts with the same words are near."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.doubles.serving import serving

Json = dict[str, Any]


def vector_of(text: str, dimensions: int) -> list[float]:
    """One number a word, by its hash; a little of everything, so that no vector is zero."""
    vector = [0.01] * dimensions
    for word in re.findall(r"[a-z0-9]+", text.lower()):
        vector[zlib.crc32(word.encode()) % dimensions] += 1.0
    return vector


class ModelsDouble:
    """texts: all that were embedded, in order. errors: statuses of the next calls, 0 for a good one. hang: seconds before an answer."""

    def __init__(self, dimensions: int = 64) -> None:
        self.dimensions = dimensions
        self.texts: list[str] = []
        self.calls: list[Json] = []
        self.keys: list[str] = []
        self.errors: list[int] = []
        self.fail_after: int | None = None
        self.hang = 0.0
        self.reranked: list[Json] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _embed(self, request: Request) -> Response:
        body = await request.json()
        self.calls.append(body)
        self.keys.append(request.headers.get("authorization", ""))
        await asyncio.sleep(self.hang)
        status = self.errors.pop(0) if self.errors else 0
        if self.fail_after is not None and len(self.texts) + len(body["input"]) > self.fail_after:
            status = 503
        if status:
            return JSONResponse({"error": {"message": "planned", "type": "x", "code": None}}, status_code=status)
        self.texts += body["input"]
        size = body.get("dimensions", self.dimensions)
        data = [
            {"object": "embedding", "index": index, "embedding": vector_of(text, size)}
            for index, text in enumerate(body["input"])
        ]
        tokens = sum(len(text.split()) for text in body["input"])
        return JSONResponse(
            {"object": "list", "model": body["model"], "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
        )

    async def _rerank(self, request: Request) -> Response:
        body = await request.json()
        self.reranked.append(body)
        if self.errors and (status := self.errors.pop(0)):
            return JSONResponse({}, status_code=status)
        wanted = set(body["query"].lower().split())
        scored = [
            {"index": index, "relevance_score": len(wanted & set(text.lower().split())) / len(wanted)}
            for index, text in enumerate(body["documents"])
        ]
        return JSONResponse({"results": sorted(scored, key=lambda item: -item["relevance_score"])})


@asynccontextmanager
async def models_double(dimensions: int = 64) -> AsyncIterator[ModelsDouble]:
    """Runs it."""
    double = ModelsDouble(dimensions)
    routes = [
        Route("/v1/embeddings", double._embed, methods=["POST"]),
        Route("/rerank", double._rerank, methods=["POST"]),
        Route("/functions/v1/embed/embeddings", double._embed, methods=["POST"]),
    ]
    async with serving(Starlette(routes=routes)) as double.port:
        yield double
