"""python -m benchmarks.search FOLDER…: the quality of search on documentation of your choice.

Each folder is indexed into a database of its own, as `atlas index` does. Its questions are made by construction: a sentence that links
to another document asks what that document says (atlas/rag/quality/construct.py), and the document that it stands in is left out of
what is found. Words, vectors and both are measured beside BM25 as bm25s has it, over the same chunks. Writes docs/benchmarks_search.md.

Any folder of Markdown or reStructuredText will do; source distributions carry theirs:

    pip download --no-deps --no-binary :all: scrapy && tar xf scrapy-*.tar.gz && python -m benchmarks.search scrapy-*/docs
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from atlas.database.pool import Pool
from atlas.llm.tokens import Vocabularies
from atlas.rag.files import find_files
from atlas.rag.quality.construct import LinkQuestion, questions_by_links
from atlas.rag.quality.evaluate import ndcg
from atlas.rag.search import Query
from atlas.rag.wiring import Knowledge, knowledge
from atlas.variables import load
from benchmarks.databases import migrated

ROOT = Path(__file__).parent.parent
DEPTH = 10
_PASSAGES = """
select d.source, p.heading, p.text from rag.document d join rag.chunk c on c.document_id = d.id
join rag.passage p on p.id = c.passage_id order by d.source, c.seq
"""

Way = Callable[[LinkQuestion], Awaitable[Sequence[str]]]
"""Answers a question with sources, best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Of one way over one folder: means over the questions, and milliseconds a question."""

    way: str
    ndcg: float
    recall: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What was measured of one folder."""

    name: str
    documents: int
    chunks: int
    questions: int
    ways: list[Measured]


def bm25s_way(passages: Sequence[Any]) -> Way:
    """BM25 of bm25s: Lucene's, k1 1.2, b 0.75, English stop words and stems, a document by its best chunk."""
    import bm25s  # type: ignore[import-not-found,unused-ignore]
    import Stemmer  # type: ignore[import-not-found,unused-ignore]

    stemmer = Stemmer.Stemmer("english")
    ranker = bm25s.BM25(method="lucene", k1=1.2, b=0.75)

    def cut(texts: list[str]) -> Any:
        return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)

    ranker.index(cut([f"{row['heading']}\n\n{row['text']}" for row in passages]), show_progress=False)

    async def find(question: LinkQuestion) -> Sequence[str]:
        places, _ = ranker.retrieve(cut([question.question]), k=min(100, len(passages)), show_progress=False)
        return list(dict.fromkeys(passages[int(place)]["source"] for place in places[0]))

    return find


def atlas_way(known: Knowledge, *, words: bool = True, vectors: bool = True) -> Way:
    """A search as a worker makes it, with no threshold."""

    async def find(question: LinkQuestion) -> Sequence[str]:
        query = Query(text=question.question, top_k=DEPTH + 1, threshold=-1, words=words, vectors=vectors)
        found = await known.searcher.search(query)
        assert not found.warnings, found.warnings
        return [chunk.source for chunk in found.chunks]

    return find


async def measure(name: str, find: Way, questions: Sequence[LinkQuestion]) -> Measured:
    """Asks every question once."""
    await find(questions[0])  # loads what the others find loaded
    gains, hits, took = [], [], []
    for question in questions:
        began = time.perf_counter()
        found = await find(question)
        took.append((time.perf_counter() - began) * 1000)
        others = [source for source in found if source != question.own]
        gains.append(ndcg(others, [question.relevant]))
        hits.append(question.relevant in others[:DEPTH])
    ordered = sorted(took)
    return Measured(
        way=name, ndcg=statistics.mean(gains), recall=statistics.mean(hits), p50_ms=ordered[len(ordered) // 2],
        p95_ms=ordered[int(0.95 * len(ordered))],
    )  # fmt: skip


async def measure_folder(path: Path, embedder: str, most: int) -> Folder:
    """Indexes a folder into a database of its own, and asks what its links ask."""
    async with migrated() as cluster:
        settings = load({"DATABASE_URL": cluster.url(), "RAG_EMBEDDER": embedder})
        async with Pool.connect(cluster.url(), patience=60) as pool, knowledge(settings, pool, patience=60) as known:
            found = find_files([path], named=path.resolve().parent.name)
            indexer = await known.indexer(None, Vocabularies().counter("o200k_base"))
            report = await indexer.files(found.files)
            if (vectors := await known.vectors()) is not None:
                await vectors.build(uuid4())
            passages = await pool.rows(_PASSAGES)
            documents: dict[str, list[str]] = {}
            for row in passages:
                documents.setdefault(row["source"], []).append(row["text"])
            asked = questions_by_links((source, "\n\n".join(texts)) for source, texts in documents.items())
            questions = random.Random(1).sample(asked, min(most, len(asked)))
            ways = [("BM25 (bm25s)", bm25s_way(passages)), ("words", atlas_way(known, vectors=False))]
            if vectors is not None:
                ways += [("vectors", atlas_way(known, words=False)), ("both", atlas_way(known))]
            measured = [await measure(name, way, questions) for name, way in ways]
            print(f"{path}: {report.chunks} chunks, {len(questions)} questions", *measured, sep="\n  ", flush=True)
            return Folder(
                name=path.resolve().parent.name,
                documents=len(documents),
                chunks=len(passages),
                questions=len(questions),
                ways=measured,
            )


def page(folders: Sequence[Folder], command: str) -> str:
    """The report."""
    ways = [measured.way for measured in folders[0].ways]
    vectors = "; vectors are all-MiniLM-L6-v2's" if "vectors" in ways else ""
    lines = [f"| nDCG@10 (recall@10) | questions | chunks | {' | '.join(ways)} |", f"| --- {'| --- ' * (len(ways) + 2)}|"]
    for folder in folders:
        best = max(measured.ndcg for measured in folder.ways)
        cells = [
            f"{'**' if one.ndcg == best else ''}{one.ndcg:.3f}{'**' if one.ndcg == best else ''} ({one.recall:.3f})"
            for one in folder.ways
        ]
        lines.append(f"| {folder.name} | {folder.questions} | {folder.chunks} | {' | '.join(cells)} |")
    times = [
        f"| {way} | {max(f.ways[place].p50_ms for f in folders):.1f} ms | {max(f.ways[place].p95_ms for f in folders):.1f} ms |"
        for place, way in enumerate(ways)
    ]
    return f"""# Benchmarks: search

Written by `{command}` on {time.strftime("%Y-%m-%d")}: {os.cpu_count()} cores. Each folder is the documentation of a source distribution on
PyPI, indexed alone; a question is a sentence that links to another document, which answers it, and the document that it stands in does not
count. Documents are ranked by their best chunk. BM25 is bm25s (Lucene's formula, k1 1.2, b 0.75, English stems) over the same chunks, in
the same run{vectors}.

{chr(10).join(lines)}

The slowest folder, with the embedding of the question:

| | p50 | p95 |
| --- | --- | --- |
{chr(10).join(times)}
"""


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--embedder", choices=("local", "none"), default="local", help="local needs the extra [models]")
    parser.add_argument("--questions", type=int, default=300, help="of a folder, at most")
    arguments = parser.parse_args()
    folders = [await measure_folder(folder, arguments.embedder, arguments.questions) for folder in arguments.folders]
    names = " ".join(f"{folder.name}/{path.name}" for folder, path in zip(folders, arguments.folders, strict=True))
    (ROOT / "docs/benchmarks_search.md").write_text(
        page(folders, f"python -m benchmarks.search --embedder {arguments.embedder} {names}")
    )


if __name__ == "__main__":
    asyncio.run(main())
