"""The real Supabase CLI."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from tests.support.core import ROOT, Database

CLI = ROOT / "tests/node_modules/.bin/supabase"


async def supabase(database: Database, *words: str, cwd: Path = ROOT, code: int = 0) -> str:
    """Output of the CLI against a database."""
    assert CLI.exists(), "the Supabase CLI is missing: scripts/test installs it"

    def run() -> subprocess.CompletedProcess[str]:
        command = [str(CLI), *words, f"--remote={database.url()}?sslmode=disable"]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)

    done = await asyncio.to_thread(run)
    assert done.returncode == code, done.stdout + done.stderr
    assert "does not recognize" not in done.stderr, "an unknown key of config.toml"
    return done.stdout + done.stderr
