"""A condition that a subscriber puts on rows: `column=operator.value`, as Postgres judges it."""

from __future__ import annotations

from dataclasses import dataclass

_COMPARED = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_MATCHED = {"like": "like", "ilike": "ilike", "match": "~", "imatch": "~*"}
OPERATORS = frozenset({*_COMPARED, *_MATCHED, "in", "is"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFilter:
    """column=operator.value, or column=not.operator.value."""

    column: str
    operator: str
    value: str
    negated: bool = False

    @classmethod
    def of(cls, text: str) -> RowFilter:
        column, _, rest = text.partition("=")
        negated = rest.startswith("not.")
        operator, _, value = rest.removeprefix("not.").partition(".")
        if operator == "in":
            value = "{" + value.strip("()") + "}"
        return cls(column=column, operator=operator, value=value, negated=negated)

    def cast(self, kind: str) -> str:
        """Reads $1, the filter's value, as what the column is compared with."""
        wanted = {"in": f"{kind}[]", "is": "text"}.get(self.operator, kind if self.operator in _COMPARED else "text")
        return f"select $1::text::{wanted} is null"

    def query(self, kind: str) -> str:
        """Compares $1, the row's value, with $2, the filter's, both as text; kind is the column's type, from the catalogue."""
        if self.operator in _COMPARED:
            test = f"$1::text::{kind} {_COMPARED[self.operator]} $2::text::{kind}"
        elif self.operator == "in":
            test = f"$1::text::{kind} = any ($2::text::{kind}[])"
        elif self.operator == "is":
            same = "$1::text::boolean is not distinct from $2::text::boolean"
            test = f"case lower($2::text) when 'null' then $1::text is null else {same} end"
        else:
            test = f"$1::text {_MATCHED[self.operator]} $2::text"
        return f"select coalesce({'not ' if self.negated else ''}({test}), false)"
