"""benchmarks.adapter keeps the contract of the public job-queue benchmark: what its harness would read."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import defaultdict

import pytest

from tests.support.core import ROOT, Database, clean_environment

METRICS = {"claim_p50_ms", "claim_p95_ms", "claim_p99_ms", "enqueue_rate", "completion_rate", "queue_depth"}


@pytest.mark.parametrize("mode", ["fixed", "depth-target"])
@pytest.mark.alone
async def test_the_adapter_emits_what_its_contract_says(database: Database, mode: str) -> None:
    env = clean_environment() | {
        "DATABASE_URL": database.url(), "SCENARIO": "long_horizon", "PRODUCER_MODE": mode, "PRODUCER_RATE": "20", "TARGET_DEPTH": "30",
        "WORKER_COUNT": "4", "JOB_WORK_MS": "5", "SAMPLE_EVERY_S": "1",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.adapter",
        cwd=ROOT,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    seen: dict[str, list[float]] = defaultdict(list)
    try:
        first = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        manifest = json.loads((ROOT / "benchmarks/adapter/adapter.json").read_text())
        assert first["kind"] == "descriptor"
        assert first["system"] == manifest["system"]
        assert set(first["event_tables"]) >= set(manifest["event_tables"])
        while sum(seen["completion_rate"]) < 5 or set(seen) < METRICS:
            line = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
            assert line.keys() == {"t", "system", "kind", "subject_kind", "subject", "metric", "value", "window_s"}
            seen[line["metric"]].append(line["value"])
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 5)  # as the contract has it
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
    assert set(seen) == METRICS
    if mode == "depth-target":
        assert max(seen["queue_depth"]) <= 30
    else:
        assert max(seen["enqueue_rate"]) < 60
    async with database.connect() as db:
        for table in manifest["event_tables"]:
            assert await db.fetchval("select to_regclass($1)::text", table) is not None, table
        for index in manifest["event_indexes"]:
            assert await db.fetchval("select to_regclass($1)::text", index) is not None, index
