"""python -m benchmarks.knowledge: how fast 10,000 and 100,000 chunks are indexed and searched, how much of the exact answer is found,
and what memory that takes. Writes docs/benchmarks_knowledge.md.

The chunks are paragraphs of the docstrings of Python's library and of the packages that are installed. Each has a real vector of a small
static model (wordllama, 256 dimensions), which makes 100,000 in a minute: good enough to measure speed, and no measure of quality.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import os
import platform
import random
import re
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import psutil

from atlas.database.pool import Pool
from atlas.llm.tokens import Vocabularies
from atlas.local.postgres import Cluster
from atlas.rag.index import Indexer
from atlas.rag.ports import Embedded
from atlas.rag.reading import ReadingProcess
from atlas.rag.search import Query, Searcher
from atlas.rag.store import EmbeddingIndex, Store, as_vector
from atlas.rag.vectors import Vectors
from benchmarks.databases import migrated

ROOT = Path(__file__).parent.parent
A_DOCUMENT = 10
"""Paragraphs of a document."""


def corpus(most: int) -> list[str]:
    """Paragraphs of 10 to 40 words, each once, in an order that is the same every time."""
    found: dict[str, str] = {}
    for top in ("stdlib", "purelib"):
        for path in sorted(Path(sysconfig.get_paths()[top]).rglob("*.py")):
            for text in _docstrings(path):
                for paragraph in text.split("\n\n"):
                    line = " ".join(paragraph.split())
                    if 10 <= len(line.split()) <= 40 and sum(letter.isalpha() for letter in line) > 0.6 * len(line):
                        found.setdefault(line.lower(), line)
    # what would be a heading or binary in Markdown begins with its first word
    lines = [re.sub(r"^\W+", "", line).replace("\x00", " ") for line in found.values()]
    random.Random(1).shuffle(lines)
    return lines[:most]


def _docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)) and (
            text := ast.get_docstring(node)
        ):
            yield text


def vectors_of(texts: Sequence[str]) -> Any:
    """A vector each."""
    import wordllama  # type: ignore[import-not-found,unused-ignore]

    # the package looks for its tokenizer beside itself under another name, and else where it keeps what it downloaded
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    return model.embed(list(texts), norm=True)


class Kept:
    """An embedder that looks its vectors up: what is measured with it is Atlas and Postgres alone."""

    name = "local"
    model = "wordllama"
    dimensions = 256
    batch = 64

    def __init__(self, vectors: dict[str, Any]) -> None:
        self._vectors = vectors
        self._any = next(iter(vectors.values()))
        self.unknown = 0
        """Texts that were cut otherwise than expected, and got some vector."""

    async def embed(self, texts: Sequence[str]) -> Embedded:
        found = [self._vectors.get(text.split("\n\n")[-1]) for text in texts]
        self.unknown += sum(vector is None for vector in found)
        return Embedded(vectors=[(self._any if vector is None else vector).tolist() for vector in found], tokens=1)


@dataclass
class Row:
    """One line of the report."""

    name: str
    value: str


def documents(texts: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Markdown of ten sections each; every section is one chunk."""
    for number in range(0, len(texts), A_DOCUMENT):
        body = "".join(
            f"# Part {number + place}\n\n{text}\n\n" for place, text in enumerate(texts[number : number + A_DOCUMENT])
        )
        yield f"docs/{number // 1000:03}/{number}.md", body.encode()


async def index_all(indexer: Indexer, texts: Sequence[str]) -> float:
    """Seconds."""
    began = time.monotonic()
    for number, (source, data) in enumerate(documents(texts), 1):
        await indexer.put(source, data, "markdown")
        if number % 1000 == 0:
            print(f"{number * A_DOCUMENT} chunks, {number * A_DOCUMENT / (time.monotonic() - began):.0f}/s", flush=True)
    return time.monotonic() - began


def percentile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


async def run(cluster: Cluster, texts: list[str], vectors: Any, questions: list[str], asked: Any) -> list[Row]:
    admin = await asyncpg.connect(cluster.url("supabase_admin"))
    # so that the index is built in memory, as pgvector's manual asks for
    await admin.execute("alter database postgres set maintenance_work_mem = '1GB'")
    await admin.close()
    rows: list[Row] = []
    count = Vocabularies().counter("o200k_base")
    kept = Kept(dict(zip(texts, vectors, strict=True)) | dict(zip(questions, asked, strict=True)))
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(Pool.connect(cluster.url(), patience=60))
        store = Store(bus)
        reading = ReadingProcess()
        stack.push_async_callback(reading.close)
        seconds = await index_all(Indexer(store, reading=reading, project=None, count=count, vectors=None), texts)
        rows.append(Row("indexing without embedding", f"{len(texts) / seconds:.0f} chunks/s ({seconds:.0f} s)"))
        print(rows[-1], flush=True)
        began = time.monotonic()
        index = await store.open_index(kept, None)
        done = [0]

        def advance(texts: int, _tokens: int) -> None:
            done[0] += texts
            if done[0] % 6400 == 0:
                print(f"{done[0]} vectors, {done[0] / (time.monotonic() - began):.0f}/s", flush=True)

        await Vectors(store, kept, index).build(uuid4(), advance)
        rows.append(Row("storing all vectors, the HNSW index as they come", f"{time.monotonic() - began:.0f} s"))
        print(rows[-1], f"{kept.unknown} texts without a vector of their own", flush=True)
        await bus.value("vacuum analyze")
        rows += await search_all(store, kept, questions, asked, index)
        sizes = await bus.rows(
            "select relname, pg_relation_size(oid) / 1048576 as mib from pg_class where relname in "
            "($1, 'embedding', 'passage', 'passage_terms', 'passage_terms_terms', 'term', 'chunk') order by relname", f"embedding_hnsw_{index.id}",
        )  # fmt: skip
        rows.append(Row("size on disk", ", ".join(f"{row['relname']} {row['mib']} MiB" for row in sizes)))
        # one vector more at a time, as a running team indexes
        more = [f"A later note {n}: {text}" for n, text in enumerate(texts[:2000])]
        later = Kept(dict(zip(more, vectors[:2000], strict=True)))
        began = time.monotonic()
        indexer = Indexer(store, reading=reading, project=None, count=count, vectors=Vectors(store, later, index))
        for number, (_, data) in enumerate(documents(more)):
            await indexer.put(f"later/{number}.md", data, "markdown")
        rows.append(Row("adding to the full index, vectors at hand", f"{2000 / (time.monotonic() - began):.0f} chunks/s"))
    return rows


async def search_all(store: Store, kept: Kept, questions: list[str], asked: Any, index: EmbeddingIndex) -> list[Row]:
    """Latency of one caller, recall against the exact answer, and of filters."""

    async def embedder(_space: EmbeddingIndex) -> Kept:
        return kept

    searcher = Searcher(store, embedders=embedder, threshold=-1)
    rows = []
    for name, shape in (("vector", {"words": False}), ("full text", {"vectors": False}), ("hybrid", {})):
        took = []
        for question in questions:
            began = time.perf_counter()
            await searcher.search(Query(text=question, top_k=10, **shape))  # type: ignore[arg-type]  # flags
            took.append((time.perf_counter() - began) * 1000)
        rows.append(
            Row(
                f"{name}: p50, p95, p99 of {len(questions)} questions",
                " ".join(f"{percentile(took, p):.1f} ms" for p in (0.5, 0.95, 0.99)),
            )
        )
        print(rows[-1], flush=True)
    hits = 0
    for question, vector in zip(questions, asked, strict=True):
        found = await searcher.search(Query(text=question, top_k=10, words=False, collapse=False))
        exact = await store.rows_for(None, "select passage_id from rag.embedding where index_id = $1 order by "
                                     "(embedding operator(extensions.<=>) $2::text::extensions.halfvec) + 0 limit 10", index.id, as_vector(vector))  # fmt: skip
        ids = await store.rows_for(
            None, "select passage_id from rag.chunk where id = any ($1)", [chunk.chunk_id for chunk in found.chunks]
        )
        hits += len({row["passage_id"] for row in exact} & {row["passage_id"] for row in ids})
    rows.append(Row("vector: recall@10 against exact search", f"{hits / (10 * len(questions)):.3f}"))
    print(rows[-1], flush=True)
    size = int(await store.value("select count(*) from rag.chunk"))
    # folders of a thousand chunks, by three digits
    tenth = "docs/005" if size < 20_000 else "docs/05"
    took = []
    for question in questions:
        began = time.perf_counter()
        await searcher.search(Query(text=question, top_k=10, prefix=tenth))
        took.append((time.perf_counter() - began) * 1000)
    rows.append(
        Row(
            "hybrid in a folder that has a tenth of the index: p50, p95",
            " ".join(f"{percentile(took, p):.1f} ms" for p in (0.5, 0.95)),
        )
    )
    return rows


def memory(cluster: Cluster) -> str:
    """Of all processes of Postgres: what is theirs alone, and shared buffers once."""
    parent = next(
        process
        for process in psutil.process_iter()
        if f"-p {cluster.port}" in " ".join(_words(process)) or _listens(process, cluster.port)
    )
    family = [parent, *parent.children(recursive=True)]
    unique = sum(process.memory_full_info().uss for process in family)
    return f"{unique // 1048576} MiB of its own in {len(family)} processes, largest resident {max(p.memory_info().rss for p in family) // 1048576} MiB"


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        return process.name() == "postgres" and any(
            c.laddr.port == port and c.status == "LISTEN" for c in process.net_connections()
        )
    except (psutil.Error, AttributeError):
        return False


async def measure(texts: list[str], vectors: Any, questions: list[str], asked: Any) -> list[Row]:
    """All of it, in a database of its own."""
    async with migrated() as cluster:
        rows = await run(cluster, texts, vectors, questions, asked)
        return [*rows, Row("memory of Postgres after the searches", memory(cluster))]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--questions", type=int, default=500)
    arguments = parser.parse_args()
    most = max(arguments.chunks)
    texts = corpus(most + arguments.questions)
    assert len(texts) == most + arguments.questions, f"only {len(texts)} paragraphs are installed here"
    began = time.monotonic()
    vectors = vectors_of(texts)
    print(f"{len(texts)} vectors in {time.monotonic() - began:.0f} s", flush=True)
    questions, asked = texts[most:], vectors[most:]
    columns = [await measure(texts[:size], vectors[:size], questions, asked) for size in arguments.chunks]
    write(arguments, columns)


def write(arguments: argparse.Namespace, columns: list[list[Row]]) -> None:
    """The report: a column a size. What is below its table stays."""
    sizes = [f"{size:,}" for size in arguments.chunks]
    lines = [f"| chunks | {' | '.join(sizes)} |", f"| --- {'| --- ' * len(sizes)}|"]
    lines += [f"| {rows[0].name} | {' | '.join(row.value for row in rows)} |" for rows in zip(*columns, strict=True)]
    page = ROOT / "docs/benchmarks_knowledge.md"
    old = page.read_text() if page.exists() else "# Benchmarks: knowledge\n"
    _, _, kept = old.partition("## Quality")
    words = " ".join(str(size) for size in arguments.chunks)
    measured = f"""# Benchmarks: knowledge

## Speed

Written by `python -m benchmarks.knowledge --chunks {words} --questions {arguments.questions}` on {time.strftime("%Y-%m-%d")}: {os.cpu_count()} cores, Python
{platform.python_version()}, Postgres (embedded) and its caller on the same noisy machine; load {os.getloadavg()[0]:.1f} at the end. The chunks are paragraphs of
docstrings with vectors of 256 dimensions (wordllama); the {arguments.questions} questions are other paragraphs, whose vectors are at hand. One caller.

{chr(10).join(lines)}
"""
    page.write_text(measured + (f"\n## Quality{kept}" if kept else ""))
    print(measured)


if __name__ == "__main__":
    asyncio.run(main())
