"""docs/deploy.md: its blocks run, or say why they cannot here; its settings and files exist."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from pathlib import Path

import asyncpg
from ruamel.yaml import YAML

from atlas.variables import is_setting
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ROOT, Database, ask, clean_environment, run_atlas

PAGE = (ROOT / "docs/deploy.md").read_text()
NEEDS = {
    "docker": "Docker",
    "supabase": "Docker|project",
    "kubectl": "kubectl",
    "DATABASE_URL": "project",
    "uvx": "PyPI",
    "pipx": "PyPI",
    "atlas": "PyPI|project",
}
"""What a line of a console needs that is not here, and the word by which the text before says so."""


def test_the_first_block_makes_the_secrets_that_compose_wants(tmp_path: Path) -> None:
    block = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)[0]
    done = subprocess.run(["bash", "-euc", block], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wanted = YAML(typ="safe").load(ROOT / "docker-compose.yml")["secrets"]
    made = {path.name for path in (tmp_path / "secrets").iterdir()}
    told = set(re.findall(r"`secrets/(\w+)` ", PAGE))
    assert made | told == set(wanted)
    assert (tmp_path / "secrets/worker_password").read_text().strip() in (tmp_path / "secrets/worker_url").read_text()


def test_atlas_joins_a_project_of_yours(tmp_path: Path) -> None:
    block = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)[1]
    assert block == "atlas init\n"
    # the repository of a project, as `supabase init` makes it
    (tmp_path / "supabase").mkdir()
    (tmp_path / "supabase/config.toml").write_text('project_id = "mine"\n')
    done = subprocess.run(
        ["bash", "-euc", f"{ROOT}/.venv/bin/{block}"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "supabase/migrations").glob("*_claims.sql"))


def test_what_cannot_run_here_says_what_it_needs() -> None:
    for before, block in re.findall(r"([^\n]*\n[^\n]*:)\n\n```console\n(.*?)```", PAGE, re.DOTALL):
        for line in block.strip().splitlines():
            assert line.startswith("$ ")
            word = next(word for word in NEEDS if line[2:].startswith(word))
            assert re.search(NEEDS[word], before), f"{line}: {before}"
    assert len(re.findall(r"```console", PAGE)) == 4


def test_every_setting_and_file_that_is_named_exists() -> None:
    for name in set(re.findall(r"\b(?:ATLAS|SUPABASE|OPENAI|RAG|DATABASE)_[A-Z_]+[A-Z]\b", PAGE)):
        assert is_setting(name), name
    for path in set(re.findall(r"`((?:deploy|scripts|docs)/[\w./-]+)`", PAGE)):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`([\w-]+\.yaml)`", PAGE):
        assert (ROOT / "deploy/kubernetes" / name).exists(), name
    for name in re.findall(r"\]\((\w+\.md)", PAGE):
        assert (ROOT / "docs" / name).exists(), name


OPERATIONS = (ROOT / "docs/operations.md").read_text()


async def test_the_tasks_of_operations_are_commands_that_run(
    database: Database, db: asyncpg.Connection, openai: OpenAIDouble, tmp_path: Path
) -> None:  # fmt: skip
    await db.execute("select atlas.cancel_task($1)", await ask(db, "Whose?", sender_key="github:ann"))
    env = {"DATABASE_URL": database.url(), "ATLAS_AUDIT_KEY": "k" * 32, "OPENAI_API_KEY": "k", "OPENAI_BASE_URL": openai.url}
    blocks = re.findall(r"(?s)```bash\n(.+?)```", OPERATIONS)
    assert len(blocks) > 3
    for block in blocks:
        done = await asyncio.to_thread(
            subprocess.run, ["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False,
            env=clean_environment() | env | {"PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"},
        )  # fmt: skip
        assert done.returncode == 0, block + done.stderr
    commands = set(re.findall(r"`atlas ([a-z][^`]*)`", OPERATIONS))
    assert {"status", "doctor", "doctor --production", "audit verify", "dlq list --kind outbox"} <= commands
    for words in sorted(commands):
        done = await asyncio.to_thread(run_atlas, *words.split(), env=env)
        # 7: the doctor finds something, which here it must: no worker, an owner's URL
        assert done.returncode in ((0, 7) if words.startswith("doctor") else (0,)), f"atlas {words}: {done.stdout}{done.stderr}"
    sections = {re.sub(r"[^\w -]", "", line.lower()).strip().replace(" ", "-") for line in re.findall(r"(?m)^#+ (.+)$", PAGE)}
    for anchor in re.findall(r"\(deploy\.md#([\w-]+)\)", OPERATIONS):
        assert anchor in sections, anchor
