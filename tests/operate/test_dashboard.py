"""deploy/grafana: every query of the dashboard runs on a real Prometheus over a real worker, and compose provisions it."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import asyncpg
from ruamel.yaml import YAML

from tests.doubles.openai import OpenAIDouble, Plan
from tests.support.core import ADR, ROOT, Workers, ask, ended, until
from tests.support.prometheus import prometheus

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/atlas-overview.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
QUIET = {
    "atlas_unknown_usage_total", "atlas_model_errors_total", "atlas_fallbacks_total", "atlas_retrieval_fail_opens_total",
    "atlas_mirrored_total", "atlas_outbox_pending", "atlas_outbox_age_seconds", "atlas_mirror_seconds_bucket",
    "atlas_rag_search_seconds_bucket", "atlas_rag_calls_total", "atlas_rag_jobs_total", "atlas_realtime_state",
    "atlas_model_breaker_open", 'unit="usd"',
}  # fmt: skip
"""What one answered question brings no sample of: faults, destinations, the knowledge service, Realtime, a budget in US dollars."""


def test_panels_have_ids_of_their_own_and_do_not_cover_each_other() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids) > 30
    for one, other in itertools.combinations((panel["gridPos"] for panel in DASHBOARD["panels"]), 2):
        apart = (
            one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        )  # fmt: skip
        assert apart, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in DASHBOARD["panels"])


def test_the_manuals_two_panels_and_its_six_subjects_are_there() -> None:
    titles = {panel["title"] for panel in DASHBOARD["panels"]}
    assert {"Token Spend (cumulative)", "Run Time p95"} <= titles
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Now", "Money", "Latency", "Queue", "Models", "Retrieval", "Delivery"]
    assert "graph" not in {panel["type"] for panel in PANELS}, "a type that Grafana has no more"


def test_its_picture_shows_each_panel() -> None:
    """docs/dashboard.svg is drawn by `python -m benchmarks.dashboard`: after a change of the panels it is drawn again."""
    drawn = ET.parse(ROOT / "docs/dashboard.svg").getroot()  # noqa: S314  our own
    words = {"".join(text.itertext()).removeprefix("▾ ") for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {panel["title"] for panel in DASHBOARD["panels"]} <= words


def test_compose_provisions_it() -> None:
    services = YAML(typ="safe").load(ROOT / "docker-compose.yml")["services"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    (provider,) = YAML(typ="safe").load(ROOT / "deploy/grafana/provisioning/dashboards/atlas.yaml")["providers"]
    assert mounts["./deploy/grafana/atlas-overview.json"] == provider["options"]["path"] + "/atlas-overview.json"
    (source,) = YAML(typ="safe").load(ROOT / "deploy/grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    mounts = dict(volume.split(":")[:2] for volume in services["prometheus"]["volumes"])
    assert mounts["./deploy/prometheus"] == "/etc/prometheus"
    assert "--config.file=/etc/prometheus/prometheus.yaml" in services["prometheus"]["command"]
    scraped = YAML(typ="safe").load(ROOT / "deploy/prometheus/prometheus.yaml")["scrape_configs"]
    assert {name for job in scraped for config in job["dns_sd_configs"] for name in config["names"]} <= set(services)


async def test_every_query_runs_and_finds_what_there_is(
    workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble, tmp_path: Path
) -> None:
    assert len(QUERIES) > 40
    openai.plans = [Plan(text=ADR, delay=0.01)]
    worker = await workers.start(openai_api_key="k", openai_base_url=openai.url)
    async with prometheus(tmp_path, {"atlas-worker": [worker.port]}) as found:
        await ended(db, await ask(db, "First?"))

        async def counted() -> bool:
            # a rate needs two samples of a series
            return bool(await found.query("atlas_budget_used > 0 and on () count_over_time(atlas_run_seconds_count[1m]) > 2"))

        await until(counted, 40, "Prometheus has seen the run")
        await ended(db, await ask(db, "Second?"))

        async def rated() -> bool:
            return bool(await found.query("rate(atlas_run_seconds_count[1m]) > 0"))

        await until(rated, 40, "Prometheus has seen the second run")
        for title, expression in QUERIES:
            samples = await found.query(expression)
            if not any(word in expression for word in QUIET):
                assert samples, f"{title}: {expression}"


def test_every_metric_that_is_named_is_in_the_page() -> None:
    page = (ROOT / "docs/metrics.md").read_text()
    named = {
        re.sub("_seconds_(bucket|count)$", "_seconds", name)
        for _, query in QUERIES
        for name in re.findall(r"\batlas_\w+", query)
    }
    assert len(named) > 30
    assert [name for name in named if f"`{name}`" not in page] == []
