"""An export of the audit: JSON Lines that prove themselves, without a database.

The first line says what it is, `{"atlas_audit": 1, "upto": …, "rows": …, "seals": …}`; each other line is a row or a seal.
Numbers and details are the texts that Postgres hashed (atlas.audit_hash), so that a reader hashes the same bytes. A file holds
the audit from its beginning, up to the transactions that were over when it was written.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from atlas.database.audit import audit_mac
from atlas.errors import UsageError
from atlas.task import JsonObject

VERSION = 1


def header(upto: str, rows: int, seals: int) -> JsonObject:
    """The first line."""
    return {"atlas_audit": VERSION, "upto": upto, "rows": rows, "seals": seals}


def row_line(row: Mapping[str, Any]) -> JsonObject:
    """A line of atlas.audit: hashes in hexadecimal, `at` in seconds since 1970 with microseconds, detail as its text."""
    return {
        "kind": "row", "id": row["id"], "xact": row["xact"], "task_id": row["task_id"] and str(row["task_id"]),
        "seq": row["seq"], "event": row["event"], "actor": row["actor"], "at": row["at"], "detail": row["detail"],
        "prev_hash": row["prev_hash"] and row["prev_hash"].hex(), "hash": row["hash"].hex(),
    }  # fmt: skip


def seal_line(seal: Mapping[str, Any]) -> JsonObject:
    """A line of atlas.audit_checkpoint."""
    return {
        "kind": "seal", "id": seal["id"], "upto": seal["upto"], "rows": seal["rows"], "digest": seal["digest"].hex(),
        "prev_mac": seal["prev_mac"] and seal["prev_mac"].hex(), "mac": seal["mac"].hex(),
    }  # fmt: skip


def row_hash(row: Mapping[str, Any]) -> str:
    """What atlas.audit_hash says of a line, in hexadecimal."""
    parts = (row["prev_hash"] or "-", row["task_id"] or "-", row["seq"], row["event"], row["actor"], row["at"], row["detail"])
    return hashlib.sha256("|".join(str(part) for part in parts).encode()).hexdigest()


def verify_file(lines: Iterable[str], key: bytes | None) -> Iterator[str]:
    """A sentence for each thing that does not fit: hashes, chains, seals, and their MACs where the key is known.

    Raises UsageError for what is not an export of the audit.
    """
    documents = _documents(lines)
    try:
        _, head = next(documents)
    except StopIteration:
        head = {}
    if head.get("atlas_audit") != VERSION:
        raise UsageError("this is not an export of Atlas's audit", "write one with `atlas audit export`")
    chains: dict[str, tuple[int, str]] = {}
    counts: Counter[str] = Counter()
    waiting: dict[int, tuple[int, bytes]] = {}
    seals: list[JsonObject] = []
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
    for kind, named in (("row", "rows"), ("seal", "seals")):
        if counts[kind] != head[named]:
            yield f"the file has {counts[kind]} {named} of {head[named]}: it was cut"


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


def read_chains(lines: Iterable[str]) -> tuple[dict[str, AuditChain], list[JsonObject]]:
    """The chains of an export by task, and its seals. Raises UsageError for what is not an export, or does not prove itself."""
    found = list(lines)
    for problem in verify_file(found, None):
        raise UsageError(f"the export does not prove itself: {problem}", "export the audit again")
    chains: dict[str, AuditChain] = {}
    seals: list[JsonObject] = []
    for _, line in itertools.islice(_documents(found), 1, None):
        if line["kind"] == "seal":
            seals.append(line)
        elif line["task_id"] is not None:
            chain = chains.setdefault(line["task_id"], AuditChain())
            chain.hashes.append(line["hash"])
            chain.events.append(line["event"])
    return chains, seals


def _seals(seals: list[JsonObject], rows: Mapping[int, tuple[int, bytes]], key: bytes | None) -> Iterator[str]:
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


def _documents(lines: Iterable[str]) -> Iterator[tuple[int, JsonObject]]:
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
        except ValueError as error:
            raise UsageError(f"line {number} is not JSON ({error})", "export the audit again") from error
        if not isinstance(found, dict) or (number > 1 and found.get("kind") not in ("row", "seal")):
            raise UsageError(f"line {number} is neither a row nor a seal", "export the audit again")
        yield number, found
