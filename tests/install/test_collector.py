"""Traces in a receiver that others wrote: Arize Phoenix, in a venv of its own, takes them over OTLP/HTTP and reads their names.

It is a store of traces and no forwarding collector: OpenTelemetry's own is in no package registry.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from atlas.local.postgres import free_port
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, ROOT, Workers, ask, clean_environment, ended, until

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]


def read(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own
        return json.load(answer)


@pytest.fixture
async def phoenix(tmp_path: Path) -> AsyncIterator[str]:
    """Its address."""
    venv, log = tmp_path / "venv", tmp_path / "phoenix.log"

    def install() -> None:
        uv = Path(sys.prefix, "bin/uv")
        env = clean_environment() | {"UV_CACHE_DIR": str(tmp_path / "cache"), "UV_NATIVE_TLS": "1"}
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, venv], env=env, check=True, timeout=60)
        subprocess.run(
            [uv, "pip", "install", "-q", "--python", venv, "--require-hashes", "-r", ROOT / "requirements-collector.lock"],
            env=env, check=True, timeout=300,
        )  # fmt: skip

    await asyncio.to_thread(install)
    port = free_port()
    env = clean_environment() | {
        "PHOENIX_WORKING_DIR": str(tmp_path), "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()), "PHOENIX_TELEMETRY_ENABLED": "false", "PYTHONPATH": "",
    }  # fmt: skip
    with log.open("wb") as file:
        process = subprocess.Popen([venv / "bin/phoenix", "serve"], env=env, stdout=file, stderr=file, cwd=tmp_path)
    url = f"http://127.0.0.1:{port}"

    async def up() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return bool(await asyncio.to_thread(read, f"{url}/v1/projects"))
        except OSError:
            return False

    try:
        await until(up, 90, "it listens")
        yield url
    finally:
        process.kill()
        process.wait(10)


async def test_phoenix_knows_an_agent_its_retriever_and_its_model(
    db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble, phoenix: str
) -> None:
    openai.plan(text=ADR)
    await workers.start(
        openai_base_url=openai.url, openai_api_key="sk-test", otel_exporter_otlp_endpoint=phoenix, otel_bsp_schedule_delay=100
    )
    assert (await ended(db, await ask(db, "How?", traceparent=PARENT)))["state"] == "completed"

    async def look() -> list[Any]:
        found: list[Any] = (await asyncio.to_thread(read, f"{phoenix}/v1/projects/default/spans"))["data"]
        return found if len(found) == 3 else []

    spans = {span["span_kind"]: span for span in await until(look, 30, "three spans arrive")}
    assert spans.keys() == {"AGENT", "RETRIEVER", "LLM"}
    assert {span["context"]["trace_id"] for span in spans.values()} == {PARENT.split("-")[1]}
    assert spans["AGENT"]["parent_id"] == PARENT.split("-")[2]
    assert spans["LLM"]["parent_id"] == spans["AGENT"]["context"]["span_id"]
    read_as = spans["LLM"]["attributes"]
    assert (read_as["llm.model_name"], read_as["llm.token_count.prompt"], read_as["llm.token_count.completion"]) == (
        "gpt-4.1",
        100,
        50,
    )
    usd = await db.fetchval("select sum(usd) from atlas.spend")
    assert read_as["gen_ai.usage.cost"] == pytest.approx(float(usd))
