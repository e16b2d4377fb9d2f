"""Counting tokens with a model's real vocabulary, from a package that carries it (bpe-openai: nothing is downloaded)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

Count = Callable[[str], int]

MESSAGE_OVERHEAD = 16
"""Tokens that the API adds around each message; an upper bound, since the figure differs by model."""


REMEMBERED = 8_000
"""Characters of the longest text whose count is kept: 1,024 of them are 8 MB."""


class Tokenizer(Protocol):
    def count(self, text: str) -> int: ...


class Vocabularies:
    """Loads vocabularies once, when first used (0.1 to 1 s and 70 MB each)."""

    def __init__(self) -> None:
        self._loaded: dict[str, Tokenizer] = {}
        self._counters: dict[str, Count] = {}

    def counter(self, vocabulary: str | None) -> Count:
        """How tokens are counted; loads the vocabulary at the first count. None, a vocabulary that is not known: UTF-8 bytes.

        That is a true upper bound for byte-level BPE, where a token holds at least one byte. Special tokens in the text
        count as plain text, since that is how the API reads them.
        """
        if vocabulary is None:
            return lambda text: len(text.encode())
        if vocabulary not in self._counters:
            self._counters[vocabulary] = self._counter(vocabulary)
        return self._counters[vocabulary]

    def _counter(self, vocabulary: str) -> Count:
        """Remembers the counts of short texts: instructions, questions and passages are counted again and again."""

        @lru_cache(maxsize=1024)
        def remembered(text: str) -> int:
            return self._load(vocabulary).count(text)

        return lambda text: remembered(text) if len(text) <= REMEMBERED else self._load(vocabulary).count(text)

    def _load(self, vocabulary: str) -> Tokenizer:
        if vocabulary not in self._loaded:
            from bpe_openai._bindings import tokenizer_for_encoding

            self._loaded[vocabulary] = tokenizer_for_encoding(vocabulary)
        return self._loaded[vocabulary]


def with_margin(tokens: int) -> int:
    """A counted input with the margin that is reserved on top: 2 % and the overhead of a few messages."""
    return tokens + tokens // 50 + 4 * MESSAGE_OVERHEAD
