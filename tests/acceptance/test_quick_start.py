"""The deployment manual's five steps, as they are today: copy the settings, start, index, ask, and follow the reply."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, ROOT, clean_environment


@pytest.mark.timeout(300)
async def test_the_five_steps(tmp_path: Path, openai: OpenAIDouble) -> None:
    openai.plan(text=ADR, chunk=20, delay=0.02)
    env = clean_environment() | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "ATLAS_ENV_FILE": ".env"}
    for name in ("ATLAS_HOME", "ATLAS_CONFIG_DIR"):
        env[name] = str(tmp_path / name.lower())

    async def step(*command: str | Path) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            [str(word) for word in command],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    # 1 copy the settings, and fill in what is yours
    shutil.copy(ROOT / ".env.example", tmp_path / ".env")
    with (tmp_path / ".env").open("a") as file:
        file.write(f"OPENAI_API_KEY=sk-test\nOPENAI_BASE_URL={openai.url}\nATLAS_HTTP_PORT=0\n")
    try:
        # 2 start: Postgres, a worker, what Supabase's clients talk to
        await step("atlas", "up")
        # 3 index what the team knows
        shutil.copytree(ROOT / "examples/team", tmp_path / "docs")
        await step(ROOT / "scripts/index_repo.sh", "docs/")
        # 4 send a question
        task = (await step(ROOT / "scripts/publish_task.sh", "Design a minimal CI pipeline")).split()[-1]
        # 5 follow the reply
        assert "## Decision" in await step("atlas", "tail", task)
        shown = json.loads(await step("atlas", "show", task, "--json"))
        assert shown["state"] == "completed"
        assert "Design a minimal CI pipeline" in openai.calls[-1]["input"][-1]["content"]
        assert "runbook" in json.dumps(openai.calls[-1]["input"]), "it read what was indexed"
    finally:
        await step("atlas", "down", "--erase")
