"""Debian's Prometheus: the real server on loopback, and promtool."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas.local.postgres import free_port
from tests.support.core import ROOT, until
from tests.support.debian import tool

RULES = ROOT / "deploy/prometheus/rules.yaml"


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The real promtool."""
    return subprocess.run([tool("prometheus", "promtool"), *words], capture_output=True, text=True, check=False, timeout=60)


@dataclass(frozen=True, kw_only=True)
class Prometheus:
    """A running server that scrapes every second."""

    url: str

    def _get(self, path: str, **words: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(words)}", timeout=5) as answer:  # noqa: S310  # loopback
            return json.loads(answer.read())["data"]

    async def query(self, expression: str) -> list[Any]:
        """The vector that an expression is now."""
        found: list[Any] = (await asyncio.to_thread(self._get, "/api/v1/query", query=expression))["result"]
        return found

    async def firing(self) -> dict[str, dict[str, str]]:
        """The labels of each alert that fires, by its name."""
        found = await asyncio.to_thread(self._get, "/api/v1/alerts")
        return {row["labels"]["alertname"]: row["labels"] for row in found["alerts"] if row["state"] == "firing"}

    async def until_firing(self, name: str, seconds: float = 40) -> dict[str, str]:
        """Waits for an alert; its labels."""

        async def look() -> dict[str, str] | None:
            return (await self.firing()).get(name)

        labels: dict[str, str] = await until(look, seconds, f"{name} fires")
        return labels

    async def until_clear(self, name: str, seconds: float = 40) -> None:
        """Waits until an alert does not fire."""

        async def look() -> bool:
            return name not in await self.firing()

        await until(look, seconds, f"{name} clears")


@asynccontextmanager
async def prometheus(folder: Path, targets: Mapping[str, Sequence[int]]) -> AsyncIterator[Prometheus]:
    """A server with the rules of deploy/prometheus, which scrapes these ports of loopback by job. The rules are those that ship, but for
    how long their conditions must hold: minutes there, a second here."""
    shortened, count = re.subn(r"(?m)^( +for: ).+$", r"\g<1>1s", RULES.read_text())
    assert count > 10
    (folder / "rules.yaml").write_text(shortened)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
            for job, ports in targets.items()
        ],
    }
    (folder / "prometheus.yaml").write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                tool("prometheus", "prometheus"), f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    found = Prometheus(url=f"http://127.0.0.1:{port}")
    try:

        async def up() -> bool:
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            try:
                return bool(await found.query("up == 1"))
            except OSError:
                return False

        await until(up, 30, "Prometheus has scraped something")
        yield found
    finally:
        process.kill()
        process.wait(10)
