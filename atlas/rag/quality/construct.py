"""Questions whose answers are known by construction: a sentence with a link asks what the other document says. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass

_MARKDOWN = re.compile(r"(?<!!)\[([^\]\n]{2,200})\]\(([^)\s]+?\.(?:md|mdx|rst|txt|html?|ipynb))(?:#[^)\s]*)?\)")
_DOC = re.compile(r":doc:`([^`<]{2,200}?)\s*<([^`>]+)>`")
_REF = re.compile(r":ref:`([^`<]{2,200}?)\s*<([^`>]+)>`")
_LABEL = re.compile(r"^\.\. _([^:\n]+):\s*$", re.MULTILINE)
_ROLE = re.compile(r":[\w:.+-]+:`~?([^`<]+?)(?:\s*<[^`>]*>)?`")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
SHORTEST, LONGEST = 4, 60
"""Words of a question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkQuestion:
    """A sentence of one document that links to another. A search for it leaves its own document out."""

    question: str
    own: str
    relevant: str


def questions_by_links(passages: Iterable[tuple[str, str]]) -> list[LinkQuestion]:
    """One question a sentence with a link. passages: (source, text) of whole documents, in their order."""
    texts = list(passages)
    sources = {source for source, _ in texts}
    labels = {label.strip().lower(): source for source, text in texts for label in _LABEL.findall(text)}
    found: dict[str, LinkQuestion] = {}
    for source, text in texts:
        for paragraph in re.split(r"\n\s*\n", text):
            for sentence in _SENTENCE.split(" ".join(paragraph.split())):
                relevant = _target(sentence, source, sources, labels)
                question = _plain(sentence)
                if relevant is not None and SHORTEST <= len(question.split()) <= LONGEST:
                    found.setdefault(question, LinkQuestion(question=question, own=source, relevant=relevant))
    return list(found.values())


def _target(sentence: str, source: str, sources: set[str], labels: dict[str, str]) -> str | None:
    """The other document that a sentence links to first."""
    folder = posixpath.dirname(source)
    named = [target for _, target in _MARKDOWN.findall(sentence) if "://" not in target]
    for _, target in _DOC.findall(sentence):
        named += [f"{target}.rst", f"{target}.md"]
    for target in named:
        path = _below(folder, target)
        if path in sources and path != source:
            return path
    for _, label in _REF.findall(sentence):
        path = labels.get(label.strip().lower(), source)
        if path != source:
            return path
    return None


def _below(folder: str, target: str) -> str:
    """The source that a relative link means: a repository's address has no `..` above it."""
    scheme, mark, path = folder.rpartition("://")
    joined = posixpath.normpath(posixpath.join(path, target)).removeprefix("/")
    return f"{scheme}{mark}{joined}"


def _plain(sentence: str) -> str:
    """The sentence as it is read."""
    text = _MARKDOWN.sub(lambda link: link.group(1), sentence)
    text = _ROLE.sub(lambda role: role.group(1), text)
    return re.sub(r"[`*|#>]+|^\s*[-+]\s+", "", text).strip()
