"""Metrics: docs/metrics.md matches the code, labels are bounded, and attempts that only waited are not counted as runs."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from atlas.metrics.mirror import MirrorMetrics
from atlas.metrics.process import LabelValues, ProcessMetrics
from atlas.metrics.rag import RagMetrics
from atlas.metrics.recent import RecentValues
from atlas.metrics.worker import Metrics
from tests.doubles.openai import OpenAIDouble, Plan
from tests.support.core import ADR, ROOT, Database, Workers, ask, command, ended, until

PAGE = ROOT / "docs/metrics.md"
BOUNDS = {
    "model": "a row of `atlas.model`, or `none`",
    "code": "the provider's error codes; the first 100, then `other`",
    "scope": "`global`, `model:…`, `project:…`; the first 100 by name, none of a person",
    "destination": "a row of `atlas.destination`; the first 100, then `other`",
    "kind": "`task`, `outbox` of dead letters; `input`, `cached`, `output`, `reasoning` of tokens; causes that Atlas names of Realtime",
    "state": "words that Atlas names: of a queue, a channel, a connection, a job",
    "result": "words that Atlas names: of a claim, of an event that was sent",
    "found": "`stale`, `partial`, `nothing`",
    "outcome": "how Atlas ends a run; they stand in the metric's text",
    "period": "`day`, `month`",
    "unit": "`tokens`, `usd`",
    "route": "a path of the service, or `none`",
    "status": "an HTTP status",
    "version": "one per process",
    "python": "one per process",
    "component": "`worker`, `mirror`, `rag`",
    "source": "`realtime_broadcast`, `realtime_changes`, `listen`, `sweep`, and what the worker wakes itself by",
}
"""What bounds each label whose values are not named in its metric's text."""


def registries() -> dict[str, CollectorRegistry]:
    mirror = MirrorMetrics()
    ProcessMetrics(mirror.registry, "mirror")
    return {"worker": Metrics().registry, "mirror": mirror.registry, "rag": RagMetrics().registry}


def page() -> str:
    """docs/metrics.md."""
    where: dict[tuple[str, str, str, str], list[str]] = {}
    for process, registry in registries().items():
        for collector in list(registry._collector_to_names):
            for family in collector.collect():
                if family.name.startswith("process_"):
                    continue
                labels = getattr(collector, "_labelnames", ())
                name = family.name + ("_total" if family.type == "counter" else "")
                row = (name, family.type, ", ".join(f"`{label}`" for label in labels), family.documentation)
                if process not in where.setdefault(row, []):
                    where[row].append(process)
    lines = [
        "# Metrics", "",
        "Written by `ATLAS_WRITE_SNAPSHOT=1 pytest tests/operate/test_metrics.py` from the code. `/metrics` is on `ATLAS_HTTP_PORT` of a worker and",
        "of `atlas mirror`, and on `RAG_HTTP_PORT` of `atlas rag serve` and `atlas rag worker`. A worker has the mirror's metrics too, since",
        "it mirrors unless `ATLAS_MIRROR=false`. All of them have Prometheus's `process_*`. Alerts on them: [runbooks.md](runbooks.md).", "",
        "What is true of the fleet (queue, budgets, models, books) every worker reports: take the maximum, not the sum.", "",
        "| metric | kind | labels | on | what it is |", "| --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for (name, kind, labels, text), processes in sorted(where.items()):
        lines.append(f"| `{name}` | {kind} | {labels} | {', '.join(processes)} | {text.replace('|', '/')} |")
    lines += ["", "| label | values |", "| --- | --- |", *(f"| `{label}` | {text} |" for label, text in BOUNDS.items()), ""]
    return "\n".join(lines)


def test_the_page_lists_them_as_the_code_has_them() -> None:
    if os.environ.get("ATLAS_WRITE_SNAPSHOT"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page(), "write it: ATLAS_WRITE_SNAPSHOT=1 pytest tests/operate/test_metrics.py"


def test_every_label_is_bounded() -> None:
    for registry in registries().values():
        for collector in list(registry._collector_to_names):
            for family in collector.collect():
                for label in getattr(collector, "_labelnames", ()):
                    # its values stand in the text, in brackets after a word such as "by", or something bounds them
                    named = re.search(r"\(\w+(, \w+)+|\(\w+\), ", family.documentation)
                    assert label in BOUNDS or named, f"{family.name} {label}: {family.documentation}"


def test_a_label_with_many_values_ends_in_other() -> None:
    values = LabelValues(most=3)
    assert [values(name) for name in ("a", "b", "a", "c", "d", "e", "b")] == ["a", "b", "a", "c", "other", "other", "b"]


def test_the_p95_is_of_the_last_five_minutes() -> None:
    now = 0.0
    recent = RecentValues(clock=lambda: now)
    assert recent.percentile(0.95) == 0
    for seconds in range(1, 101):
        recent.add(float(seconds))
    assert recent.percentile(0.95) == 95
    now = 299.0
    recent.add(1.0)
    assert recent.percentile(0.95) == 95
    now = 301.0
    assert recent.percentile(0.95) == 1


def values_of(text: str) -> dict[str, float]:
    """Every sample by its name and its labels' values, which are in the order of the labels' names."""
    return {
        " ".join([sample.name, *(value for _, value in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("left", [1.5, 0.99], ids=["others have reserved it", "it is spent"])
async def test_an_attempt_that_only_waited_is_no_run(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, left: float
) -> None:
    openai.plans = [Plan(text=ADR, delay=0.05)]
    worker = await workers.start(openai_api_key="k", openai_base_url=openai.url)
    first = await ask(db, "How 0?")
    await ended(db, first)
    needed, used = await db.fetchrow("select reserved_tokens, tokens from atlas.spend where task_id = $1", first)
    await db.execute("select atlas.set_budget('global', $1)", {"daily": used + int(left * needed)})
    tasks = [await ask(db, f"How {number}?") for number in (1, 2)]
    if left > 1:
        for task in tasks:
            await ended(db, task)

    async def waited() -> bool:
        return values_of((await asyncio.to_thread(worker.get, "/metrics"))[1])["atlas_waits_total"] > 0

    await until(waited, 20, "something waited")
    found = values_of((await asyncio.to_thread(worker.get, "/metrics"))[1])
    runs = {key: value for key, value in found.items() if key.startswith("atlas_run_seconds_count")}
    assert runs == {"atlas_run_seconds_count completed": 3 if left > 1 else 1}


async def test_a_worker_says_all_that_an_operator_asks(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, tmp_path: Path
) -> None:
    openai.plans = [Plan(text=ADR, delay=0.01)]
    await db.execute(
        """select atlas.set_budget('project:00000000-0000-0000-0000-000000000001', '{"monthly": 500000, "usd_daily": 3}')"""
    )
    await db.execute("""select atlas.set_budget('sender:somebody', '{"daily": 1000}')""")
    worker = await workers.start(openai_api_key="k", openai_base_url=openai.url, atlas_slow_run_seconds=33)
    await ended(db, await ask(db))
    await command(db, {"command": "heartbeat"})

    async def settled() -> dict[str, float] | None:
        found = values_of((await asyncio.to_thread(worker.get, "/metrics"))[1])
        # what the queue says of itself is read every five seconds
        return found if found.get("atlas_budget_used day global tokens") else None

    found = await until(settled, 20, "the budget's use is there")
    project = "project:00000000-0000-0000-0000-000000000001"
    assert found["atlas_tokens_total input gpt-4.1"] == 100
    assert found["atlas_run_seconds_count completed"] == 1 or found["atlas_run_seconds_count completed"] == 2
    assert found["atlas_first_token_seconds_count"] == 1
    assert 0 < found["run_seconds_p95"] == found["atlas_run_seconds_p95"] < 30
    assert found["dead_letter_count task"] == found["atlas_dead_letter_count task"] == 0
    assert found["atlas_slow_run_threshold_seconds"] == 33
    assert found["atlas_slots"] == 32
    assert found[f"atlas_budget_limit month {project} tokens"] == 500_000
    assert found[f"atlas_budget_limit day {project} usd"] == 3
    assert found[f"atlas_budget_used month {project} tokens"] == 150
    assert found["atlas_budget_spent day global tokens"] == 0
    assert not any("sender:" in key for key in found), "people are not labels"
    assert found["atlas_pool_connections_limit"] == 8
    assert 1 <= found["atlas_pool_connections used"] + found["atlas_pool_connections idle"] <= 8
    assert found["atlas_loop_lag_seconds_count"] > 0
    assert found["atlas_retrieval_seconds_count"] == 1
    assert found["atlas_chain_down"] == 0
    assert found["atlas_model_shutdown_timestamp_seconds o3"] == 1_796_947_200  # 2026-12-11 UTC
    assert found["atlas_audit_broken"] == 0
    assert found["atlas_jit_on"] == (await db.fetchval("show jit") == "on")
    assert found["atlas_observed_timestamp_seconds"] > time.time() - 60
    assert any(key.startswith("atlas_info worker ") for key in found)
    assert found["process_resident_memory_bytes"] > 1e7


def test_what_was_read_of_the_fleet_long_ago_is_not_reported() -> None:
    now = 0.0
    metrics = Metrics(clock=lambda: now)
    found = {
        "queued": 3, "waiting": 0, "running": 1, "oldest_seconds": 500, "dead_lettered": 2, "outbox_dead": 0, "workers": 2, "held_calls": 0,
        "jit": False, "models": {"gpt-4.1": {"breaker": "open"}}, "paused": True, "budgets": [], "spent_budgets": [],
        "outbox": [
            {"destination": f"hook{number}", "pending": 1, "oldest_seconds": float(number), "open": False} for number in range(103)
        ],
    }  # fmt: skip
    metrics.observe_queue(found)
    values = values_of(metrics.text().decode())
    assert values["atlas_queue_age_seconds"] == 500
    assert (values["atlas_outbox_pending other"], values["atlas_outbox_age_seconds other"]) == (3, 102)
    now = 59.0
    assert values_of(metrics.text().decode())["atlas_paused"] == 1
    now = 61.0
    values = values_of(metrics.text().decode())
    assert values["atlas_paused"] != values["atlas_paused"], "not a number"
    assert not any(key.startswith(("atlas_queue_depth", "atlas_dead_letter_count", "atlas_outbox_pending")) for key in values)


async def test_a_chain_whose_breakers_try_now_and_then_is_down(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble
) -> None:
    openai.plans = [Plan(error=(500, {"message": "it is broken"}))]
    worker = await workers.start(openai_api_key="k", openai_base_url=openai.url, openai_fallback_models="")
    tasks = [await ask(db, f"How {number}?") for number in range(3)]

    async def down() -> bool:
        return await asyncio.to_thread(worker.metric, "atlas_chain_down") == 1

    await until(down, 60, "the chain is down")
    for _ in range(20):
        # while nothing was answered it stays so, half-open breakers or not
        assert await down()
        await asyncio.sleep(0.5)
    found = values_of((await asyncio.to_thread(worker.get, "/metrics"))[1])
    assert "atlas_model_errors_total breaker_open gpt-4.1" not in found, "no call was made"
    openai.plans = [Plan(text=ADR)]
    for task in tasks:
        await ended(db, task, 90)

    async def up() -> bool:
        return not await down()

    await until(up, 30, "it is up again")


@pytest.mark.cooks_the_books
async def test_a_row_of_the_audit_that_was_changed_is_counted(database: Database, db: asyncpg.Connection) -> None:
    task = await ask(db)
    assert await db.fetchval("select atlas.watch_audit('0 seconds')") == 0
    async with database.connect("supabase_admin") as admin:
        await admin.execute("set session_replication_role = replica")
        await admin.execute("update atlas.audit set detail = detail || '{\"x\": 1}' where task_id = $1 and seq = 1", task)
    assert await db.fetchval("select atlas.watch_audit('1 hour')") == 0, "another worker has looked just now"
    assert await db.fetchval("select atlas.watch_audit('0 seconds')") == 1
    async with database.connect("supabase_admin") as admin:
        await admin.execute("set session_replication_role = replica")
        await admin.execute("update atlas.audit set detail = detail - 'x' where task_id = $1 and seq = 1", task)
    assert await db.fetchval("select atlas.watch_audit('0 seconds')") == 0


async def test_a_call_that_was_cancelled_counts_what_it_used(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble
) -> None:
    openai.plans = [Plan(text=ADR * 20, delay=0.1)]
    worker = await workers.start(openai_api_key="k", openai_base_url=openai.url)
    task = await ask(db)
    await until(lambda: db.fetchval("select true from atlas.attempt where first_delta_at is not null"), 20, "it streams")
    await db.execute("select atlas.cancel_task($1)", task)
    assert (await ended(db, task))["state"] == "cancelled"
    used = await db.fetchval("select tokens from atlas.spend where task_id = $1", task)

    async def counted() -> bool:
        found = values_of((await asyncio.to_thread(worker.get, "/metrics"))[1])
        return bool(sum(value for key, value in found.items() if key.startswith("atlas_tokens_total")) == used > 0)

    await until(counted, 10, "its tokens are counted")
