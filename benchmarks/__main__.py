"""python -m benchmarks: measures Atlas and other queues on the same Postgres, and writes docs/benchmarks.md.

Needs the packages of requirements-bench.lock, and Atlas itself (pip install --no-deps -e .): documents are read in a process of its own.
--quick: the main figures in five minutes, printed and not written. --rounds: how often each rate is measured, in turns; the median
counts.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import itertools
import json
import os
import platform
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
from benchmarks import atlas_load, report, rivals
from benchmarks.atlas_load import Beside

ROOT = Path(__file__).parent.parent
NAMES = {
    "rate": "Atlas",
    "whole": "Atlas, the whole way",
    "procrastinate": "procrastinate",
    "pgqueuer": "pgqueuer",
    "dbos": "dbos",
}
BESIDE = {
    "nothing": Beside(),
    "100,000 queued behind": Beside(backlog=100_000),
    "1,000 senders": Beside(senders=1000),
    "a snapshot held for the run": Beside(snapshot=True),
    "100,000 finished": Beside(history=100_000),
}


@dataclass
class Bench:
    """A server of its own, and a fresh database for each measurement."""

    cluster: Cluster
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def fresh(self, *, atlas: bool = True) -> tuple[str, str]:
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

    async def once(self, what: str, *words: object) -> float:
        """One measurement in a fresh database and a process of its own, so that memory and imports of others are not in it."""
        url, worker_url = await self.fresh(atlas=what not in ("procrastinate", "pgqueuer", "dbos"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks", "--only", what, url, worker_url, *map(str, words),
            stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        out, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{what} {words} failed")
        return float(json.loads(out.decode().splitlines()[-1]))


async def one(what: str, url: str, worker_url: str, words: list[str]) -> float:
    """What a process of its own measures."""
    match what:
        case "memory":
            return await atlas_load.memory(url, worker_url, int(words[0]))
        case "whole":
            return await atlas_load.whole(url, worker_url, int(words[0]), int(words[1]))
        case "rate":
            beside = BESIDE[words[2]] if len(words) > 2 else Beside()
            return await atlas_load.rate(url, worker_url, int(words[0]), int(words[1]), beside)
        case "limit":
            return await atlas_load.limit(url, int(words[0]))
        case "fleet":
            return await atlas_load.fleet(url, worker_url, *map(int, words))
        case "serve":
            return await atlas_load.serve(url, worker_url, int(words[1]))
        case "inserting":
            return await atlas_load.rate_while_inserting(url, worker_url, int(words[0]), int(words[1]))
        case _:
            rival: Callable[[str, int, int], Awaitable[float]] = getattr(rivals, what)
            return await rival(url, int(words[0]), int(words[1]))


def say(line: str) -> None:
    """Where it is: all of it takes a while."""
    sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {line}\n")


async def rates(
    bench: Bench, names: list[str], levels: list[int], rounds: int, tasks: int
) -> dict[tuple[str, int], list[float]]:
    """Tasks a second by name and concurrency, a value a round; limit: at a concurrency of 0."""
    found: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds):
        for level in levels:
            for what in names:
                value = await bench.once(what, tasks if level > 1 else tasks // 4, level)
                found.setdefault((what, level), []).append(value)
                say(f"round {number + 1}: {NAMES[what]} at {level}: {value:.0f}/s")
        value = await bench.once("limit", tasks)
        found.setdefault(("limit", 0), []).append(value)
        say(f"round {number + 1}: pgbench: {value:.0f}/s")
    return found


async def growth(bench: Bench, rounds: int, tasks: int, names: list[str]) -> dict[str, list[float]]:
    """Tasks a second at 32 beside what is there already, in turns."""
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        for name in names:
            found.setdefault(name, []).append(await bench.once("rate", tasks, 32, name))
            say(f"round {number + 1}: beside {name}: {found[name][-1]:.0f}/s")
    return found


async def curve(bench: Bench, rounds: int, tasks: int) -> dict[int, list[float]]:
    """Tasks a second of 1, 2, 4 and 8 worker processes of 16 slots each."""
    found: dict[int, list[float]] = {}
    for _ in range(rounds):
        for workers in (1, 2, 4, 8):
            found.setdefault(workers, []).append(await bench.once("fleet", tasks, 16, workers))
            say(f"{workers} workers: {found[workers][-1]:.0f}/s")
    return found


async def latencies(bench: Bench, levels: list[int], tasks: int) -> tuple[list[float], dict[int, list[float]]]:
    """Milliseconds from insert to claim, and from claim to first text by concurrency."""
    picked = await atlas_load.pick_up(*await bench.fresh(), tasks, 32)
    firsts = {}
    for level in levels:
        firsts[level] = await atlas_load.first_delta(*await bench.fresh(), max(8, level), level)
        say(f"first text at {level}")
    return picked, firsts


async def slow_commits(bench: Bench, tasks: int) -> dict[str, float]:
    """Tasks a second while each commit holds its locks for 5 ms more."""
    await bench.admin("alter system set commit_delay = 5000", "alter system set commit_siblings = 0", "select pg_reload_conf()")
    found = {
        "a full queue, concurrency 32": await bench.once("rate", tasks, 32),
        "32 connections insert one question a commit, wake-ups included": await bench.once("inserting", tasks, 32),
    }
    await bench.admin("alter system reset commit_delay", "alter system reset commit_siblings", "select pg_reload_conf()")
    return found | {"the same without the delay": await bench.once("inserting", tasks, 32)}


async def run(rounds: int, tasks: int, quick: bool) -> None:
    """Measures all, and writes the report; quick: the main figures, printed."""
    levels = [32, 64] if quick else [1, 8, 32, 64]
    names = list(NAMES)[:3] if quick else list(NAMES)
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder))
        cluster = stack.start_postgres()
        try:
            await stack.prepare(cluster)
            bench = Bench(cluster)
            facts = report.Facts(
                rates=await rates(bench, names, levels, rounds, tasks),
                growth=await growth(bench, rounds, tasks, list(BESIDE)[: 4 if quick else 5]),
                curve={} if quick else await curve(bench, rounds, tasks),
                latencies=await latencies(bench, levels, 50 if quick else 200),
                memory={} if quick else {n: await bench.once("memory", n) for n in (0, 500)},
                slow={} if quick else await slow_commits(bench, tasks),
            )
        finally:
            stack.postgres.stop("immediate")
    versions = {name: importlib.metadata.version(name) for name in names if name not in ("rate", "whole")}
    command = f"python -m benchmarks {'--quick' if quick else f'--rounds {rounds} --tasks {tasks}'}"
    machine = (
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at its end, Python {platform.python_version()}, Postgres 18.6"
    )
    page = report.page(facts, NAMES, versions, command=command, machine=machine, rounds=rounds, tasks=tasks)
    if not quick:
        (ROOT / "docs" / "benchmarks_rates.svg").write_text(report.plot(facts, NAMES), encoding="utf-8")
        (ROOT / "docs" / "benchmarks.md").write_text(page, encoding="utf-8")
    print(page)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the main figures in five minutes; nothing is written")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--tasks", type=int)
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        what, url, worker_url, *words = given.only
        print(json.dumps(loop.run(one(what, url, worker_url, words))))
    else:
        asyncio.run(run(given.rounds or (1 if given.quick else 3), given.tasks or (1000 if given.quick else 2000), given.quick))


if __name__ == "__main__":
    main()
