"""An export of the audit: JSON Lines that prove themselves, without a database.

The first line says what it is, `{"atlas_audit": 1, "upto": …, "rows": …, "seals": …}`; each other line is a row or a seal.
Numbers and details are the texts that Postgres hashed (atlas.audit_hash), so that a reader hashes the same bytes. A file holds
the audit from its beginning, up to the transactions that were over when it was written.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from atlas.database.audit import audit_mac
from atlas.errors import UsageError

VERSION = 1
Hex = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})+$")]
Transaction = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,20}$")]


class Head(TypedDict):
    """The first line."""

    atlas_audit: int
    upto: Transaction
    rows: int
    seals: int


class RowLine(TypedDict):
    """A row of atlas.audit: `at` in seconds since 1970 with microseconds, detail as its text."""

    kind: Literal["row"]
    id: int
    xact: Transaction
    task_id: str | None
    seq: int
    event: str
    actor: str
    at: str
    detail: str
    prev_hash: Hex | None
    hash: Hex


class SealLine(TypedDict):
    """A row of atlas.audit_checkpoint."""

    kind: Literal["seal"]
    id: int
    upto: Transaction
    rows: int
    digest: Hex
    prev_mac: Hex | None
    mac: Hex


Checked = TypeVar("Checked")
_HEAD: TypeAdapter[Head] = TypeAdapter(Head)
_LINE: TypeAdapter[RowLine | SealLine] = TypeAdapter(Annotated[RowLine | SealLine, Field(discriminator="kind")])


def header(upto: str, rows: int, seals: int) -> Head:
    """The first line."""
    return {"atlas_audit": VERSION, "upto": upto, "rows": rows, "seals": seals}


def row_line(row: Mapping[str, Any]) -> RowLine:
    """A row as the database has it, with the texts that were hashed."""
    return {
        "kind": "row", "id": row["id"], "xact": row["xact"], "task_id": row["task_id"] and str(row["task_id"]),
        "seq": row["seq"], "event": row["event"], "actor": row["actor"], "at": row["at"], "detail": row["detail"],
        "prev_hash": row["prev_hash"] and row["prev_hash"].hex(), "hash": row["hash"].hex(),
    }  # fmt: skip


def seal_line(seal: Mapping[str, Any]) -> SealLine:
    """A seal as the database has it."""
    return {
        "kind": "seal", "id": seal["id"], "upto": seal["upto"], "rows": seal["rows"], "digest": seal["digest"].hex(),
        "prev_mac": seal["prev_mac"] and seal["prev_mac"].hex(), "mac": seal["mac"].hex(),
    }  # fmt: skip


def row_hash(row: RowLine) -> str:
    """What atlas.audit_hash says of a line, in hexadecimal."""
    parts = (row["prev_hash"] or "-", row["task_id"] or "-", row["seq"], row["event"], row["actor"], row["at"], row["detail"])
    return hashlib.sha256("|".join(str(part) for part in parts).encode()).hexdigest()


def verify_file(lines: Iterable[str], key: bytes | None) -> Iterator[str]:
    """A sentence for each thing that does not fit: hashes, chains, seals, and their MACs where the key is known.

    Raises UsageError for what is not an export of the audit.
    """
    head, documents = _read(lines)
    chains: dict[str, tuple[int, str]] = {}
    counts: Counter[str] = Counter()
    waiting: dict[int, tuple[int, bytes]] = {}
    seals: list[SealLine] = []
    for number, line in documents:
        counts[line["kind"]] += 1
        if line["kind"] == "seal":
            seals.append(line)
            continue
        if row_hash(line) != line["hash"]:
            yield f"line {number}: the hash does not fit the row (task {line['task_id']}, row {line['id']})"
        if line["task_id"] is not None:
            seq, last = chains.get(line["task_id"], (0, None))
            if (line["seq"], line["prev_hash"]) != (seq + 1, last):
                yield f"line {number}: the chain is broken before this row (task {line['task_id']}, row {line['id']})"
            chains[line["task_id"]] = (line["seq"], line["hash"])
        waiting[line["id"]] = (int(line["xact"]), bytes.fromhex(line["hash"]))
    yield from _seals(seals, waiting, key)
    for kind, expected in (("row", head["rows"]), ("seal", head["seals"])):
        if counts[kind] != expected:
            yield f"the file has {counts[kind]} {kind}s of {expected}: it was cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditChain:
    """The rows of a task in an export: the hash of each, in order, and the events."""

    hashes: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def went_on(self, seq: int, last: str) -> list[str] | None:
        """The events after a row of a copy of this chain; None where the copy has diverged."""
        if seq > len(self.hashes) or (seq and self.hashes[seq - 1] != last):
            return None
        return self.events[seq:]


def read_chains(lines: Iterable[str]) -> tuple[dict[str, AuditChain], list[SealLine]]:
    """The chains of an export by task, and its seals. Raises UsageError for what is not an export, or does not prove itself."""
    found = list(lines)
    for problem in verify_file(found, None):
        raise UsageError(f"the export does not prove itself: {problem}", "export the audit again")
    chains: dict[str, AuditChain] = {}
    seals: list[SealLine] = []
    for _, line in _read(found)[1]:
        if line["kind"] == "seal":
            seals.append(line)
        elif line["task_id"] is not None:
            chain = chains.setdefault(line["task_id"], AuditChain())
            chain.hashes.append(line["hash"])
            chain.events.append(line["event"])
    return chains, seals


def _seals(seals: list[SealLine], rows: Mapping[int, tuple[int, bytes]], key: bytes | None) -> Iterator[str]:
    ordered = [rows[one] for one in sorted(rows)]
    since, earlier = 0, None
    for seal in seals:
        upto = int(seal["upto"])
        covered = [digest for xact, digest in ordered if since <= xact < upto]
        if (len(covered), hashlib.sha256(b"".join(covered)).hexdigest()) != (seal["rows"], seal["digest"]):
            yield f"seal {seal['id']} does not fit its rows"
        if seal["prev_mac"] != earlier:
            yield f"seal {seal['id']} follows another one"
        previous = bytes.fromhex(earlier) if earlier else None
        if (
            key is not None
            and seal["mac"] != audit_mac(key, seal["upto"], seal["rows"], bytes.fromhex(seal["digest"]), previous).hex()
        ):
            yield f"seal {seal['id']} was not made with this key"
        since, earlier = upto, seal["mac"]


def _read(lines: Iterable[str]) -> tuple[Head, Iterator[tuple[int, RowLine | SealLine]]]:
    """The first line, and the others with their numbers. Raises UsageError for what an export does not hold."""
    numbered = enumerate(lines, 1)
    first = next(numbered, (1, ""))[1]
    if f'"atlas_audit": {VERSION}' not in first:
        raise UsageError("this is not an export of Atlas's audit", "write one with `atlas audit export`")
    return _checked(_HEAD, 1, first), ((number, _checked(_LINE, number, line)) for number, line in numbered)


def _checked(adapter: TypeAdapter[Checked], number: int, line: str) -> Checked:
    try:
        return adapter.validate_json(line, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"line {number} is not of an export ({where + ': ' if where else ''}{first['msg']})", "export the audit again"
        ) from error
