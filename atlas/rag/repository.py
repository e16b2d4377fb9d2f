"""Clones a Git repository to read it: one commit, no hooks, no submodules, no links out of it, within limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from atlas.errors import AtlasError, UsageError

MOST_BYTES = 1024 * 1024 * 1024
MOST_FILES = 50_000
LONGEST = 600.0
"""Seconds for a clone."""

_KEPT = ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
_REF = re.compile(r"[\w][\w./-]{0,199}")


class CloneFailed(AtlasError):
    """The repository cannot be had: what Git said, or a limit."""

    exit_code = 3


class CloneRefused(UsageError):
    """This repository is not cloned from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """The files of one commit. name: how sources show the repository."""

    folder: Path
    commit: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneLimits:
    """What a clone may take: bytes on disk, files, seconds."""

    bytes: int = MOST_BYTES
    files: int = MOST_FILES
    seconds: float = LONGEST


def is_git_url(text: str) -> bool:
    """Whether it names a repository elsewhere, and no path."""
    return re.match(r"https?://", text) is not None


def plain_url(url: str) -> str:
    """The URL as sources show it: no name and password, no .git, no query. Raises CloneRefused."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise CloneRefused(f"{url[:200]!r} is not a URL ({error})", "send such as https://github.com/acme/docs") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.strip("/"):
        raise CloneRefused(f"{url[:200]!r} is not https URL of a repository", "send such as https://github.com/acme/docs")
    if parts.username is not None or parts.query or parts.fragment or any(ord(char) < 33 for char in url):
        raise CloneRefused("the URL holds a name, a password or a query", "send such as https://github.com/acme/docs")
    if any(part in (".", "..") for part in parts.path.split("/")) or re.search(r"[%\\]", parts.path):
        raise CloneRefused(
            f"{url[:200]!r} climbs out of its path, or hides a part of it", "send such as https://github.com/acme/docs"
        )
    host = parts.hostname if port is None else f"{parts.hostname}:{port}"
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/").removesuffix(".git"), "", ""))


def check_allowed(url: str, allow: Sequence[str]) -> None:
    """Raises CloneRefused for a URL that begins as none of the allowed ones do."""
    plain = plain_url(url)
    if not any(f"{plain}/".startswith(plain_prefix(prefix)) for prefix in allow):
        raise CloneRefused(f"{plain} may not be cloned", f"RAG_GIT_ALLOW names {', '.join(allow) or 'nothing'}: add it there")


def plain_prefix(prefix: str) -> str:
    """An allowed beginning, host in lower case, ending with a slash."""
    parts = urlsplit(prefix)
    return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), parts.path.rstrip("/") + "/", "", ""))


async def latest(url: str, ref: str | None = None, *, git: str = "git") -> str:
    """The commit that a branch (or the default one) is at now. Raises CloneFailed and CloneRefused."""
    name = plain_url(url)
    with tempfile.TemporaryDirectory(prefix="atlas-clone-") as top:
        runner = _Git(git, Path(top), Path(top), CloneLimits(seconds=60))
        said = await runner.run_on(name, "ls-remote", "--quiet", last=_checked(ref) or "HEAD")
    if not said:
        raise CloneFailed(f"{name} has no {ref}", "check the branch")
    return said.split()[0]


def _checked(ref: str | None) -> str | None:
    if ref is not None and (not _REF.fullmatch(ref) or ".." in ref):
        raise CloneRefused(f"{ref[:100]!r} is not a commit or branch", "send a commit's hash or a branch")
    return ref


@asynccontextmanager
async def cloned(
    url: str, ref: str | None = None, *, limits: CloneLimits | None = None, git: str = "git"
) -> AsyncIterator[Checkout]:
    """One commit of a repository in a folder that goes afterwards. Raises CloneFailed and CloneRefused."""
    limits = limits or CloneLimits()
    name = plain_url(url)
    _checked(ref)
    if shutil.which(git) is None:
        raise CloneFailed("git is not installed here", "install git")
    with tempfile.TemporaryDirectory(prefix="atlas-clone-") as top:
        folder = Path(top) / "files"
        folder.mkdir()
        runner = _Git(git, Path(top), folder, limits)
        await runner.run("init", "--quiet")
        fetch = ("fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules")
        await runner.run_on(name, *fetch, last=ref or "HEAD")
        commit = (await runner.run("rev-parse", "FETCH_HEAD^{commit}")).strip()
        await runner.run("checkout", "--quiet", "--detach", commit)
        yield Checkout(folder=folder, commit=commit, name=name)


class _Git:
    """git without the configuration, the hooks and the helpers of this machine."""

    def __init__(self, git: str, top: Path, folder: Path, limits: CloneLimits) -> None:
        self._git = git
        self._top = top
        self._folder = folder
        self._limits = limits
        self._environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(top),
            "GIT_DIR": str(top / "git"),
            "GIT_WORK_TREE": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "http:https",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "LC_ALL": "C.UTF-8",
            **{
                name: os.environ[name]
                for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "NO_PROXY")
                if name in os.environ
            },
        }

    async def run_on(self, url: str, *words: str, last: str) -> str:
        """The output of a command on a repository elsewhere. Some servers know it by its folder's name, with .git, alone."""
        # the URL as it was checked: what follows "--" is never an option
        try:
            return await self.run(*words, "--", url, last)
        except CloneFailed as error:
            if "not found" not in str(error):
                raise
            with contextlib.suppress(CloneFailed):
                return await self.run(*words, "--", f"{url}.git", last)
            raise

    async def run(self, *words: str) -> str:
        """Its output. Raises CloneFailed."""
        settings = [
            "core.hooksPath=/dev/null", "core.symlinks=false", "http.followRedirects=false", "credential.helper=",
            "protocol.file.allow=never", "protocol.ext.allow=never", "submodule.recurse=false", "core.fsmonitor=false",
            "core.longpaths=true", "gc.auto=0", "maintenance.auto=false",
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            self._git, *(word for setting in settings for word in ("-c", setting)), *words, cwd=self._folder,
            env=self._environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        watch = asyncio.create_task(self._watch())
        ending = asyncio.create_task(process.communicate())
        try:
            async with asyncio.timeout(self._limits.seconds):
                await asyncio.wait({watch, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                raise CloneFailed(watch.result(), "index it from a clone of your own: `atlas index FOLDER`")
            out, err = ending.result()
            over = await asyncio.to_thread(self._over)
        except TimeoutError:
            raise CloneFailed(f"git {words[0]} took longer than {self._limits.seconds:g} s") from None
        finally:
            watch.cancel()
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            await asyncio.wait({ending})
        if process.returncode != 0:
            said = " ".join(err.decode("utf-8", "replace").split())[:300]
            raise CloneFailed(
                f"git {words[0]}: {said}", "check the URL and the branch; private repositories need a clone of your own"
            )
        if over is not None:
            raise CloneFailed(over, "index it from a clone of your own: `atlas index FOLDER`")
        return out.decode("utf-8", "replace")

    async def _watch(self) -> str:
        """Ends when a limit is passed, and says which."""
        while True:
            await asyncio.sleep(0.2)
            if (over := await asyncio.to_thread(self._over)) is not None:
                return over

    def _over(self) -> str | None:
        size = files = 0
        for folder, _, names in os.walk(self._top):
            for name in names:
                with contextlib.suppress(OSError):
                    size += (Path(folder) / name).lstat().st_size
                files += 1
        if size > self._limits.bytes:
            return f"the repository takes more than {self._limits.bytes // 1024 // 1024} MiB"
        if files > self._limits.files:
            return f"the repository has more than {self._limits.files} files"
        return None
