"""Reads pgoutput, the logical replication messages of Postgres (protocol version 1; "Logical Replication Message Formats"
in its manual)."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

Kind = Literal["INSERT", "UPDATE", "DELETE"]

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A table as a publication describes it. columns: (name, type oid, part of the replica identity)."""

    schema: str
    table: str
    identity: str
    columns: tuple[tuple[str, int, bool], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One committed row change. Values are text as Postgres prints them, None for null; unchanged TOAST values are absent."""

    kind: Kind
    relation: Relation
    committed_at: datetime
    new: dict[str, str | None]
    old: dict[str, str | None]


class Decoder:
    """Turns messages into changes; remembers relations, since each is described once a session."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}
        self._committed_at = _EPOCH

    def feed(self, message: bytes) -> Change | None:
        """The change of a message; None for a message of another kind."""
        kind, reader = message[:1], _Reader(message, 1)
        if kind == b"B":
            reader.number("q")
            self._committed_at = _EPOCH + timedelta(microseconds=reader.number("q"))
        elif kind == b"R":
            oid = reader.number("I")
            schema, table, identity = reader.string() or "pg_catalog", reader.string(), chr(reader.number("B"))
            columns = []
            for _ in range(reader.number("H")):
                is_key = bool(reader.number("B"))
                columns.append((reader.string(), reader.number("I"), is_key))
                reader.number("i")
            self._relations[oid] = Relation(schema=schema, table=table, identity=identity, columns=tuple(columns))
        elif kind in (b"I", b"U", b"D"):
            return self._row(kind, reader)
        return None

    def _row(self, kind: bytes, reader: _Reader) -> Change:
        relation = self._relations[reader.number("I")]
        old: dict[str, str | None] = {}
        new: dict[str, str | None] = {}
        part = chr(reader.number("B"))
        if part in "KO":
            old = reader.tuple(relation)
            if part == "K":
                old = {name: old[name] for name, _, is_key in relation.columns if is_key}
            if kind == b"U":
                part = chr(reader.number("B"))
        if part == "N":
            new = reader.tuple(relation)
        names: dict[bytes, Kind] = {b"I": "INSERT", b"U": "UPDATE", b"D": "DELETE"}
        return Change(kind=names[kind], relation=relation, committed_at=self._committed_at, new=new, old=old)


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def number(self, code: str) -> int:
        value: int
        (value,) = struct.unpack_from(f"!{code}", self._data, self._at)
        self._at += struct.calcsize(code)
        return value

    def string(self) -> str:
        end = self._data.index(b"\0", self._at)
        text = self._data[self._at : end].decode()
        self._at = end + 1
        return text

    def tuple(self, relation: Relation) -> dict[str, str | None]:
        values: dict[str, str | None] = {}
        count = self.number("H")
        for name, _, _ in relation.columns[:count]:
            kind = chr(self.number("B"))
            if kind == "n":
                values[name] = None
            elif kind == "t":
                length = self.number("I")
                values[name] = self._data[self._at : self._at + length].decode()
                self._at += length
        return values


def _time(text: str) -> str:
    moment = text.replace(" ", "T", 1)
    return moment + ":00" if moment[-3:-2] in "+-" else moment


_READ: dict[str, Callable[[str], Any]] = {
    "bool": lambda text: text == "t",
    "int2": int, "int4": int, "int8": int, "oid": int, "float4": float, "float8": float, "numeric": float,
    "json": json.loads, "jsonb": json.loads,
    "timestamp": _time, "timestamptz": _time,
}  # fmt: skip


def as_json(text: str | None, type_name: str) -> Any:
    """A value as to_jsonb() of Postgres would have it. type_name: pg_type.typname."""
    return None if text is None else _READ.get(type_name, str)(text)
