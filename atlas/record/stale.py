"""Which decisions a checkout has outgrown, and which contradict each other. Pure: it is told what files there are."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from atlas.task import JsonObject

_REFERENCE = re.compile(r"`([\w.@-]+(?:/[\w.@-]+)+/?)`")
_SYMBOL = re.compile(r"`([A-Za-z_][\w.]*?)(?:\(\))?`")
_NEGATION = re.compile(r"\b(?:must\s+not|must\s+never|not|never|no|without)\b", re.IGNORECASE)
_STOP = frozenset(
    re.findall(
        r"\w+",
        "a an and any all are as at be by each every for from has have in into is it its may must never no not of on only or "
        "that the their them this these those to use used with without shall should",
    )
)
LONGEST = 1_000
"""Characters of a path."""
ALIKE = 0.6
"""The share of words that two constraints have to share to be compared by a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """kind: path, reference, symbol or conflict. number: of the decision; other: of the one that it contradicts."""

    kind: str
    number: int
    text: str
    other: int | None = None


def matches(pattern: str, path: str) -> bool:
    """Whether a file is among those of a glob, as .gitignore and CODEOWNERS have it: ** crosses folders, * does not, a folder
    means all that is in it. Takes time by the product of their lengths, whatever they hold."""
    if len(pattern) > LONGEST or len(path) > LONGEST:
        return False
    pattern = pattern.removeprefix("./")
    parts = list((f"{pattern}**" if pattern.endswith("/") else pattern).split("/"))
    if not parts[-1].endswith("*"):
        parts.append("**")
    # which of the path's folders the parts so far may have come to
    places = {0}
    names = path.split("/")
    for part in parts:
        if part == "**":
            places = set(range(min(places), len(names) + 1)) if places else set()
        else:
            known = re.compile(fnmatch.translate(re.sub(r"\*+", "*", part)))
            places = {place + 1 for place in places if place < len(names) and known.match(names[place])}
    return len(names) in places


def governs(paths: Sequence[str], files: Iterable[str]) -> bool:
    """Whether globs are for one of these files; none are for all."""
    if not paths:
        return True
    return any(matches(path, file) for file in files for path in paths)


def gone(row: JsonObject, content: str, files: Sequence[str], has_symbol: Callable[[str], bool]) -> list[Finding]:
    """What an accepted record speaks of that is not there any more. has_symbol: whether a name stands anywhere in the code."""
    found = [
        Finding(kind="path", number=row["number"], text=f"no file matches {path}")
        for path in row["paths"]
        if not any(matches(path, file) for file in files)
    ]
    known = set(files) | {"/".join(file.split("/")[:depth]) for file in files for depth in range(1, file.count("/") + 1)}
    context = _context(content)
    tops = {file.split("/")[0] for file in files}
    for reference in dict.fromkeys(_REFERENCE.findall(context)):
        path = reference.rstrip("/")
        # only what begins in a folder of this repository can be gone from it
        if path.split("/")[0] in tops and path not in known and not any(file.endswith(f"/{path}") for file in known):
            found.append(Finding(kind="reference", number=row["number"], text=f"{path} is gone"))
    found += [
        Finding(kind="symbol", number=row["number"], text=f"{symbol} is nowhere in the code")
        for symbol in dict.fromkeys(_SYMBOL.findall(context))
        if re.search(r"[a-z][A-Z]|_|[A-Z][a-z]+[A-Z]", symbol) and "/" not in symbol and not has_symbol(symbol.split(".")[-1])
    ]
    return found


def conflicts(rows: Sequence[JsonObject]) -> list[Finding]:
    """Constraints of two accepted decisions that say nearly the same, but for a not: somebody has to read them."""
    all_of = [(row["number"], text, *sense(text)) for row in rows for text in row["constraints"]]
    return [
        Finding(kind="conflict", number=one[0], other=two[0], text=f"“{one[1]}” and “{two[1]}”")
        for one, two in combinations(all_of, 2)
        if one[0] != two[0]
        and one[3] != two[3]
        and one[2]
        and two[2]
        and len(one[2] & two[2]) >= ALIKE * min(len(one[2]), len(two[2]))
    ]


def sense(constraint: str) -> tuple[frozenset[str], bool]:
    """The words of a sentence that say something, and whether it denies."""
    words = {re.sub(r"(?:ies|es|s|ed|ing)$", "", word) for word in re.findall(r"[a-z0-9]+", constraint.lower())}
    return frozenset(words - _STOP - {""}), bool(_NEGATION.search(constraint))


def _context(content: str) -> str:
    match = re.search(r"^##[ \t]+(?:Context\b.*?)\n(.*?)(?=^## |\Z)", content, re.DOTALL | re.MULTILINE | re.IGNORECASE)
    return match[1] if match else ""
