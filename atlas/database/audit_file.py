"""An export of the audit: JSON Lines that prove themselves, without a database.

The first line says what it is, `{"atlas_audit": 1, "upto": …, "rows": …, "seals": …}`; each other line is a row or a seal.
Numbers and details are the texts that Postgres hashed (atlas.audit_hash), so that a reader hashes the same bytes. A file holds
the audit from its beginning, up to the transactions that were over when it was written.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from atlas.database.audit import audit_mac
from atlas.errors import UsageError

VERSION = 1
Hex = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})+$")]
Transaction = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,19}$")]


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


@dataclass(slots=True, kw_only=True)
class Proof:
    """What an export proves. problems: a sentence each. unsealed: rows after the last seal. Mutable."""

    problems: list[str] = field(default_factory=list)
    seals: list[SealLine] = field(default_factory=list)
    unsealed: int = 0


MOST = 20
"""Problems that are told: after these a file needs no more of them."""


def prove(lines: Iterable[str], keys: Sequence[bytes] = (), *, chains: dict[str, AuditChain] | None = None) -> Proof:
    """Checks hashes, chains, seals, and the seals' MACs where keys are known (newest first). chains: takes those of the file.

    Raises UsageError for what is not an export of the audit.
    """
    head, documents = _read(lines)
    proof = Proof()
    ends: dict[str, tuple[int, str]] = {}
    transactions, hashes, last_id = array("Q"), bytearray(), 0
    for number, line in documents:
        if len(proof.problems) >= MOST:
            return proof
        if line["kind"] == "seal":
            proof.seals.append(line)
            continue
        what = f"task {line['task_id']}, row {line['id']}"
        if row_hash(line) != line["hash"]:
            proof.problems.append(f"line {number}: the hash does not fit the row ({what})")
        if line["id"] <= last_id:
            proof.problems.append(f"line {number}: the row does not come after row {last_id} ({what})")
        last_id = max(last_id, line["id"])
        if (task := line["task_id"]) is not None:
            seq, last = ends.get(task, (0, None))
            if (line["seq"], line["prev_hash"]) != (seq + 1, last):
                proof.problems.append(f"line {number}: the chain is broken before this row ({what})")
            ends[task] = (line["seq"], line["hash"])
            if chains is not None:
                chain = chains.setdefault(task, AuditChain())
                chain.hashes.append(line["hash"])
                chain.events.append(line["event"])
        transactions.append(int(line["xact"]))
        hashes += bytes.fromhex(line["hash"])
    for kind, count, expected in (("row", len(transactions), head["rows"]), ("seal", len(proof.seals), head["seals"])):
        if count != expected:
            proof.problems.append(f"the file has {count} {kind}s of {expected}: it was cut")
    proof.problems += _uncovered(proof, transactions, hashes)
    proof.problems += seal_problems(proof.seals, keys)
    return proof


def _uncovered(proof: Proof, transactions: Sequence[int], hashes: bytearray) -> Iterator[str]:
    """Seals that do not fit the rows of their transactions. Counts the rows after the last one."""
    order = sorted(range(len(transactions)), key=transactions.__getitem__)
    at = 0
    for seal in proof.seals:
        begin, upto = at, int(seal["upto"])
        while at < len(order) and transactions[order[at]] < upto:
            at += 1
        digest = hashlib.sha256(b"".join(hashes[32 * row : 32 * row + 32] for row in sorted(order[begin:at])))
        if (at - begin, digest.hexdigest()) != (seal["rows"], seal["digest"]):
            yield f"seal {seal['id']} does not fit its rows"
    proof.unsealed = len(order) - at


def seal_problems(seals: Iterable[SealLine], keys: Sequence[bytes]) -> Iterator[str]:
    """Seals that do not follow each other, or have another key. keys: newest first; a newer one ends the older ones."""
    allowed = list(keys)
    earlier = None
    for seal in seals:
        if seal["prev_mac"] != earlier:
            yield f"seal {seal['id']} follows another one"
        previous = bytes.fromhex(earlier) if earlier else None
        text = (seal["upto"], seal["rows"], bytes.fromhex(seal["digest"]), previous)
        used = next((place for place, key in enumerate(allowed) if seal["mac"] == audit_mac(key, *text).hex()), None)
        if used is not None:
            del allowed[used + 1 :]
        elif keys:
            yield f"seal {seal['id']} was made with another key"
        earlier = seal["mac"]


def _read(lines: Iterable[str]) -> tuple[Head, Iterator[tuple[int, RowLine | SealLine]]]:
    """The first line, and the others with their numbers. Raises UsageError for what an export does not hold."""
    numbered = enumerate(lines, 1)
    first = next(numbered, (1, ""))[1]
    if '"atlas_audit"' not in first:
        raise UsageError("this is not an export of Atlas's audit", "write one with `atlas audit export`")
    head = _checked(_HEAD, 1, first)
    if head["atlas_audit"] != VERSION:
        raise UsageError(f"this is an export of version {head['atlas_audit']}", f"this Atlas reads version {VERSION}")
    return head, ((number, _checked(_LINE, number, line)) for number, line in numbered)


def _checked(adapter: TypeAdapter[Checked], number: int, line: str) -> Checked:
    try:
        return adapter.validate_json(line, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"line {number} is not of an export ({where + ': ' if where else ''}{first['msg']})", "export the audit again"
        ) from error
