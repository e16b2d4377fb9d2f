"""No secret is committed: secretlint reads every tracked file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.core import ROOT

SECRETLINT = ROOT / "tests/node_modules/secretlint/bin/secretlint.js"


def scan(*files: Path) -> subprocess.CompletedProcess[str]:
    node = shutil.which("node")
    assert node is not None, "scripts/test brings one"
    command = [node, str(SECRETLINT), "--secretlintrc", str(ROOT / ".secretlintrc.json"), "--no-gitignore", *map(str, files)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_no_secret_is_committed() -> None:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    files = [ROOT / name for name in names if not name.endswith((".whl", ".gz")) and (ROOT / name).is_file()]
    assert len(files) > 400
    done = scan(*files)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "text",
    [
        "token = " + "gh" + "p_" + "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx",
        "postgresql://postgres:" + "hunter2hunter2" + "@db.abcdefgh.supabase.co:5432/postgres",
        "-----BEGIN RSA " + "PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA" * 20 + "\n-----END RSA " + "PRIVATE KEY-----",
        "hook: https://hooks.slack.com/services/" + "T0123ABCD/B0123ABCD/" + "a1b2c3d4e5f6a1b2c3d4e5f6",
    ],
    ids=["github", "postgres", "private key", "slack"],
)
def test_the_scan_sees_a_secret(tmp_path: Path, text: str) -> None:
    (tmp_path / "notes.txt").write_text(text + "\n")
    done = scan(tmp_path / "notes.txt")
    assert done.returncode == 1, done.stdout + done.stderr
