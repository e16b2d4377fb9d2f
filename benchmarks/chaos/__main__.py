"""`python -m benchmarks.chaos`: each fault on a fleet that is busy, and what it cost.

lost: questions whose insert was confirmed and that have no reply in the end, and events that did not arrive. twice: questions with
more than one reply. paid again: responses of the provider beyond one per question. books: rows of atlas.check_ledger and
atlas.verify_audit that disagree. during: the rate while the fault lasts; where it is that of before, the fleet did not feel it. pick-up: 95 % of the questions that were
asked before, or during, were claimed within this; of a queue that is never empty it is the wait in it.
recovery: from the end of the fault until the rate of 1.5 s is 0.8 of that before. after / before: the rates of the last and of the
first part.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.chaos.arena import Arena
from benchmarks.chaos.scenarios import SCENARIOS


async def run(name: str, seconds: float) -> dict[str, Any]:
    """One scenario, from a warm fleet to an empty queue."""
    async with SCENARIOS[name].made(seconds) as (arena, fault):
        stopping = asyncio.Event()
        producing = asyncio.create_task(arena.produce(stopping))
        try:
            await _warm(arena)
            began, first = time.monotonic(), datetime.now(UTC)
            await asyncio.sleep(seconds)
            before = arena.usual(began, time.monotonic())
            began, second = time.monotonic(), datetime.now(UTC)
            async with fault():
                over, third = time.monotonic(), datetime.now(UTC)
                during = arena.rate(began, over)
                recovery = await _recovered(arena, over, before)
                settled = time.monotonic()
                await asyncio.sleep(seconds)
                after = arena.usual(settled, time.monotonic())
        finally:
            stopping.set()
            await producing
        states = await arena.drained(patience=120)
        async with arena.operator() as db:
            wrong = await db.fetchval(
                "select (select count(*) from atlas.check_ledger()) + (select count(*) from atlas.verify_audit())"
            )
            twice = await db.fetchval(
                "select count(*) from (select task_id from public.architect_out where data #>> '{metadata,status}' = 'completed' "
                "group by task_id having count(*) > 1) x"
            )
            pick_up = [await arena.pick_up(db, *between) for between in ((first, second), (second, third))]
            lost = await arena.unanswered(db) + (await arena.undelivered(db) if arena.undelivered else 0)
        return {
            "scenario": name, "asked": len(arena.asked), "lost": lost, "twice": twice, "paid_again": arena.paid_again(), "books": wrong,
            "before": round(before, 1), "during": round(during, 1), "pick_up": pick_up, "recovery": recovery, "after": round(after / before, 2) if before else None, "states": states,
        }  # fmt: skip


async def _warm(arena: Arena) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if arena.samples and arena.samples[-1][1] > 50:
            return
        await asyncio.sleep(0.1)
    raise RuntimeError(f"the fleet did not begin: {(arena.folder / 'worker0.log').read_text()[-2000:]}")


async def _recovered(arena: Arena, since: float, before: float) -> float | None:
    end = since + 90
    while time.monotonic() < end:
        now = time.monotonic()
        if now > since + 1 and arena.rate(now - 1.5, now) >= 0.8 * before:
            return round(max(0.0, now - 1 - since), 1)
        await asyncio.sleep(0.1)
    return None


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| fault | asked | lost | twice | paid again | books | tasks/s before | during | pick-up before | during | recovery | after / before |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        recovery = "not within 90 s" if row["recovery"] is None else f"{row['recovery']} s"
        lines.append(
            f"| {SCENARIOS[str(row['scenario'])].text} | {row['asked']} | {row['lost']} | {row['twice']} | {row['paid_again']} | {row['books']} "
            f"| {row['before']} | {row['during']} | {' | '.join('' if one is None else f'{one:.2f} s' for one in row['pick_up'])} | {recovery} | {row['after']} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}; all of them without one")
    parser.add_argument("--seconds", type=float, default=10, help="how long each part takes (default: 10)")
    parser.add_argument("--out", type=Path, help="write the table there, as Markdown")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.scenario or SCENARIOS:
        print(f"{name}: {SCENARIOS[name].text} …", file=sys.stderr, flush=True)
        row = asyncio.run(run(name, arguments.seconds))
        rows.append(row)
        print(json.dumps(row), f"load {os.getloadavg()[0]:.1f}", flush=True)
    if arguments.out:
        arguments.out.write_text(table(rows) + "\n")
    print(table(rows))
    return 1 if any(row["lost"] or row["twice"] or row["books"] or row["recovery"] is None for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
