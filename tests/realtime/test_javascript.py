"""The official JavaScript client, unchanged, against the stand-in; and the example for UI clients, as its README line runs it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, ROOT, Database, Workers, ask, person, reply, stand_in_of
from tests.support.supabase_cli import supabase

EXAMPLES = ROOT / "docs/examples"


def deno(
    *arguments: str | Path, env: dict[str, str] | None = None, stdin: str = "", cwd: Path = EXAMPLES
) -> subprocess.CompletedProcess[str]:
    """The real Deno."""
    from deno import find_deno_bin  # the package that carries the binary

    return subprocess.run([find_deno_bin(), *map(str, arguments)], cwd=cwd, env=os.environ | {"NO_COLOR": "1"} | (env or {}), input=stdin,
                          capture_output=True, text=True, timeout=120, check=False)  # fmt: skip


@pytest.mark.parametrize(
    "words", [("install", "--frozen"), ("check", "--frozen", "ask.ts", "atlas.ts"), ("lint",), ("fmt", "--check")]
)
def test_the_example_is_checked_as_strictly_as_ours(words: tuple[str, ...]) -> None:
    done = deno(*words)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_its_types_are_those_of_the_database(database: Database) -> None:
    made = await supabase(database, "gen", "types", "--lang=typescript", "--schema", "public,atlas")
    code = made[: made.index("Target: ")] if "Target: " in made else made
    formatted = await asyncio.to_thread(deno, "fmt", "--ext=ts", "--line-width=120", "-", stdin=code)
    if os.environ.get("ATLAS_WRITE_SNAPSHOT"):
        (EXAMPLES / "database.types.ts").write_text(formatted.stdout)
    assert formatted.stdout.strip() == (EXAMPLES / "database.types.ts").read_text().strip(), (
        "run scripts/snapshot, and read the diff"
    )


async def test_the_example_asks_and_follows(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble, tmp_path: Path
) -> None:
    openai.plan(text=ADR.replace("Faster feedback.", "Faster feedback 😀 für alle."), chunk=10, delay=0.05)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    async with stand_in_of(database) as stand_in:
        ann = await person(stand_in, tmp_path, "ann")
        env = {
            "SUPABASE_URL": stand_in.url,
            "SUPABASE_PUBLISHABLE_KEY": stand_in.keys.publishable,
            "ATLAS_EMAIL": ann.email,
            "ATLAS_PASSWORD": "a password",
        }
        done = await asyncio.to_thread(
            deno, "run", "--frozen", "--allow-net=127.0.0.1", "--allow-env", "ask.ts", "How do we ship?", env=env
        )
    assert done.returncode == 0, done.stderr
    task = await db.fetchval("select id from atlas.task where title = 'How do we ship?'")
    final = (await reply(db, task))["content"]
    assert done.stdout.replace("\n", "") == final.replace("\n", "")
    (steps,) = re.findall(r"in (\d+) steps", done.stderr)
    assert int(steps) > 5, "it came in parts"


async def test_the_javascript_client_works_unchanged(database: Database, db: asyncpg.Connection) -> None:
    async with stand_in_of(database) as stand_in:
        script = ROOT / "tests/realtime/client.ts"
        running = asyncio.create_task(
            asyncio.to_thread(deno, "run", f"--config={EXAMPLES / 'deno.json'}", "--allow-net=127.0.0.1", "--allow-env", script,
                              stand_in.url, stand_in.keys.service_role, "atlas:wake", env={})
        )  # fmt: skip
        for _ in range(5):
            await asyncio.sleep(1)
            await ask(db)
        done = await running
    assert done.returncode == 0, done.stderr
    said: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"status": "SUBSCRIBED"} in said
    assert {"sent": "ok"} in said
    assert {"left": "ok"} in said
    events = {one["broadcast"]["event"] for one in said if "broadcast" in one}
    assert events == {"hello", "task_queued"}, "its own, and those of SQL, which come as binary frames"
    assert any(one["change"]["new"]["data"]["content"] == "How?" for one in said if "change" in one)
    assert any(one["system"]["message"] == "Subscribed to PostgreSQL" for one in said if "system" in one)
