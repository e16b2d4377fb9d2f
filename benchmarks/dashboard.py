"""`python -m benchmarks.dashboard`: runs a fleet for some minutes under a real Prometheus, with a model that fails for a while, and draws
the dashboard of deploy/grafana from the answers to its own queries.

Grafana draws the same: it is in no package registry, so docs/dashboard.svg is made by this.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
import urllib.parse
import urllib.request
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks.chaos.arena import Arena, arena
from benchmarks.panels import Series, named, picture
from tests.doubles.webhook import receiver
from tests.support.core import ADR, ROOT
from tests.support.mirror import SECRET
from tests.support.outbox import hook
from tests.support.prometheus import prometheus

DASHBOARD = ROOT / "deploy/grafana/atlas-overview.json"
STEP = 2


async def ask(run: Arena, seconds: float) -> None:
    """Questions of three senders, more in the middle; for a third of the time the first model fails."""
    chosen = random.Random(7)
    began = time.monotonic()
    broken = False
    async with run.operator() as db:
        while (at := (time.monotonic() - began) / seconds) < 1:
            count = 1 + round(5 * at * (1 - at) * 4 * chosen.random())
            await db.execute(
                "insert into public.architect_in (data) select jsonb_build_object('task_id', atlas.new_id(), 'role', 'architect', 'msg_type', 'chat', "
                "'content', 'question ' || n, 'metadata', jsonb_build_object('sender_key', 'team-' || n % 3)) from generate_series(1, $1::int) n", count,
            )  # fmt: skip
            if broken != (0.4 < at < 0.7):
                broken = not broken
                if broken:
                    error = {"message": "it is overloaded", "type": "server_error", "code": "server_error"}
                    run.openai.plan(model="gpt-4.1", error=(500, error), times=1_000_000)
                else:
                    run.openai.plans.pop(0)
            await asyncio.sleep(0.3)


def read(url: str, expression: str, since: float, until: float) -> list[Any]:
    """Series of a range."""
    words = urllib.parse.urlencode({"query": expression, "start": since, "end": until, "step": STEP})
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{words}", timeout=30) as answer:  # noqa: S310  loopback
        found: list[Any] = json.load(answer)["data"]["result"]
    return found


async def run(seconds: float, out: Path) -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(arena(1))
        got = await stack.enter_async_context(receiver())
        fleet.openai.plan(text=ADR * 6, chunk=40, delay=0.06)
        async with fleet.operator() as db:
            await hook(db, got.url, name="router")
            await db.execute("select atlas.set_budget('global', '{\"daily\": 1000000}')")
        fleet.start(
            2, atlas_mirror="true", atlas_webhook_secret=SECRET, atlas_webhook_allow="127.0.0.1/32", openai_fallback_models="gpt-6-luna",
            daily_usd_budget=5,
        )  # fmt: skip
        ports = [int(env["ATLAS_HTTP_PORT"]) for env in fleet.environments]
        server = await stack.enter_async_context(prometheus(fleet.folder, {"atlas-worker": ports}))
        since = time.time()
        await ask(fleet, seconds)
        until = time.time()
        found: dict[int, list[Series]] = {}
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                for series in await asyncio.to_thread(read, server.url, target["expr"], since, until):
                    points = [(float(at), float(value)) for at, value in series["values"] if value not in ("NaN", "+Inf")]
                    name = named(target.get("legendFormat", ""), series["metric"])
                    found.setdefault(panel["id"], []).append(Series(name=name, points=points))
    out.write_text(picture(dashboard, found, "Atlas", since, until), encoding="utf-8")
    sys.stderr.write(f"{out}: {sum(map(len, found.values()))} series\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dashboard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/dashboard.svg")
    given = parser.parse_args()
    asyncio.run(run(given.seconds, given.out))


if __name__ == "__main__":
    main()
