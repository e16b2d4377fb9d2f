"""An architecture decision record, after MADR 4 (adr.github.io/madr): its sections, what it binds, what is wrong with one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from atlas.record.parse import ParsedReply, code_of, entries
from atlas.task import JsonObject

SECTIONS = (
    "Context", "Drivers", "Options", "Decision", "Consequences", "Confirmation", "Assumptions and non-goals", "Load and cost",
    "Rollout", "Security", "Open questions", "Constraints", "Governs", "Work items", "Sources",
)  # fmt: skip
"""In their order. Load and cost is there where the question gives numbers."""

_MUST = re.compile(r"\bmust(?: not)?\b", re.IGNORECASE)
_FOR = re.compile(r"^[ \t]*[-*+][ \t]+\**(?:for|pro|good)\b", re.IGNORECASE | re.MULTILINE)
_AGAINST = re.compile(r"^[ \t]*[-*+][ \t]+\**(?:against|con|bad)\b", re.IGNORECASE | re.MULTILINE)
_AMOUNT = re.compile(
    r"[$€£]\s?\d|(?<![\w.-])\d[\d,.]*\s?%|(?<![\w.-])\d[\d,.]*(?:[kKM]\b)?\s*(?:/|per\b|a (?:second|minute|hour|day|month)|"
    r"(?:requests?|users?|customers?|tenants?|events?|messages?|tasks?|jobs?|rows?|records?|files?|tokens?|writes?|reads?|"
    r"quer(?:y|ies)|connections?|nodes?|instances?|[KMGT]i?B|bytes?|rps|qps|tps|ms|milliseconds?|seconds?|minutes?|hours?|days?|"
    r"months?|years?|USD|EUR|dollars?|euros?)\b)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Obligations:
    """What a decision binds. constraints: sentences with must or must not; paths: globs that it governs; checks: commands."""

    constraints: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()

    def as_json(self) -> JsonObject:
        """As metadata.record has it, and atlas.decision keeps it."""
        return {"constraints": list(self.constraints), "paths": list(self.paths), "checks": list(self.checks)}


def binding(document: ParsedReply) -> Obligations:
    """What a record says in Constraints, Governs and Confirmation, as far as it is in form."""
    sections = document.sections
    paths = [code_of(entry) for entry in entries(sections.get("Governs", ""))]
    checks = [code_of(entry) for entry in entries(sections.get("Confirmation", "")) if entry.startswith("`")]
    return Obligations(
        constraints=tuple(entry for entry in entries(sections.get("Constraints", "")) if _MUST.search(entry)),
        paths=tuple(path for path in paths if path and is_glob(path)),
        checks=tuple(check for check in checks if check),
    )


def gives_amounts(question: str) -> bool:
    """Whether a question gives load, size, time or money in numbers: then so does the record."""
    return _AMOUNT.search(question) is not None


def problems(document: ParsedReply, question: str) -> list[str]:
    """What is wrong with a record beyond its sections, in words that a model can fix."""
    sections = document.sections
    found = []
    options = document.items.get("Options", ())
    if sections.get("Options") and len(options) < 2:
        found.append("'## Options' needs at least two options, each a level 3 heading")
    found += [
        f"the option '{option.title}' needs '- For:' and '- Against:'"
        for option in options
        if not (_FOR.search(option.body) and _AGAINST.search(option.body))
    ]
    found += [
        f"the constraint '{entry}' does not say must or must not"
        for entry in entries(sections.get("Constraints", ""))
        if not _MUST.search(entry)
    ]
    for entry in entries(sections.get("Governs", "")):
        path = code_of(entry)
        if path is None or not is_glob(path):
            found.append(f"'{entry}' in '## Governs' is not a relative path or glob in backticks")
    if gives_amounts(question) and not sections.get("Load and cost"):
        found.append("the question gives numbers, and the section '## Load and cost' is missing")
    return found


def binds(sentence: str) -> bool:
    """Whether it says must or must not."""
    return _MUST.search(sentence) is not None


def is_glob(path: str) -> bool:
    """Whether it names files inside of a repository."""
    return (
        not path.startswith(("/", "~"))
        and ".." not in path.split("/")
        and not re.search(r"[\s\\:`<>]", path)
        and len(path) <= 200
    )
