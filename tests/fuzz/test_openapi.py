"""schemathesis on both OpenAPI documents: real processes, whatever it thinks of, no 500, and answers as they are described."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import asyncpg
import httpx
import pytest

from atlas.supabase.keys import mint
from tests.support.core import ROOT, Database
from tests.support.knowledge import KEY, service
from tests.support.people import ANN
from tests.support.router import function

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
SECRET = "a secret of at least thirty-two characters"


def schemathesis(schema: str, url: str, key: str, *words: str, examples: int, cwd: Path) -> str:
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", schema, "--url", url, "--header", f"Authorization: Bearer {key}",
        "--checks", CHECKS, "--max-examples", str(examples), "--phases", "examples,coverage,fuzzing", "--seed", "1", "--no-color",
        "--suppress-health-check", "all", "--warnings", "off", "--continue-on-failure", *words,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=170)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("examples", [15, pytest.param(120, marks=pytest.mark.long)])
async def test_the_knowledge_service(database: Database, tmp_path: Path, examples: int) -> None:
    async with service(database, tmp_path, rag_rate_limit="1000000") as rag:
        said = await asyncio.to_thread(schemathesis, f"{rag.url}/openapi.json", rag.url, KEY, examples=examples, cwd=tmp_path)
        async with httpx.AsyncClient() as web:
            assert (await web.get(f"{rag.url}/healthz")).status_code == 200, "it is still well"
        assert "Traceback" not in rag.log.read_text()
    assert "No issues found" in said, said


@pytest.mark.parametrize("examples", [15, pytest.param(120, marks=pytest.mark.long)])
async def test_the_function_ask(database: Database, db: asyncpg.Connection, tmp_path: Path, examples: int) -> None:
    token = mint(SECRET, {"role": "authenticated", "sub": str(ANN)}, lasts=3600)
    env = {"SUPABASE_DB_URL": database.url(), "JWT_SECRET": SECRET, "SUPABASE_URL": "http://127.0.0.1:9"}
    async with function("ask", tmp_path, **env) as ask:
        said = await asyncio.to_thread(
            schemathesis,
            str(ROOT / "functions/openapi.yaml"),
            ask.url.removesuffix("/ask"),
            token,
            "--exclude-path-regex",
            "events$",  # a stream, which goes on for as long as its task
            examples=examples,
            cwd=tmp_path,
        )
    assert "No issues found" in said, said
    assert await db.fetchval("select count(*) from atlas.task") > 0, "questions got through"
