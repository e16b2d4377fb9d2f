"""Counting tokens with a model's real vocabulary, from a package that carries it (bpe-openai: nothing is downloaded)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Count = Callable[[str], int]

MESSAGE_OVERHEAD = 16
"""Tokens that the API adds around each message; an upper bound, since the figure differs by model."""


class Tokenizer(Protocol):
    def count(self, text: str) -> int: ...


class Vocabularies:
    """Loads vocabularies once, when first used (0.1 to 1 s and 70 MB each)."""

    def __init__(self) -> None:
        self._loaded: dict[str, Tokenizer] = {}

    def counter(self, vocabulary: str | None) -> Count:
        """How tokens are counted; loads the vocabulary at the first count. None, a vocabulary that is not known: UTF-8 bytes.

        That is a true upper bound for byte-level BPE, where a token holds at least one byte. Special tokens in the text
        count as plain text, since that is how the API reads them.
        """
        if vocabulary is None:
            return lambda text: len(text.encode())
        return lambda text: self._load(vocabulary).count(text)

    def _load(self, vocabulary: str) -> Tokenizer:
        if vocabulary not in self._loaded:
            from bpe_openai._bindings import tokenizer_for_encoding

            self._loaded[vocabulary] = tokenizer_for_encoding(vocabulary)
        return self._loaded[vocabulary]


def with_margin(tokens: int) -> int:
    """A counted input with the margin that is reserved on top: 2 % and the overhead of a few messages."""
    return tokens + tokens // 50 + 4 * MESSAGE_OVERHEAD
