"""rag eval, rag calibrate: how good retrieval is, and where its threshold belongs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import Progress

from atlas.commands.common import JsonFlag, dump, runs, settings, show_rows
from atlas.commands.console import complain, say
from atlas.commands.search import opened, project_id
from atlas.errors import UsageError, WrongState
from atlas.rag.quality.calibrate import measure_pairs
from atlas.rag.quality.evaluate import DEPTHS, Case, Scores, evaluate, propose, read_cases
from atlas.rag.search import Query
from atlas.rag.wiring import Knowledge
from atlas.task import Chunk, JsonObject

_FULL_TEXT = Query(text="", top_k=15, threshold=-1, vectors=False, rerank=False)
_VECTOR = Query(text="", top_k=15, threshold=-1, words=False, rerank=False)
_HYBRID = Query(text="", top_k=15, threshold=-1, rerank=False)
_RERANKED = Query(text="", top_k=15, threshold=-1)

Project = Annotated[str | None, typer.Option(help="Whose documents besides the shared ones (id or name).")]


@runs
async def evaluate_file(
    file: Annotated[Path, typer.Argument(help='JSONL: {"question": "…", "relevant": ["docs/a.md"]}.')],
    project: Project = None,
    plot: Annotated[Path | None, typer.Option(help="Write a chart (SVG).")] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=10, max=200)] = 15,
    as_json: JsonFlag = False,
) -> None:
    """Measure retrieval: recall@k, MRR, nDCG@10 and latency, for words, vectors, both, and both reranked."""
    cases = read_cases(file)
    async with opened(settings()) as known:
        owner = await project_id(known, project)
        ways = [(name, dataclasses.replace(way, top_k=top_k, project=owner)) for name, way in await _ways(known)]
        with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
            scores = [await _measure(known, name, way, cases, bar) for name, way in ways]
    if plot is not None:
        # imported here: few ask for it
        from atlas.rag.quality.plot import chart

        plot.write_text(chart(scores, f"{file.name}: {len(cases)} questions"), encoding="utf-8")
    rows = [_row(score) for score in scores]
    if as_json:
        say(dump({"questions": len(cases), "ways": rows}))
        return
    numbers = tuple(name for name in rows[0] if name != "search")
    shown = [{**row, **{name: f"{row[name]:.{1 if name.endswith('_ms') else 3}f}" for name in numbers}} for row in rows]
    show_rows(shown, {name: name.upper() for name in rows[0]}, as_json=False, empty="", right=numbers)
    if len(rows) == 1:
        complain("only words were searched: RAG_EMBEDDER is none, or its vectors do not serve yet")


async def _ways(known: Knowledge) -> list[tuple[str, Query]]:
    ways = [("full text", _FULL_TEXT)]
    index = await known.searcher.serving(fresh=True)
    if index is not None and await known.embedders.of(index) is not None:
        ways += [("vector", _VECTOR), ("hybrid", _HYBRID)]
    if known.reranker is not None:
        ways.append(("hybrid + rerank", _RERANKED))
    return ways


async def _measure(known: Knowledge, name: str, way: Query, cases: Sequence[Case], bar: Progress) -> Scores:
    shown = bar.add_task(name, total=len(cases))

    async def find(question: str) -> Sequence[Chunk]:
        found = await known.searcher.search(dataclasses.replace(way, text=question))
        if found.warnings:
            raise WrongState(found.warnings[0], "an evaluation needs every part")
        return found.chunks

    await find(cases[0].question)  # the first call loads what the rest find loaded
    return await evaluate(name, cases, find, advance=lambda: bar.advance(shown))


def _row(score: Scores) -> JsonObject:
    return {
        "search": score.name,
        **{f"recall@{depth}": round(score.recall[depth], 3) for depth in DEPTHS},
        "mrr": round(score.mrr, 3),
        "ndcg@10": round(score.ndcg, 3),
        "p50_ms": round(score.p50, 1),
        "p95_ms": round(score.p95, 1),
    }


@runs
async def calibrate(
    file: Annotated[Path | None, typer.Argument(help="Cases as for eval; without it, headings ask for their passages.")] = None,
    project: Project = None,
    keep: Annotated[float, typer.Option(min=0.5, max=1, help="Share of related pairs that the threshold keeps.")] = 0.95,
    pairs: Annotated[int, typer.Option(min=20, max=2000, help="How many pairs are measured.")] = 300,
    save: Annotated[bool, typer.Option("--save", help="Use it from now on, instead of RAG_RELEVANCY_THRESHOLD.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure the scale of the embedder on this index, and propose a relevancy threshold."""
    async with opened(settings()) as known:
        owner: UUID | None = await project_id(known, project)
        index = await known.searcher.serving(fresh=True)
        embedder = await known.embedders.of(index) if index is not None else None
        if index is None or embedder is None:
            raise UsageError("there are no vectors to measure", "set RAG_EMBEDDER, and run `atlas index`")
        cases = None if file is None else read_cases(file)
        related, unrelated = await measure_pairs(known.store, embedder, index, cases, project=owner, pairs=pairs)
        proposal = propose(related, unrelated, keep=keep)
        if save:
            await known.store.set_threshold(index.id, proposal.threshold)
    if as_json:
        say(json.dumps({**dataclasses.asdict(proposal), "pairs": len(related), "saved": save}, indent=2))
        return
    spreads = (("a question and its passage", proposal.related), ("a question and another passage", proposal.unrelated))
    quantiles = ("5 %", "50 %", "95 %")
    rows = [
        {"pairs": name, **{label: f"{value:.2f}" for label, value in zip(quantiles, spread, strict=True)}}
        for name, spread in spreads
    ]
    heads = {"pairs": f"{len(related)} PAIRS", **{label: label for label in quantiles}}
    show_rows(rows, heads, as_json=False, empty="", right=quantiles)
    say(
        f"threshold {proposal.threshold:.2f}: keeps {proposal.kept:.0%} of related pairs, and {proposal.others:.0%} of others"
        + (" (saved)" if save else "; --save uses it, or set RAG_RELEVANCY_THRESHOLD")
    )


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command("eval")(evaluate_file)
    app.command()(calibrate)
