"""What a channel wants to hear of the changes: its bindings, their filters, and which change fits."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atlas.local.supabase.pgoutput import Change
from atlas.local.supabase.row_filter import OPERATORS, RowFilter

if TYPE_CHECKING:
    from atlas.local.supabase.changes import Visibility


class BadFilter(Exception):
    """A binding that Postgres cannot follow; the message is the real server's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One entry of config.postgres_changes."""

    id: int
    wanted: Mapping[str, Any]

    @classmethod
    def of(cls, wanted: Mapping[str, Any]) -> Binding:
        return cls(id=zlib.crc32(repr(sorted(wanted.items())).encode()) & 0x7FFFFFF, wanted=dict(sorted(wanted.items())))

    def as_json(self) -> dict[str, Any]:
        return {"id": self.id, **self.wanted}

    @property
    def event(self) -> str:
        return str(self.wanted.get("event", "*"))

    @property
    def schema(self) -> str:
        return str(self.wanted.get("schema", "public"))

    @property
    def table(self) -> str:
        return str(self.wanted.get("table", "*"))

    @property
    def filters(self) -> tuple[RowFilter, ...]:
        """All of them must hold."""
        text = str(self.wanted.get("filter") or "")
        return tuple(RowFilter.of(part) for part in _split(text)) if text else ()

    @property
    def select(self) -> frozenset[str] | None:
        """The columns that are asked for; None: all."""
        found = self.wanted.get("select")
        names = found.split(",") if isinstance(found, str) else found
        return frozenset(str(name).strip() for name in names) if names else None


def _split(text: str) -> list[str]:
    """The parts between commas, but for those of an in-list."""
    parts, depth = [""], 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def by_select(bindings: Sequence[Binding]) -> list[tuple[frozenset[str] | None, list[int]]]:
    """The ids of bindings, grouped by the columns that they ask for."""
    found: dict[frozenset[str] | None, list[int]] = {}
    for binding in bindings:
        found.setdefault(binding.select, []).append(binding.id)
    return list(found.items())


def matches(binding: Binding, change: Change) -> bool:
    """Whether a change is of the event and the table that the binding asks for; its filters are Postgres's to judge."""
    event = binding.event.upper()
    # an event that the server does not know is as good as *
    if event in ("INSERT", "UPDATE", "DELETE") and event != change.kind:
        return False
    return binding.schema == change.relation.schema and binding.table in ("*", change.relation.table)


async def check_filter(visibility: Visibility, binding: Binding) -> None:
    """Raises BadFilter for a table that is not published, or a filter that Postgres cannot follow."""
    for one in binding.filters:
        if one.operator not in OPERATORS:
            raise BadFilter(f'Error parsing `filter` params: ["{one.operator}", "{one.value}"]')
    columns = await visibility.published(binding.schema, binding.table)
    filters = ", ".join(
        f'{{"{one.column}", "{one.operator}", "{one.value}", {str(one.negated).lower()}}}' for one in binding.filters
    )
    asked = f"[event: {binding.event}, schema: {binding.schema}, table: {binding.table}, filters: [{filters}], select: nil]"
    start = "Unable to subscribe to changes with given parameters. "
    if columns is None:
        raise BadFilter(f"{start}Please check Realtime is enabled for the given connect parameters: {asked}")
    for one in binding.filters:
        problem: str | None = f"ERROR P0001 (raise_exception) invalid column for filter {one.column}"
        if one.column in columns:
            problem = await visibility.cannot_compare(one, binding.schema, binding.table)
        if problem is not None:
            raise BadFilter(
                f"{start}An exception happened so please check your connect parameters: {asked}. Exception: {problem}"
            )
