"""How good a search is: recall, MRR and nDCG over questions whose answers are known."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atlas.errors import UsageError
from atlas.task import Chunk

DEPTHS = (1, 5, 10)
"""k of recall@k."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A question and the sources that answer it. A source is met by itself, or by what lies in it as in a folder."""

    question: str
    relevant: tuple[str, ...]

    def met_by(self, source: str) -> str | None:
        """Which of the relevant sources a found one is; None for none. A source that ends with the relevant path is it."""
        for wanted in self.relevant:
            if source == wanted or source.endswith(f"/{wanted}") or source.startswith(f"{wanted}/"):
                return wanted
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Means over the questions, from 0 to 1; latencies in milliseconds."""

    name: str
    recall: dict[int, float]
    mrr: float
    ndcg: float
    p50: float
    p95: float
    questions: int


def read_cases(path: Path) -> list[Case]:
    """JSONL of {"question", "relevant": [source, …]}. Raises UsageError that names the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error.__class__.__name__})", "name a JSONL file in UTF-8") from None
    cases = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            relevant = tuple(str(source) for source in item["relevant"])
            question = item["question"]
            if not isinstance(question, str) or not question.strip() or not relevant or isinstance(item["relevant"], str):
                raise ValueError("question or relevant is empty")
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path}:{number} is no case ({error.__class__.__name__}: {error})",
                'write {"question": "…", "relevant": ["docs/a.md"]}',
            ) from None
        cases.append(Case(question=question, relevant=relevant))
    if not cases:
        raise UsageError(f"{path} holds no case", 'write {"question": "…", "relevant": ["docs/a.md"]}, one a line')
    return cases


async def evaluate(
    name: str,
    cases: Sequence[Case],
    search: Callable[[str], Awaitable[Sequence[Chunk]]],
    *,
    clock: Callable[[], float] = time.perf_counter,
    advance: Callable[[], None] = lambda: None,
) -> Scores:
    """Asks every question once. search answers best first, one chunk a file."""
    ranks: list[list[bool]] = []
    took: list[float] = []
    for case in cases:
        began = clock()
        chunks = await search(case.question)
        took.append((clock() - began) * 1000)
        ranks.append(_hits(case, chunks))
        advance()
    return scored(name, cases, ranks, took)


def scored(name: str, cases: Sequence[Case], ranks: Sequence[Sequence[bool]], took: Sequence[float]) -> Scores:
    """The means. ranks: for each question, whether each found source was a relevant one, each of which counts once."""
    size = len(cases)
    recall = {
        depth: sum(sum(hits[:depth]) / len(case.relevant) for case, hits in zip(cases, ranks, strict=True)) / size
        for depth in DEPTHS
    }
    mrr = sum(next((1 / place for place, hit in enumerate(hits, 1) if hit), 0.0) for hits in ranks) / size
    ndcg = sum(_gain(hits[:10]) / _gain([True] * min(10, len(case.relevant))) for case, hits in zip(cases, ranks, strict=True))
    ordered = sorted(took)
    return Scores(
        name=name, recall=recall, mrr=mrr, ndcg=ndcg / size, p50=_percentile(ordered, 0.5), p95=_percentile(ordered, 0.95),
        questions=size,
    )  # fmt: skip


def _hits(case: Case, chunks: Sequence[Chunk]) -> list[bool]:
    seen: set[str] = set()
    hits = []
    for chunk in chunks:
        met = case.met_by(chunk.source)
        hits.append(met is not None and met not in seen)
        if met is not None:
            seen.add(met)
    return hits


def ndcg(ranked: Sequence[str], relevant: Sequence[str]) -> float:
    """nDCG@10 of one ranking: 1 where what is relevant comes first."""
    return _gain([source in relevant for source in ranked[:10]]) / _gain([True] * min(10, len(relevant)))


def _gain(hits: Iterable[bool]) -> float:
    return sum(1 / math.log2(place + 1) for place, hit in enumerate(hits, 1) if hit)


def _percentile(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, max(0, math.ceil(part * len(ordered)) - 1))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A threshold that keeps a share of the pairs of questions and their chunks, and what it lets through of other pairs."""

    threshold: float
    kept: float
    others: float
    related: tuple[float, float, float]
    """5 %, 50 %, 95 % of the similarities of related pairs."""
    unrelated: tuple[float, float, float]


def propose(related: Sequence[float], unrelated: Sequence[float], *, keep: float = 0.95) -> Threshold:
    """The threshold that keeps so much of what belongs together. Raises UsageError for too few pairs."""
    if len(related) < 20 or len(unrelated) < 20:
        raise UsageError(f"{len(related)} pairs are too few to measure a threshold", "index more documents, or name more cases")
    lower, upper = sorted(related), sorted(unrelated)
    threshold = math.floor(lower[int((1 - keep) * len(lower))] * 100) / 100
    return Threshold(
        threshold=threshold,
        kept=sum(value >= threshold for value in lower) / len(lower),
        others=sum(value >= threshold for value in upper) / len(upper),
        related=(_percentile(lower, 0.05), _percentile(lower, 0.5), _percentile(lower, 0.95)),
        unrelated=(_percentile(upper, 0.05), _percentile(upper, 0.5), _percentile(upper, 0.95)),
    )
