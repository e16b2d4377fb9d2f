"""Finds the files of a folder that are worth reading: .gitignore is honoured, binaries and secrets are left out, and said."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from atlas.errors import UsageError
from atlas.rag.document import Document, Kind, Section, Unreadable, kind_of
from atlas.rag.naming import Naming, Repository

LARGEST = 2 * 1024 * 1024
"""Bytes of a text file; larger ones are skipped."""
LARGEST_PDF = 50 * 1024 * 1024
"""Bytes of a PDF: most of them are pictures."""

GONE = "it is gone"
UNREADABLE = "it cannot be read"
"""Why a file is skipped: the document of one that vanished goes, that of one that cannot be read now stays."""

_SKIPPED_FOLDERS = frozenset(
    {".git", ".hg", ".venv", "venv", "node_modules", "__pycache__", ".atlas", "dist", "build", ".mypy_cache", ".tox", "target"}
)
_SECRET_NAME = re.compile(
    r"^\.env(\..*)?$|\.(pem|key|p12|pfx|keystore|jks|kdbx|ppk)$|^id_(rsa|ed25519|ecdsa|dsa)|^\.(netrc|npmrc|pypirc|pgpass)$"
    r"|^\.envrc$|^[\w.-]+\.env$|^([\w.]+-)?(credentials|secrets?)(-[\w.]+)?(\.(json|ya?ml|toml|ini|txt))?$",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    rb"-{4,5} ?BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)? ?-{4,5}"
    rb"|\bsk-(proj-)?[A-Za-z0-9_-]{40,}|\bsb_secret_[A-Za-z0-9_-]{20,}|\bAKIA[0-9A-Z]{16}\b"
    rb"|\bsk_live_[A-Za-z0-9]{16,}|\bglpat-[A-Za-z0-9_-]{20,}|\bAIza[A-Za-z0-9_-]{35}"
    # a Supabase service_role key: its role, in each of the three ways in which base64 may cut it
    rb"|\beyJ[\w-]+\.[\w-]*(?:c2VydmljZV9yb2xl|NlcnZpY2Vfcm9sZ|zZXJ2aWNlX3JvbG)[\w-]*\."
    rb"|\bgh[pousr]_[A-Za-z0-9]{36,}|\bwhsec_[A-Za-z0-9+/=]{32,}|\bxox[abp]-[A-Za-z0-9-]{20,}"
)


_PRIVATE_KEY = re.compile(
    rb"-{4,5} ?BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)? ?-{4,5}((?:(?!-{4} ?BEGIN ).)*?)"
    rb"-{4,5} ?END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)? ?-{4,5}",
    re.DOTALL,
)
_TAG = re.compile(r"<[^<>]{1,2000}>")
_PROSE = frozenset({"markdown", "rst", "html", "text"})
"""Kinds of document that show what a key looks like. In code a key is a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file to index: its name as sources show it, where it is, and the repository that it is from."""

    source: str
    path: Path
    repository: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is under some paths.

    under: the sources of the folders that were looked through, and names that they had before; unread: those of folders that
    could not be listed; skipped: a line each.
    """

    files: list[File]
    under: list[str]
    unread: list[str]
    skipped: list[str]


def find_files(paths: Sequence[Path], *, named: str | None = None) -> Found:
    """All files under the paths whose kind is indexed, sorted by their sources.

    named: the name of the (one) path's repository, where it is known. Raises UsageError for a path that is not there.
    """
    files: dict[str, File] = {}
    under: dict[str, Path] = {}
    skipped: list[str] = []
    unread: list[str] = []
    naming = Naming()
    tops: dict[str, Path] = {}
    for given in paths:
        if not given.exists():
            raise UsageError(f"{given} is not there", "name a file or a folder")
        path = Path(os.path.normpath(given.absolute()))
        repository = naming.of(path) if named is None else Repository(name=named, top=path)
        tops.setdefault(repository.name, repository.top)
        if path.is_dir() and under.setdefault(repository.source(path), path).resolve() != path.resolve():
            raise UsageError(f"two of the paths are {repository.source(path)}", "index one working copy of a repository")
        if path.is_dir() and named is None:
            # what was indexed before the folder was a working copy, or before that had a remote, is named by the folder
            under.setdefault(path.as_posix(), path)

        def unlisted(error: OSError, repository: Repository = repository) -> None:
            source = repository.source(Path(str(error.filename)))
            unread.append(source)
            skipped.append(f"{source}: {UNREADABLE} ({error.strerror})")

        for file in _walk(path, unlisted):
            of = naming.inside(file, repository) if named is None else repository
            if tops.setdefault(of.name, of.top) != of.top:
                # a worktree, or a second clone: its files have the names of the first one's
                skipped.append(f"{file}: {of.top} is another working copy of {of.name}")
                continue
            if of.top.is_relative_to(path):
                under.setdefault(of.name, of.top)
            source = of.source(file)
            if path.is_file() or kind_of(file.name) or _SECRET_NAME.search(file.name):
                files[source] = File(source=source, path=file, repository=of.name)
            elif _is_binary(file):
                skipped.append(f"{source}: it is binary")
    return Found(files=[files[source] for source in sorted(files)], under=sorted(under), unread=unread, skipped=skipped)


def read_file(path: Path) -> tuple[bytes | None, str]:
    """The bytes of a file, or why it is skipped."""
    if _SECRET_NAME.search(path.name):
        return None, "its name looks like a secret"
    largest = LARGEST_PDF if path.suffix.lower() == ".pdf" else LARGEST
    try:
        if path.stat().st_size > largest:
            return None, f"it is larger than {largest // 1024 // 1024} MiB"
        data = path.read_bytes()
    except FileNotFoundError:
        return None, GONE
    except OSError as error:
        return None, f"{UNREADABLE} ({error.strerror})"
    if (why := secret_in(data, kind_of(path.name) or "text")) is not None:
        return None, why
    return data, ""


def redact_keys(data: bytes, kind: Kind) -> tuple[bytes, int]:
    """A document without the private keys that it shows, and how many lines were redacted. All lines keep their numbers."""
    if kind not in _PROSE:
        return data, 0
    lines = 0

    def redacted(match: re.Match[bytes]) -> bytes:
        nonlocal lines
        breaks = match[1].count(b"\n")
        lines += breaks + 1
        return b"[private key, redacted]" + b"\n[redacted]" * breaks

    return _PRIVATE_KEY.sub(redacted, data), lines


def redact_document(document: Document, kind: Kind) -> tuple[Document, int]:
    """What a reader made of a document, without private keys: markup may have hidden one from redact_keys.

    Raises Unreadable for what still looks like a secret, with the markup that is left or without it.
    """
    redacted = 0
    sections = []
    for section in document.sections:
        text, lines = redact_keys("\n".join(line for _, line in section.lines).encode("utf-8", "surrogatepass"), kind)
        bare = html.unescape(_TAG.sub("", text.decode("utf-8", "surrogatepass"))).encode("utf-8", "surrogatepass")
        if (why := secret_in(text, kind) or _whole_key(bare)) is not None:
            raise Unreadable(why)
        redacted += lines
        shown = text.decode("utf-8", "surrogatepass").split("\n")
        kept = zip((number for number, _ in section.lines), shown, strict=True)
        sections.append(Section(heading=section.heading, lines=tuple(kept)))
    return Document(title=document.title, sections=tuple(sections)), redacted


def _whole_key(text: bytes) -> str | None:
    return "it holds a private key" if _PRIVATE_KEY.search(text) else None


def secret_in(data: bytes, kind: Kind) -> str | None:
    """What makes a text look like a secret, besides keys that redact_keys takes out; None where nothing does."""
    data, _ = redact_keys(data, kind)
    if (match := _SECRET_TEXT.search(data)) is None:
        return None
    return (
        "it holds a private key"
        if match[0].startswith(b"----")
        else f"it holds what looks like a secret ({match[0][:4].decode()}…)"
    )


def _walk(top: Path, unlisted: Callable[[OSError], None]) -> Iterator[Path]:
    if top.is_file():
        yield top
        return
    ignored = _Ignored(top)
    for folder, folders, files in os.walk(top, onerror=unlisted):
        here = Path(folder)
        ignored.enter(here)
        folders[:] = sorted(
            name for name in folders
            if name not in _SKIPPED_FOLDERS and not name.startswith(".") and not ignored.has(here / name, folder=True)
        )  # fmt: skip
        for name in sorted(files):
            file = here / name
            # no links out of the folder, no pipes or devices, and no names that are not UTF-8
            if name.isprintable() and file.is_file() and _stays(file, top) and not ignored.has(file, folder=False):
                yield file


def _stays(file: Path, top: Path) -> bool:
    return not file.is_symlink() or file.resolve().is_relative_to(top.resolve())


def _is_binary(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"\x00" in file.read(8192)
    except OSError:
        return False


class _Ignored:
    """The .gitignore files from the repository's top down to where the walk is; the deepest that says something decides."""

    def __init__(self, top: Path) -> None:
        self._specs: dict[Path, GitIgnoreSpec] = {}
        above = [top.absolute(), *top.absolute().parents]
        root = next((number for number, folder in enumerate(above) if (folder / ".git").exists()), 0)
        for folder in above[1 : root + 1]:
            self.enter(folder)

    def enter(self, folder: Path) -> None:
        """Reads the folder's own file."""
        try:
            lines = (folder / ".gitignore").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return
        self._specs[folder.absolute()] = GitIgnoreSpec.from_lines(lines)

    def has(self, path: Path, *, folder: bool) -> bool:
        """Whether Git would ignore it."""
        whole = path.absolute()
        for above in whole.parents:
            spec = self._specs.get(above)
            if spec is not None:
                found = spec.check_file(whole.relative_to(above).as_posix() + ("/" if folder else "")).include
                if found is not None:
                    return bool(found)
        return False
