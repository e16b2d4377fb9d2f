"""A plan: work items by a strict JSON Schema, and the same as Markdown, which grows at its end as the JSON does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jiter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atlas.task import JsonObject

_SOURCE = r"^S\d+$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PlanItem(_Strict):
    """A piece of work that one person can finish. depends_on: numbers of earlier items, from 1."""

    title: str = Field(min_length=1, max_length=120)
    context: str = Field(min_length=1)
    technical_spec: str = Field(min_length=1)
    acceptance: list[str] = Field(min_length=1)
    depends_on: list[int]


class Used(_Strict):
    """A source, and what it was used for."""

    id: str = Field(pattern=_SOURCE)
    used_for: str


class Plan(_Strict):
    """What a model answers when it is asked for a plan."""

    title: str = Field(min_length=1)
    context: str = Field(min_length=1)
    items: list[PlanItem] = Field(min_length=1, max_length=40)
    open_questions: list[str]
    sources: list[Used]


def schema() -> JsonObject:
    """The schema as structured output takes it: every field is required, and no other is allowed."""
    flat: JsonObject = _flat(Plan.model_json_schema())
    return flat


def _flat(node: Any, definitions: JsonObject | None = None) -> Any:
    """Without references, titles and defaults; bounds stay out, which not every server takes: they are checked afterwards."""
    if isinstance(node, list):
        return [_flat(part, definitions) for part in node]
    if not isinstance(node, dict):
        return node
    definitions = node.get("$defs", definitions or {})
    if "$ref" in node:
        return _flat(definitions[node["$ref"].rsplit("/", 1)[1]], definitions)
    kept: JsonObject = {}
    for name, value in node.items():
        if name == "properties":
            kept[name] = {key: _flat(part, definitions) for key, part in value.items()}
        elif name not in ("$defs", "title", "default", "minLength", "maxLength", "minItems", "maxItems", "pattern"):
            kept[name] = _flat(value, definitions)
    return kept


def problems(text: str) -> list[str]:
    """What is wrong with a plan in JSON, in words that a model can fix."""
    try:
        plan = Plan.model_validate_json(bare(text))
    except ValidationError as error:
        return [f"{'.'.join(map(str, found['loc'])) or 'the plan'}: {found['msg']}" for found in error.errors()][:10]
    found = []
    for number, item in enumerate(plan.items, 1):
        found += [
            f"items.{number - 1}.depends_on: item {number} cannot depend on item {other}"
            for other in item.depends_on
            if not 0 < other < number
        ]
    return found


def bare(text: str) -> str:
    """The JSON of a reply that put it into a fence all the same."""
    plain = text.strip()
    if plain.startswith("```"):
        plain = plain.split("\n", 1)[1] if "\n" in plain else ""
        plain = plain.rstrip().removesuffix("```")
    return plain


def work_items(text: str) -> list[JsonObject]:
    """The items of a valid plan, as metadata.work_items has them."""
    return [item.model_dump() for item in Plan.model_validate_json(bare(text)).items]


class PlanText:
    """The Markdown of a plan that is still being written. Mutable."""

    def __init__(self) -> None:
        self.json = ""
        self._shown = ""

    def add(self, text: str) -> str:
        """More JSON; answers with the Markdown that it adds."""
        self.json += text
        rendered = render(self.json, whole=False)
        new = rendered[len(self._shown) :] if rendered.startswith(self._shown) else ""
        self._shown += new
        return new

    def take(self, text: str) -> str:
        """All of the JSON so far; answers with all of its Markdown."""
        self.json = text
        self._shown = render(text, whole=False)
        return self._shown

    def end(self) -> str:
        """All of the Markdown, of JSON that is over."""
        return render(self.json, whole=True)


def render(text: str, *, whole: bool) -> str:
    """A plan as Markdown; of JSON that goes on, as much as will stay as it is. What is not a plan comes out as it is."""
    try:
        found = jiter.from_json(bare(text).encode(), partial_mode="trailing-strings")
    except ValueError:
        return text if whole else ""
    if not isinstance(found, dict):
        return text if whole else ""
    return "".join(_lines(found, whole))


def _lines(plan: JsonObject, whole: bool) -> Iterator[str]:
    """Its parts in the order of the schema, up to the first that is not over: later ones may change."""
    last = next(reversed(plan), None)
    for key in Plan.model_fields:
        over = whole or (key in plan and key != last)
        yield from _part(key, plan.get(key), over)
        if not over:
            return


def _part(key: str, value: Any, over: bool) -> Iterator[str]:
    if key == "title" and isinstance(value, str):
        yield f"# {_line(value)}"
    elif key == "context" and isinstance(value, str):
        yield f"\n\n## Context\n\n{_text(value, over)}"
    elif key == "items" and isinstance(value, list) and value:
        yield "\n\n## Work items"
        titles = [_line(str(item.get("title", ""))) if isinstance(item, dict) else "" for item in value]
        for number, item in enumerate(value, 1):
            if isinstance(item, dict):
                yield from _item(item, titles[: number - 1], over or number < len(value))
    elif key == "open_questions" and isinstance(value, list):
        yield "\n\n## Open questions\n\n" + _list([_line(str(entry)) for entry in value], over)
    elif key == "sources" and isinstance(value, list) and over:
        used = [
            f"[{_line(str(one.get('id', '')))}] {_line(str(one.get('used_for', '')))}" for one in value if isinstance(one, dict)
        ]
        yield "\n\n## Sources\n\n" + _list(used, over) + "\n"


def _item(item: JsonObject, titles: list[str], whole: bool) -> Iterator[str]:
    last = next(reversed(item), None)
    for key in PlanItem.model_fields:
        over, value = whole or (key in item and key != last), item.get(key)
        if key == "title" and isinstance(value, str):
            yield f"\n\n### {_line(value)}"
        elif key in ("context", "technical_spec") and isinstance(value, str):
            yield f"\n\n#### {'Context' if key == 'context' else 'Technical Spec'}\n\n{_text(value, over)}"
        elif key == "acceptance" and isinstance(value, list):
            yield "\n\n#### Acceptance\n\n" + _list([_line(str(entry)) for entry in value], over)
        elif (
            key == "depends_on"
            and isinstance(value, list)
            and over
            and (known := [titles[number - 1] for number in value if isinstance(number, int) and 0 < number <= len(titles)])
        ):
            yield "\n\n#### Depends on\n\n" + _list(known, over)
        if not over:
            return


def _list(entries: list[str], done: bool) -> str:
    """A list; an empty one says so, once it is known to be."""
    if not entries:
        return "None." if done else ""
    return "\n".join(f"- {entry}" for entry in entries)


def _line(text: str) -> str:
    return " ".join(text.split())


def _text(text: str, done: bool) -> str:
    """A paragraph of a field. What would be a heading in it becomes bold, so that it does not end its section; code stays."""
    lines = text.strip().split("\n")
    if not done and lines[-1].lstrip()[:1] in ("#", "=", "-", "`", "~"):
        # it is not known yet what the line becomes
        lines = lines[:-1]
    shown: list[str] = []
    fence = ""
    for line in lines:
        plain = line.strip()
        if fence:
            fence = "" if plain.startswith(fence) and not plain.strip(fence[0]) else fence
            shown.append(line.rstrip())
        elif opening := re.match(r"(`{3,}|~{3,})", plain):
            fence = opening[1]
            shown.append(line.rstrip())
        elif plain.startswith("#"):
            shown.append(f"**{plain.strip(' #')}**")
        elif re.fullmatch(r"=+|-{2,}", plain):
            shown.append(f"\\{plain}")
        else:
            shown.append(line.rstrip())
    if done and fence:
        shown.append(fence)
    return "\n".join(shown).rstrip()
