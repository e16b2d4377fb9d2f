"""The size of what the worker's image installs, in a venv as the Dockerfile makes it: no image can be built without Docker."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.core import ROOT

MOST = 275
"""MB. The parser of diagrams has 16 of them, the protocol for agents 9."""


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_workers_packages_are_under_275_mb(tmp_path: Path) -> None:
    stage = (ROOT / "Dockerfile").read_text().partition("AS worker-packages")[2].partition("\nFROM ")[0]
    assert "-r requirements-image.lock" in stage
    (trim,) = re.findall(r"&& (find .+)$", stage, re.MULTILINE)
    target = tmp_path / "lib"
    for words in (
        ["--require-hashes", "-r", str(ROOT / "requirements-image.lock")],
        ["--no-deps", "--no-build-isolation", str(ROOT)],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--compile", "--target", str(target), *words],
            capture_output=True, text=True, check=False, timeout=500,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    subprocess.run(["bash", "-euc", trim.replace("/venv/lib", str(tmp_path))], check=True)
    assert not list(target.glob("sqlalchemy/**/__pycache__")), "the command finds what it is to remove"
    assert list(target.glob("atlas/**/__pycache__")), "and nothing else"
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) / 1e6
    print(f"{size:.0f} MB")
    assert size < MOST
