"""Programs of Debian's packages, unpacked for the tests alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.core import ROOT


def debian(script: str, *words: str | Path) -> Path:
    """What a script of scripts/ that unpacks a package prints: a path. Skips the test where Debian's packages cannot be had."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip("Debian's packages cannot be reached here; CI runs on Debian")
    found = subprocess.run([ROOT / "scripts" / script, *words], capture_output=True, text=True, check=False)
    if found.returncode == 3:
        pytest.skip(f"{found.stderr.strip()}; CI has them")
    assert found.returncode == 0, found.stderr
    return Path(found.stdout.strip())


def tool(package: str, name: str) -> Path:
    """The binary of a package."""
    return debian("debian_tools", ROOT / "tests/.debian" / package, package) / name
