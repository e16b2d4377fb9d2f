"""How sources are named: by the repository that a file is in (its remote, else its folder's path), and the path inside it."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from atlas.rag.repository import CloneRefused, plain_url

_SCP = re.compile(r"(?:[\w.-]+@)?([\w.-]+):(?!//)/?(.+)")
"""git@github.com:acme/docs.git: what ssh takes for a URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """Where files are from. name: as sources begin; top: the folder that has this name."""

    name: str
    top: Path

    def source(self, path: Path) -> str:
        """The source of a file or folder in it."""
        inside = path.relative_to(self.top).as_posix()
        return self.name if inside == "." else f"{self.name.rstrip('/')}/{inside}"


@dataclass(slots=True)
class Naming:
    """Finds the repository of each folder, and remembers it."""

    _found: dict[Path, Repository | None] = field(default_factory=dict)

    def of(self, path: Path) -> Repository:
        """The repository of a path: a working copy of Git, else the folder that was named, or the file's."""
        path = _whole(path)
        folder = path if path.is_dir() else path.parent
        return self._working_copy(folder) or Repository(name=folder.as_posix(), top=folder)

    def source(self, path: Path) -> str:
        """The source of a path, whether it is there or not."""
        return self.of(path).source(_whole(path))

    def inside(self, file: Path, outer: Repository) -> Repository:
        """The repository of a file below a folder: one of its own, or the folder's."""
        return self._working_copy(_whole(file).parent) or outer

    def _working_copy(self, folder: Path) -> Repository | None:
        if folder not in self._found:
            if (folder / ".git").exists():
                self._found[folder] = Repository(name=_remote(folder) or folder.as_posix(), top=folder)
            else:
                self._found[folder] = self._working_copy(folder.parent) if folder != folder.parent else None
        return self._found[folder]


def _whole(path: Path) -> Path:
    """The path from the root, links left as they are: people know it by this name."""
    return Path(os.path.normpath(path.absolute()))


def remote_name(url: str) -> str | None:
    """A remote as a URL of a web server, without name, password and .git; None for a folder of this machine.

    >>> remote_name("git@github.com:acme/docs.git")
    'https://github.com/acme/docs'
    """
    if "://" in url:
        try:
            parts = urlsplit(url)
            number = parts.port
        except ValueError:  # a port that is none, a bracket that is not closed
            return None
        if parts.scheme not in ("http", "https", "ssh", "git") or not parts.hostname:
            return None
        port = f":{number}" if parts.scheme in ("http", "https") and number else ""
        scheme = parts.scheme if parts.scheme == "http" else "https"
        url = urlunsplit((scheme, parts.hostname + port, parts.path, "", ""))
    elif (scp := _SCP.fullmatch(url)) is not None:
        url = f"https://{scp[1]}/{scp[2]}"
    else:
        return None
    try:
        return plain_url(url)
    except CloneRefused:
        return None


def _remote(top: Path) -> str | None:
    """The remote `origin` of a working copy. The file is read as it is: Git refuses the folder of another user."""
    git = top / ".git"
    try:
        if git.is_file():
            # a worktree or a submodule: a file that says where the rest is
            git = top / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
            if (common := git / "commondir").exists():
                git = git / common.read_text(encoding="utf-8").strip()
        said = subprocess.run(  # noqa: S603  constants and a path
            ["git", "config", "--file", str(git / "config"), "--get", "remote.origin.url"],  # noqa: S607  git, wherever it is
            capture_output=True, text=True, check=False, timeout=10, stdin=subprocess.DEVNULL,
        ).stdout  # fmt: skip
    except (OSError, UnicodeDecodeError, subprocess.TimeoutExpired):
        return None
    return remote_name(said.strip())
