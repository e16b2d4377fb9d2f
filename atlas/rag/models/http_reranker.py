"""A reranker over HTTP, with the shape that Cohere, Jina, vLLM, llama.cpp and Infinity share; TEI's is read as well."""

from __future__ import annotations

import json
from collections.abc import Sequence

import httpx

from atlas.rag.ports import RerankerDown


class HttpReranker:
    """POST {url} {"model", "query", "documents", "texts", "top_n"} -> {"results": [{"index", "relevance_score"}]} or a list."""

    def __init__(self, client: httpx.AsyncClient, url: str, *, model: str | None, key: str | None) -> None:
        self._client = client
        self._url = url if url.endswith("/rerank") else f"{url.rstrip('/')}/rerank"
        self._model = model
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Raises RerankerDown."""
        body: dict[str, object] = {"query": query, "documents": list(texts), "texts": list(texts), "top_n": len(texts)}
        if self._model:
            body["model"] = self._model
        try:
            answer = await self._client.post(self._url, json=body, headers=self._headers)
            answer.raise_for_status()
            found = answer.json()
            results = found["results"] if isinstance(found, dict) else found
            scores = {int(item["index"]): float(item.get("relevance_score", item.get("score"))) for item in results}
            return [scores[number] for number in range(len(texts))]
        except (httpx.HTTPError, json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise RerankerDown(
                f"the reranker's answer cannot be used ({error.__class__.__name__}: {str(error)[:200]})"
            ) from error
