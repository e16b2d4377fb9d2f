"""Rows as JSON has them become rows as Postgres has them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

Row = dict[str, Any]


def typed(row: Row) -> Row:
    """JSON has text where Postgres has times; lists of rows are typed as well."""
    for name, value in row.items():
        if isinstance(value, str) and (name.endswith("_at") or name in ("run_after", "at")):
            row[name] = datetime.fromisoformat(value)
        elif isinstance(value, list) and name in ("attempt_list", "calls", "audit"):
            row[name] = [typed(one) for one in value]
    if {"queued_at", "finished_at", "took"} <= row.keys() and row["took"] is not None:
        row["took"] = row["finished_at"] - row["queued_at"]
    return row
