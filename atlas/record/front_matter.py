"""The front matter of a record's file: what a machine reads of it. docs/schemas/decision.json is its schema."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from atlas.errors import UsageError
from atlas.record.decision import binds, is_glob
from atlas.task import JsonObject

Status = Literal["proposed", "accepted", "rejected", "deprecated", "superseded"]

_BLOCK = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_LONGEST = 100_000
"""Characters of a front matter that is parsed."""


def _binds(sentence: str) -> str:
    if not binds(sentence):
        raise ValueError("a constraint says must or must not")
    return sentence


def _names_files(path: str) -> str:
    if not is_glob(path):
        raise ValueError("a path is a glob inside of the repository")
    return path


class FrontMatter(BaseModel):
    """What Atlas writes at the head of a record's file."""

    model_config = ConfigDict(extra="forbid")

    number: int = Field(ge=0, le=999_999_999, description="its number in the project: ADR-7 is 7")
    status: Status
    date: dt.date = Field(description="when it was decided")
    owner: str = Field(description="who decided it")
    supersedes: list[int] = Field(default=[], description="numbers of decisions whose place it takes")
    superseded_by: int | None = Field(None, description="the number of the decision that holds instead")
    constraints: list[Annotated[str, AfterValidator(_binds)]] = Field(
        default=[], description="what must or must not be, a sentence each"
    )
    paths: list[Annotated[str, AfterValidator(_names_files)]] = Field(
        default=[], description="globs of the files that it governs, relative to the repository"
    )
    checks: list[str] = Field(default=[], description="commands that verify it in a checkout: `atlas check` runs them")
    sources: list[str] = Field(default=[], description="what it was written from: sha256:<hash> <path>")

    @model_validator(mode="after")
    def _says_by_what(self) -> FrontMatter:
        if (self.status == "superseded") != (self.superseded_by is not None):
            raise ValueError("superseded goes with superseded_by, and with nothing else")
        return self


def schema() -> JsonObject:
    """The JSON Schema (2020-12) of a front matter."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **FrontMatter.model_json_schema(),
        "title": "Front matter of a decision",
    }


def split(text: str, name: str) -> tuple[JsonObject | None, str]:
    """The front matter of a file and what follows it; None where it has none. Raises UsageError for one that is not YAML."""
    match = _BLOCK.match(text)
    if match is None:
        return None, text
    try:
        if len(match[1]) > _LONGEST:
            raise ValueError(f"it is longer than {_LONGEST} characters")
        # MADR 3 writes names as @ann, which YAML wants in quotes
        block = re.sub(r"(?m)^([\w-]+:[ \t]+)([@`][^\n]*)$", lambda line: f"{line[1]}{line[2]!r}", match[1])
        # aliases can make megabytes of a few lines
        if any(isinstance(token, (yaml.AnchorToken, yaml.AliasToken)) for token in yaml.scan(block)):
            raise ValueError("it has anchors")
        found = yaml.safe_load(block)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(
            f"{name}: its front matter cannot be read ({_gist(error)})", "correct the block between the --- lines"
        ) from None
    if found is None:
        return {}, text[match.end() :]
    if not isinstance(found, dict):
        raise UsageError(f"{name}: its front matter is not a list of fields", "write `name: value` lines between the --- lines")
    return {str(key): value for key, value in found.items()}, text[match.end() :]


def is_ours(fields: JsonObject | None) -> bool:
    """Whether Atlas wrote a front matter: MADR's has neither a number nor an owner."""
    return fields is not None and {"number", "owner"} <= set(fields)


def validated(fields: JsonObject, name: str) -> FrontMatter:
    """Raises UsageError that names the field and the fix."""
    try:
        return FrontMatter.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "status"
        raise UsageError(
            f"{name}: its front matter breaks the schema at {place} ({first['msg']})", "see `atlas schema decision`"
        ) from None


def written(front: FrontMatter) -> str:
    """The block as it stands at the head of a file."""
    fields: dict[str, Any] = front.model_dump(exclude_defaults=True)
    ordered = {name: fields[name] for name in FrontMatter.model_fields if name in fields}
    return f"---\n{yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=1_000)}---\n\n"


def _gist(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
