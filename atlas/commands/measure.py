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
from atlas.rag.quality.calibrate import ask_links, best_weight, measure_cosines, measure_pairs, measure_shares, measure_weights
from atlas.rag.quality.evaluate import DEPTHS, Case, Scores, Threshold, evaluate, propose, read_cases
from atlas.rag.search import Query
from atlas.rag.wiring import Knowledge
from atlas.task import Chunk, JsonObject

_FULL_TEXT = Query(text="", top_k=15, threshold=-1, vectors=False, rerank=False)
_VECTOR = Query(text="", top_k=15, threshold=-1, words=False, rerank=False)
_HYBRID = Query(text="", top_k=15, threshold=-1, rerank=False)
_RERANKED = Query(text="", top_k=15, threshold=-1)

_FEWEST = 40
"""Questions by links that a measurement needs."""

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
    file: Annotated[
        Path | None, typer.Argument(help="Cases as for eval, for the scale of vectors; without it, links ask.")
    ] = None,
    project: Project = None,
    keep: Annotated[float, typer.Option(min=0.5, max=1, help="Share of related pairs that the threshold keeps.")] = 0.95,
    pairs: Annotated[int, typer.Option(min=20, max=2000, help="How many pairs are measured.")] = 300,
    save: Annotated[bool, typer.Option("--save", help="Use these values from now on.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure on this index where the relevancy thresholds belong, and how much vectors should count beside words.

    Questions are sentences that link to another document, which answers it. The scale of vectors is measured on the cases of
    FILE where there is one, and on headings where few sentences link.
    """
    if save and project is not None:
        raise UsageError("--save is for all projects", "leave --project out, or --save")
    cases = None if file is None else read_cases(file)
    async with opened(settings()) as known:
        owner: UUID | None = await project_id(known, project)
        index = await known.searcher.serving(fresh=True)
        embedder = await known.embedders.of(index) if index is not None else None
        with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
            shown = bar.add_task("questions", total=pairs)
            asked = await ask_links(known.store, embedder, index, project=owner, most=pairs, advance=lambda: bar.advance(shown))
        measured = _Calibration(links=len(asked))
        if len(asked) >= _FEWEST:
            measured.words = propose(*measure_shares(asked), keep=keep)
        if index is not None and embedder is not None:
            if cases is None and len(asked) >= _FEWEST:
                spread = measure_cosines(asked)
            else:
                spread = await measure_pairs(known.store, embedder, index, cases, project=owner, pairs=pairs)
            measured.vectors = propose(*spread, keep=keep)
            if len(asked) >= _FEWEST:
                measured.weights = measure_weights(asked)
                measured.vector_weight = best_weight(measured.weights)
        if measured.words is None and measured.vectors is None:
            raise UsageError(
                f"only {len(asked)} sentences link to another document (at least {_FEWEST} are needed), and no vectors are "
                "indexed",
                "index more documents, or set RAG_EMBEDDER and run `atlas index`",
            )
        if save:
            if index is not None and measured.vectors is not None:
                await known.store.set_threshold(index.id, measured.vectors.threshold)
            await known.store.set_ranking(
                words_threshold=None if measured.words is None else measured.words.threshold,
                vector_weight=measured.vector_weight,
            )
    if as_json:
        say(json.dumps({**dataclasses.asdict(measured), "saved": save}, indent=2))
        return
    _show(measured, save)


@dataclasses.dataclass(kw_only=True)
class _Calibration:
    """What was measured; None: not measured here."""

    links: int
    words: Threshold | None = None
    vectors: Threshold | None = None
    weights: dict[float, float] | None = None
    vector_weight: float | None = None


def _show(measured: _Calibration, saved: bool) -> None:
    quantiles = ("5 %", "50 %", "95 %")
    rows = []
    for way, proposal in (("share of words", measured.words), ("cosine", measured.vectors)):
        if proposal is not None:
            for name, spread in (("its passage", proposal.related), ("another", proposal.unrelated)):
                values = {label: f"{value:.2f}" for label, value in zip(quantiles, spread, strict=True)}
                rows.append({"measure": way, "pairs": f"a question and {name}", **values})
    heads = {"measure": "MEASURE", "pairs": "PAIRS", **{label: label for label in quantiles}}
    show_rows(rows, heads, as_json=False, empty="", right=quantiles)
    for way, proposal in (("words", measured.words), ("vectors", measured.vectors)):
        if proposal is not None:
            say(
                f"threshold of {way} {proposal.threshold:.2f}: keeps {proposal.kept:.0%} of related pairs, "
                f"and {proposal.others:.0%} of others"
            )
    if measured.weights is not None:
        ends = measured.weights[0.0], measured.weights[measured.vector_weight or 0.0], measured.weights[1.0]
        say(
            f"weight of vectors {measured.vector_weight:.2f}: nDCG@10 {ends[1]:.3f} on {measured.links} links "
            f"(words alone {ends[0]:.3f}, vectors alone {ends[2]:.3f})"
        )
    elif measured.links < _FEWEST:
        complain(
            f"only {measured.links} sentences link to another document (at least {_FEWEST} are needed): words were not measured"
        )
    say("saved" if saved else "--save uses these values from now on")


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command("eval")(evaluate_file)
    app.command()(calibrate)
