"""Seals of the audit: an HMAC over what was written since the seal before, whose key never reaches Postgres."""

from __future__ import annotations

import hashlib
import hmac

import asyncpg

from atlas.database.pool import Pool, UniqueViolated


async def seal_audit(pool: Pool, key: bytes) -> int:
    """Seals what is new in the audit; answers how many rows. The key never reaches Postgres."""

    async def work(connection: asyncpg.Connection) -> int:
        # one snapshot for the digest and the check of it
        async with connection.transaction(isolation="repeatable_read"):
            row = await connection.fetchrow("select upto::text, rows, digest, prev_mac from atlas.audit_digest()")
            if row is None:
                return 0
            mac = audit_mac(key, row["upto"], row["rows"], row["digest"], row["prev_mac"])
            await connection.execute(
                "select atlas.seal_audit($1::text::xid8, $2, $3, $4, $5, $6, $7)",
                row["upto"], row["rows"], row["digest"], row["prev_mac"], mac, _proof(key, row["prev_mac"]),
                hashlib.sha256(_proof(key, mac)).digest(),
            )  # fmt: skip
            return int(row["rows"])

    try:
        return await pool.call(work)
    except UniqueViolated:
        return 0  # another worker sealed the same rows first


def audit_mac(key: bytes, upto: str, rows: int, digest: bytes, prev_mac: bytes | None) -> bytes:
    """The HMAC-SHA256 of a seal."""
    text = b"|".join((upto.encode(), str(rows).encode(), digest, prev_mac or b""))
    return hmac.new(key, text, hashlib.sha256).digest()


def _proof(key: bytes, mac: bytes | None) -> bytes:
    """What the seal after the one with that MAC must show; only the key's holder can compute it."""
    return hmac.new(key, b"proof|" + (mac or b""), hashlib.sha256).digest()
