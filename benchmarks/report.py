"""docs/benchmarks.md: what was measured, the ratios first, beside the goals, and a picture of the rates."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atlas.rag.quality.plot import bars
from benchmarks.atlas_load import percentile

NOTES = Path(__file__).with_name("notes.md")
DOES_NOT = {
    "procrastinate": "fetches and finishes a job in commits of its own; no money, no reply, no audit, no outbox",
    "pgqueuer": "writes completions in batches of 10, not with what a job does; none of the rest",
    "dbos": "durable workflows; polls, every millisecond here (every second by default); no money, no audit, no outbox",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was measured. Rates are tasks a second, a value a round, by name and concurrency (0: pgbench)."""

    rates: Mapping[tuple[str, int], Sequence[float]]
    growth: Mapping[str, Sequence[float]]
    curve: Mapping[int, Sequence[float]]
    latencies: tuple[Sequence[float], Mapping[int, Sequence[float]]]
    memory: Mapping[int, float]
    slow: Mapping[str, float]

    def ratio(self, one: tuple[str, int], other: tuple[str, int]) -> tuple[float, float, float]:
        """Of two rates, round by round: the median, the least and the most."""
        found = [a / b for a, b in zip(self.rates[one], self.rates[other], strict=True)]
        return statistics.median(found), min(found), max(found)


def page(
    facts: Facts, names: Mapping[str, str], versions: Mapping[str, str], *, command: str, machine: str, rounds: int, tasks: int
) -> str:
    """The page as Markdown."""
    levels = sorted({level for _, level in facts.rates if level})
    measured = [what for what in names if (what, 32) in facts.rates]
    lines = [
        "# Benchmarks", "",
        f"Written by `{command}` on {time.strftime('%Y-%m-%d')}: {machine} (embedded, its defaults: fsync and synchronous_commit on),",
        "worker, server and client together on one machine whose speed varies. Read the ratios, not the rates: each is of two rates of the",
        f"same round, {rounds} rounds, {tasks} tasks each (a quarter at 1); median, and range.", "",
        "A task of Atlas is everything but the model: claim, recall, prompt and token count, reservation, check of the reply, settlement, audit",
        "and outbox. The model answers at once, in process, with one short delta, nothing is indexed, and the tasks are queued before the",
        "clock starts, as the jobs of the others are. **The whole way** begins before the inserts, searches a filled index for each question,",
        "and takes a reply of 8 KB in 200 deltas. A job of the others does nothing.", "",
        "## The main figures", "", "| what | measured | goal |", "| --- | --- | --- |", *_main(facts), "",
    ]  # fmt: skip
    if 8 in levels:
        lines += ["![Tasks a second by concurrency](benchmarks_rates.svg)", ""]
    lines += [
        "## Rates",
        "",
        f"| tasks/s at a concurrency of | {' | '.join(map(str, levels))} |",
        "| --- |" + " --- |" * len(levels),
    ]
    for what in measured:
        cells = [
            f"{statistics.median(v):.0f} ({min(v):.0f} to {max(v):.0f})" for v in (facts.rates[what, level] for level in levels)
        ]
        lines.append(f"| {names[what]} | {' | '.join(cells)} |")
    lines += ["", "| peer | version | what it does not do |", "| --- | --- | --- |"]
    lines += [f"| {what} | {version} | {DOES_NOT[what]} |" for what, version in versions.items()]
    empty = facts.growth["nothing"]
    lines += [
        "",
        "## Beside what is there already",
        "",
        "At 32, in turns.",
        "",
        "| beside | tasks/s | ratio to nothing |",
        "| --- | --- | --- |",
    ]
    for name, values in facts.growth.items():
        ratio = statistics.median(a / b for a, b in zip(values, empty, strict=True))
        lines.append(f"| {name} | {statistics.median(values):.0f} | {ratio:.2f} |")
    if facts.curve:
        lines += ["", "## Several workers", "", "Processes of 16 slots each, on the same cores as Postgres.", "",
                  "| workers | tasks/s | ratio to one |", "| --- | --- | --- |"]  # fmt: skip
        single = statistics.median(facts.curve[1])
        lines += [f"| {n} | {statistics.median(v):.0f} | {statistics.median(v) / single:.2f} |" for n, v in facts.curve.items()]
    picked, firsts = facts.latencies
    lines += ["", "## Latency", "", "Pick-up: from the insert to the claim, at 10 tasks/s, by LISTEN. First text: from the claim until it is stored, less the 100 ms",
              "that the model itself takes.", "", "| | p50 | p95 | p99 |", "| --- | --- | --- | --- |", _quantiles("pick-up", picked)]  # fmt: skip
    lines += [_quantiles(f"first text, {level} at once", values) for level, values in firsts.items()]
    if facts.memory:
        lines += ["", "## Memory", "", "| concurrent streams | RSS of the worker |", "| --- | --- |"]
        lines += [f"| {streams} | {mib:.0f} MiB |" for streams, mib in facts.memory.items()]
    if facts.slow:
        lines += ["", "## A commit that takes 5 ms", "",
                  "`commit_delay = 5000, commit_siblings = 0`: every commit holds its locks for 5 ms more, as on a slow disk.", "",
                  "| what | tasks/s |", "| --- | --- |"]  # fmt: skip
        lines += [f"| {what} | {rate:.0f} |" for what, rate in facts.slow.items()]
    return "\n".join(lines) + "\n\n" + NOTES.read_text(encoding="utf-8")


def _main(facts: Facts) -> list[str]:
    def times(one: tuple[str, int], other: tuple[str, int]) -> str:
        middle, least, most = facts.ratio(one, other)
        return f"{middle:.2f} ({least:.2f} to {most:.2f})"

    lines = [
        f"| times procrastinate at 32 | {times(('rate', 32), ('procrastinate', 32))} | 2.5 |",
        f"| times procrastinate at 64 | {times(('rate', 64), ('procrastinate', 64))} | 4 |",
        f"| the whole way, times procrastinate at 32 | {times(('whole', 32), ('procrastinate', 32))} | |",
        f"| share of what pgbench gets out of Postgres by the same SQL, at 32 | {times(('rate', 32), ('limit', 0))} | 0.6 |",
    ]
    if ("rate", 1) in facts.rates:
        lines.append(f"| times procrastinate at 1 | {times(('rate', 1), ('procrastinate', 1))} | 1 |")
    empty = statistics.median(facts.growth["nothing"])
    worst = min((statistics.median(values) / empty, name) for name, values in facts.growth.items())
    lines.append(f"| least rate beside what is there already, to an empty database | {worst[0]:.2f} ({worst[1]}) | 0.9 |")
    lines.append(f"| pick-up p99 | {percentile(list(facts.latencies[0]), 0.99):.1f} ms | 20 ms |")
    if facts.memory:
        lines.append(f"| memory of 500 streams | {facts.memory[500]:.0f} MiB | 300 MiB |")
    return lines


def _quantiles(name: str, values: Sequence[float]) -> str:
    cells = [f"{percentile(list(values), share):.1f} ms" for share in (0.5, 0.95, 0.99)]
    return f"| {name} | {' | '.join(cells)} |"


def plot(facts: Facts, names: Mapping[str, str]) -> str:
    """Tasks a second by concurrency, a bar a queue."""
    levels = sorted({level for _, level in facts.rates if level})
    groups = [(f"{level} at once", [statistics.median(facts.rates[what, level]) for what in names]) for level in levels]
    return bars("Tasks a second", list(names.values()), groups, form="{:.0f}")
