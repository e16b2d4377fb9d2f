"""The alerts of deploy/prometheus, by the tools that read them: promtool, and a real Prometheus over a real worker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import asyncpg
from ruamel.yaml import YAML

from tests.support.core import ROOT, Workers, ask, ended
from tests.support.prometheus import RULES, prometheus, promtool

RUNBOOKS = (ROOT / "docs/runbooks.md").read_text()


def rules() -> list[dict[str, Any]]:
    return [rule for group in YAML(typ="safe").load(RULES)["groups"] for rule in group["rules"]]


def test_promtool_accepts_the_rules_and_passes_their_cases() -> None:
    for words in (("check", "rules", RULES), ("check", "config", RULES.with_name("prometheus.yaml")),
                  ("test", "rules", RULES.with_name("rules_test.yaml"))):  # fmt: skip
        done = promtool(*words)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    cases = [
        case
        for group in YAML(typ="safe").load(RULES.with_name("rules_test.yaml"))["tests"]
        for case in group["alert_rule_test"]
    ]
    for rule in rules():
        name = rule["alert"]
        assert any(case["alertname"] == name and case["exp_alerts"] for case in cases), name
        # AtlasLoopLag and AtlasModelShutdown have a neighbour in the same case, whose series stays below
        if name not in ("AtlasLoopLag", "AtlasModelShutdown"):
            assert any(case["alertname"] == name and not case["exp_alerts"] for case in cases), name


def test_every_alert_has_a_summary_and_a_runbook_that_exists() -> None:
    sections = {line[3:].lower() for line in RUNBOOKS.splitlines() if line.startswith("## ")}
    linked = set()
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        page, _, anchor = rule["annotations"]["runbook_url"].partition("docs/runbooks.md#")
        assert page == "https://github.com/locotoki/atlas/blob/main/"
        assert anchor == rule["alert"].lower()
        linked.add(anchor)
    assert linked == sections


async def test_every_metric_of_the_rules_is_one_that_a_worker_has(
    workers: Workers, tmp_path: Path, db: asyncpg.Connection
) -> None:
    # a question, so that what appears with the first run is there
    worker = await workers.start(openai_model="offline")
    await ended(db, await ask(db, "What is there?"))
    known = set(re.findall(r"(?m)^# TYPE (\w+) ", worker.get("/metrics")[1]))
    named = {name.removesuffix("_bucket") for rule in rules() for name in re.findall(r"\b(atlas_\w+)", rule["expr"])}
    assert len(named) > 12
    assert named - known == set()


async def test_alerts_fire_and_clear_over_a_real_worker(workers: Workers, tmp_path: Path, db: asyncpg.Connection) -> None:
    worker = await workers.start()
    async with prometheus(tmp_path, {"atlas-worker": [worker.port]}) as found:
        await found.until_clear("AtlasNoWorker")
        # of the manual's chain a model is shut down soon; and a look of a busy machine may be late
        assert set(await found.firing()) <= {"AtlasModelShutdown", "AtlasLoopLag"}

        dead = await ask(db, "Will it be answered?")
        await ended(db, dead)
        await db.execute(
            "update atlas.task set state = 'dead_lettered', error_code = 'internal', out_id = null where id = $1", dead
        )
        assert (await found.until_firing("AtlasDeadLetters"))["kind"] == "task"
        await db.execute("select atlas.retry_task($1)", dead)
        await ended(db, dead)
        await found.until_clear("AtlasDeadLetters")

        # a budget that the next question does not fit, then a higher one
        await db.execute("""select atlas.set_budget('global', '{"daily": 20000}')""")
        await db.execute("select atlas.announce_budget('global', 'day', 'tokens', 100, 20000, 15000)")
        assert (await found.until_firing("AtlasTokenBudget100"))["scope"] == "global"
        await db.execute("""select atlas.set_budget('global', '{"daily": 250000}')""")
        await found.until_clear("AtlasTokenBudget100")

        worker.process.kill()
        worker.process.wait(10)
        assert (await found.until_firing("AtlasNoWorker"))["severity"] == "critical"
        again = await workers.start(atlas_http_port=worker.port)
        assert again.process.poll() is None
        await found.until_clear("AtlasNoWorker")
