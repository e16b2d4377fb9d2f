"""Indexes files: finds them, skips what is no text or looks secret, and stores those that changed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import asyncpg

from atlas.errors import UsageError
from atlas.rag.chunk import cut, kind_of, title_of
from atlas.tokens import Count

LARGEST = 2 * 1024 * 1024
"""Bytes of a file; larger ones are skipped."""

_SKIPPED_FOLDERS = frozenset(
    {".git", ".hg", ".venv", "venv", "node_modules", "__pycache__", ".atlas", "dist", "build", ".mypy_cache", ".tox", "target"}
)
_SECRET_NAME = re.compile(r"^\.env(\..*)?$|\.(pem|key|p12|pfx|keystore)$|^id_(rsa|ed25519|ecdsa|dsa)", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file to index: its name as sources show it, and where it is."""

    source: str
    path: Path


@dataclass(slots=True)
class Report:
    """What indexing did. Mutable while it runs."""

    files: int = 0
    unchanged: int = 0
    indexed: int = 0
    chunks: int = 0
    tokens: int = 0
    dropped: int = 0
    skipped: list[str] = field(default_factory=list)


def find_files(paths: Sequence[Path]) -> list[File]:
    """All files under the paths whose kind is indexed, sorted. Names are relative to the working folder where they lie in it,
    else to the path's parent. Raises UsageError for a path that is not there."""
    found: dict[str, File] = {}
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} is not there", "name a file or a folder")
        for file in _walk(path):
            if path.is_file() or kind_of(file.name) or _SECRET_NAME.search(file.name):
                inside = file.relative_to(path) if file != path else Path()
                name = (Path(source_name(path)) / inside).as_posix()
                found[name] = File(source=name, path=file)
    return [found[name] for name in sorted(found)]


def source_name(path: Path) -> str:
    """How sources show a path: relative to the working folder where it lies in it, else to the path's parent."""
    whole = path.absolute()
    here = Path.cwd()
    return whole.relative_to(here if whole.is_relative_to(here) and whole != here else whole.parent).as_posix()


def _walk(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS and not name.startswith("."))
        for name in sorted(files):
            file = Path(folder) / name
            # no pipes or devices, and no names that are not UTF-8
            if file.is_file() and name.isprintable():
                yield file


async def index(
    connection: asyncpg.Connection,
    files: Sequence[File],
    *,
    project: UUID | None,
    count: Count,
    advance: Callable[[File], None] = lambda _file: None,
    drop_under: Sequence[str] = (),
) -> Report:
    """Stores the files that changed; drops documents under drop_under that are no longer there. project None: shared."""
    report = Report(files=len(files))
    rows = await connection.fetch("select * from rag.known_documents($1, $2)", project, [file.source for file in files])
    known = {row["source"]: row["content_sha256"] for row in rows}
    kept = []
    for file in files:
        advance(file)
        text, why = _read(file.path)
        if text is None:
            report.skipped.append(f"{file.source}: {why}")
            continue
        kept.append(file.source)
        digest = hashlib.sha256(text.encode()).digest()
        if known.get(file.source) == digest:
            report.unchanged += 1
            continue
        kind = kind_of(file.path.name) or "text"
        pieces = cut(text, kind, file.path.name, count)
        chunks = [
            {
                "seq": seq,
                "heading": piece.heading,
                "start_line": piece.start_line,
                "end_line": piece.end_line,
                "text": piece.text,
                "tokens": piece.tokens,
            }
            for seq, piece in enumerate(pieces)
        ]
        title = title_of(text, kind, file.path.name)
        try:
            await connection.fetchval(
                "select rag.put_document($1, $2, $3, $4, $5, $6)", project, file.source, title, kind, digest, chunks
            )
        except (asyncpg.DataError, asyncpg.ProgramLimitExceededError) as error:
            report.skipped.append(f"{file.source}: Postgres does not take it ({error})")
            continue
        report.indexed += 1
        report.chunks += len(pieces)
        report.tokens += sum(piece.tokens for piece in pieces)
    for under in drop_under:
        report.dropped += await connection.fetchval("select rag.drop_documents($1, $2, $3)", project, under, kept)
    return report


def _read(path: Path) -> tuple[str | None, str]:
    """The text of a file, or why it is skipped."""
    if _SECRET_NAME.search(path.name):
        return None, "its name looks like a secret"
    try:
        if path.stat().st_size > LARGEST:
            return None, f"it is larger than {LARGEST // 1024 // 1024} MiB"
        data = path.read_bytes()
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"
    if b"\x00" in data[:8192]:
        return None, "it is binary"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None, "it is not UTF-8"
    if _SECRET_TEXT.search(text):
        return None, "it holds a private key"
    return text.replace("\x00", "\ufffd"), ""
