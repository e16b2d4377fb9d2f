"""Running a program as an ordinary user when we are root, since Postgres refuses root."""

from __future__ import annotations

import ctypes
import os
import pwd
from collections.abc import Callable
from pathlib import Path

_CAP_DAC_OVERRIDE = 1
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522


def ordinary_user() -> pwd.struct_passwd | None:
    """The user to drop to: `postgres` where there is one, else `nobody`; None when we are not root."""
    if os.name != "posix" or os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def reachable(path: Path, user: pwd.struct_passwd) -> bool:
    """Whether the user may walk down to the path."""
    for part in [path, *path.parents]:
        if not part.exists():
            continue
        info = part.stat()
        if part.is_dir() and not (
            info.st_mode & 0o001
            or (info.st_uid == user.pw_uid and info.st_mode & 0o100)
            or (info.st_gid == user.pw_gid and info.st_mode & 0o010)
        ):
            return False
    return True


def demote(user: pwd.struct_passwd, *, may_walk: bool) -> Callable[[], None]:
    """What a child does between fork and exec to become the user.

    may_walk: keep CAP_DAC_OVERRIDE as an ambient capability (capabilities(7)), so that a data directory below a folder
    that only root may enter, such as /root or a fresh mktemp -d, works without opening that folder to anyone.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def run() -> None:
        # access(2), with which Postgres looks for its own binaries, ignores capabilities without this bit
        if may_walk and libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl securebits")
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
        if may_walk:
            header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
            bit = 1 << _CAP_DAC_OVERRIDE
            data = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
            if libc.capset(header, data) != 0:
                raise OSError(ctypes.get_errno(), "capset")
            if libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "prctl")

    return run
