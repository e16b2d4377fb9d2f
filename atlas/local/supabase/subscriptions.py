"""What a channel wants to hear of the changes: its bindings, their filters, and which change fits."""

from __future__ import annotations

import operator
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atlas.local.supabase.pgoutput import Change

if TYPE_CHECKING:
    from atlas.local.supabase.changes import Visibility

_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "eq": operator.eq, "neq": operator.ne, "in": lambda value, wanted: value in wanted.strip("()").split(","),
}  # fmt: skip


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
    def filter(self) -> tuple[str, str, str] | None:
        """(column, operator, value)."""
        text = self.wanted.get("filter")
        if not text:
            return None
        column, _, rest = str(text).partition("=")
        name, _, value = rest.partition(".")
        return column, name, value


def matches(binding: Binding, change: Change) -> bool:
    """Whether a change is one that the binding asks for."""
    if binding.event not in ("*", change.kind) or binding.schema != change.relation.schema:
        return False
    if binding.table not in ("*", change.relation.table):
        return False
    if binding.filter is None:
        return True
    column, name, wanted = binding.filter
    value = (change.new or change.old).get(column)
    return value is not None and _OPERATORS[name](value, wanted)


async def check_filter(visibility: Visibility, binding: Binding) -> None:
    """Raises BadFilter for a table that is not published, or a filter on a column that is not there."""
    if binding.filter is not None and binding.filter[1] not in _OPERATORS:
        raise BadFilter(f'Error parsing `filter` params: ["{binding.filter[1]}", "{binding.filter[2]}"]')
    columns = await visibility.published(binding.schema, binding.table)
    filters = ""
    if binding.filter is not None:
        column, name, value = binding.filter
        filters = f'{{"{column}", "{name}", "{value}", false}}'
    asked = f"[event: {binding.event}, schema: {binding.schema}, table: {binding.table}, filters: [{filters}], select: nil]"
    start = "Unable to subscribe to changes with given parameters. "
    if columns is None:
        raise BadFilter(f"{start}Please check Realtime is enabled for the given connect parameters: {asked}")
    if binding.filter is not None and binding.filter[0] not in columns:
        raise BadFilter(
            f"{start}An exception happened so please check your connect parameters: {asked}. "
            f"Exception: ERROR P0001 (raise_exception) invalid column for filter {binding.filter[0]}"
        )
