"""python -m benchmarks: measures Atlas and other queues on the same Postgres, and writes docs/benchmarks.md.

Needs the packages of requirements-bench.lock, and Atlas itself (pip install --no-deps -e .): documents are read in a process of its own.
--rounds: how often each rate is measured, in turns; the median counts.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from atlas import loop
from atlas.database import migrate
from atlas.local.postgres import Cluster
from atlas.local.stack import Stack
from benchmarks import atlas_load, rivals

ROOT = Path(__file__).parent.parent
LEVELS = (1, 8, 32, 64)


@dataclass
class Bench:
    """A server of its own, and a fresh database for each measurement."""

    cluster: Cluster
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def fresh(self, *, atlas: bool) -> tuple[str, str]:
        """URLs of an operator and of a worker."""
        name = f"bench_{next(self.numbers)}"
        await self.admin(f"create database {name} owner postgres")
        if atlas:
            admin = await asyncpg.connect(self.cluster.url("supabase_admin", name))
            await migrate.provide_supabase(admin)
            await admin.close()
            operator = await asyncpg.connect(self.cluster.url("postgres", name))
            await migrate.migrate(operator)
            await migrate.seed(operator)
            await operator.close()
        return self.cluster.url("postgres", name), self.cluster.url("atlas_worker", name)

    async def admin(self, *statements: str) -> None:
        """Runs statements as the superuser."""
        connection = await asyncpg.connect(self.cluster.url("supabase_admin"))
        for statement in statements:
            await connection.execute(statement)
        await connection.close()


async def own_process(what: str, *words: str) -> float:
    """One measurement in a process of its own, so that memory and imports of others are not in it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks", "--only", what, *words, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{what} {words} failed")
    return float(json.loads(out.decode().splitlines()[-1]))


async def one(what: str, words: list[str]) -> float:
    """What a process of its own measures."""
    match what:
        case "memory":
            return await atlas_load.memory(words[0], words[1], int(words[2]))
        case "whole":
            return await atlas_load.whole(words[0], words[1], int(words[2]), int(words[3]))
        case "rate":
            return await atlas_load.rate(words[0], words[1], int(words[2]), int(words[3]))
        case "inserting":
            return await atlas_load.rate_while_inserting(words[0], words[1], int(words[2]), int(words[3]))
        case _:
            rival: Callable[[str, int, int], Awaitable[float]] = getattr(rivals, what)
            return await rival(words[0], int(words[2]), int(words[3]))


async def measure(bench: Bench, rounds: int, tasks: int) -> list[str]:
    """All measurements, as lines of Markdown."""

    def say(line: str) -> None:
        sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {line}\n")

    names = {
        "rate": "Atlas",
        "whole": "Atlas, the whole way",
        "procrastinate": "procrastinate",
        "pgqueuer": "pgqueuer",
        "dbos": "dbos",
    }
    rates: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds):
        for level in LEVELS:
            for what in names:
                url, worker_url = await bench.fresh(atlas=what in ("rate", "whole"))
                count = tasks if level > 1 else tasks // 4
                found = await own_process(what, url, worker_url, str(count), str(level))
                rates.setdefault((what, level), []).append(found)
                say(f"round {number + 1}: {names[what]} at {level}: {found:.0f}/s")
    middle = {key: statistics.median(values) for key, values in rates.items()}
    lines = [
        "## Rate",
        "",
        "| tasks/s at a concurrency of | 1 | 8 | 32 | 64 | ratio to procrastinate at 32 | at 64 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for what, name in names.items():
        cells = [
            f"{middle[what, level]:.0f} ({min(rates[what, level]):.0f} to {max(rates[what, level]):.0f})" for level in LEVELS
        ]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {middle[what, 32] / middle['procrastinate', 32]:.2f} "
            f"| {middle[what, 64] / middle['procrastinate', 64]:.2f} |"
        )
    lines += ["", f"Medians of {rounds} rounds in turns, {tasks} tasks each (a quarter at 1), and the range."]

    url, worker_url = await bench.fresh(atlas=True)
    values = await atlas_load.pick_up(url, worker_url, 200, 32)
    cells = [f"{atlas_load.percentile(values, share):.1f} ms" for share in (0.5, 0.95, 0.99)]
    say(f"pick-up {cells}")
    lines += ["", "## Pick-up latency", "", "From the insert to the claim, at 10 tasks/s, 200 tasks, LISTEN.", "",
              "| p50 | p95 | p99 |", "| --- | --- | --- |", f"| {' | '.join(cells)} |"]  # fmt: skip

    lines += ["", "## First delta", "", "From the claim to the first stored text, less the 100 ms that the model itself takes: first text is stored at once, what follows every 250 ms.",
              "", "| concurrency | p50 | p95 |", "| --- | --- | --- |"]  # fmt: skip
    for level in LEVELS:
        url, worker_url = await bench.fresh(atlas=True)
        values = await atlas_load.first_delta(url, worker_url, max(8, level), level)
        lines.append(
            f"| {level} | {atlas_load.percentile(values, 0.5):.0f} ms | {atlas_load.percentile(values, 0.95):.0f} ms |"
        )
        say(lines[-1])

    lines += ["", "## Memory", "", "| concurrent streams | RSS of the worker |", "| --- | --- |"]
    for streams in (0, 500):
        url, worker_url = await bench.fresh(atlas=True)
        lines.append(f"| {streams} | {await own_process('memory', url, worker_url, str(streams)):.0f} MiB |")
        say(lines[-1])

    lines += ["", "## A commit that takes 5 ms", "", "`commit_delay = 5000, commit_siblings = 0`: every commit holds its locks for 5 ms more, as on a slow disk.",
              "", "| what | tasks/s |", "| --- | --- |"]  # fmt: skip
    await bench.admin("alter system set commit_delay = 5000", "alter system set commit_siblings = 0", "select pg_reload_conf()")
    for what, text in (
        ("rate", "a full queue, concurrency 32"),
        ("inserting", "32 connections insert one question a commit, wake-ups included"),
    ):
        url, worker_url = await bench.fresh(atlas=True)
        lines.append(f"| {text} | {await own_process(what, url, worker_url, str(tasks), '32'):.0f} |")
        say(lines[-1])
    await bench.admin("alter system reset commit_delay", "alter system reset commit_siblings", "select pg_reload_conf()")
    url, worker_url = await bench.fresh(atlas=True)
    lines.append(f"| the same without the delay | {await own_process('inserting', url, worker_url, str(tasks), '32'):.0f} |")
    return lines


HEAD = """# Benchmarks

Written by `python -m benchmarks --rounds {rounds} --tasks {tasks}` on {date}: {cores} cores, Python {python}, Postgres 18.6
(embedded, its defaults: fsync and synchronous_commit on), all on one machine whose speed varies. Read the ratios, not the rates.

A task of Atlas is everything but the model: insert, claim, full-text search, prompt and token count, reservation, response id,
check of the reply, settlement, audit and outbox. The model answers at once, in process, with one short delta, and nothing is indexed;
the whole way is from before the inserts, with a search in a filled index for each question, and a reply of 8 KB in 200 deltas. A job of the others does nothing. pgqueuer writes
completions in batches; dbos polls every millisecond here, and every second by default.

{lines}

## Against the goals

| goal | measured |
| --- | --- |
{goals}
"""


async def run(rounds: int, tasks: int) -> None:
    """Measures all, and writes the report."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder))
        cluster = stack.start_postgres()
        try:
            await stack.prepare(cluster)
            lines = await measure(Bench(cluster), rounds, tasks)
        finally:
            stack.postgres.stop("immediate")
    text = "\n".join(lines)
    report = HEAD.format(
        rounds=rounds, tasks=tasks, date=time.strftime("%Y-%m-%d"), cores=os.cpu_count(), python=platform.python_version(),
        lines=text, goals=goals(lines),
    )  # fmt: skip
    (ROOT / "docs" / "benchmarks.md").write_text(report, encoding="utf-8")
    print(report)


def goals(lines: list[str]) -> str:
    """The goals beside what was measured."""
    atlas = next(line for line in lines if line.startswith("| Atlas |")).split("|")
    p99 = lines[lines.index("| p50 | p95 | p99 |") + 2].split("|")[3].strip()
    memory = next(line for line in lines if line.startswith("| 500 |")).split("|")[2].strip()
    slow = [line.split("|")[2].strip() for line in lines if line.startswith(("| a full queue", "| 32 connections"))]
    return "\n".join(
        (
            f"| 2.5 times procrastinate at 32 | {atlas[6].strip()} times |",
            f"| 4 times procrastinate at 64 | {atlas[7].strip()} times |",
            f"| pick-up p99 under 20 ms | {p99} |",
            f"| 500 streams in under 300 MiB | {memory} |",
            f"| far above 200/s with a commit of 5 ms | {slow[0]}/s, {slow[1]}/s with wake-ups |",
        )
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(loop.run(one(arguments.only[0], arguments.only[1:]))))
    else:
        asyncio.run(run(arguments.rounds, arguments.tasks))


if __name__ == "__main__":
    main()
