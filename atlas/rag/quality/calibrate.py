"""Measures how search ranks on an index: questions and passages that belong together, and those that do not."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from atlas.rag.ports import Embedder, checked
from atlas.rag.quality.construct import questions_by_links
from atlas.rag.quality.evaluate import Case, ndcg
from atlas.rag.store import EmbeddingIndex, Store, as_vector

_HEADINGS = """
select p.heading as question, array_agg(p.id) as passages
from rag.passage p join rag.embedding e on e.passage_id = p.id and e.index_id = $1
where length(p.heading) > 12 and p.tokens > 30 and exists (
  select from rag.chunk c join rag.document d on d.id = c.document_id
  where c.passage_id = p.id and d.kind <> 'code' and (d.project_id is null or d.project_id = $3))
group by 1 order by random() limit $2
"""
_SOURCES = """
select distinct c.passage_id from rag.chunk c join rag.document d on d.id = c.document_id
join rag.embedding e on e.passage_id = c.passage_id and e.index_id = $1
where (d.project_id is null or d.project_id = $3)
  and exists (select from unnest($2::text[]) w where d.source = w or right(d.source, length(w) + 1) = '/' || w)
"""
_COSINES = """
select max(s.cosine) filter (where s.own)::float8 as own, max(s.cosine) filter (where not s.own)::float8 as other
from (
  select e.passage_id = any ($3) as own,
    1 - (e.embedding operator(extensions.<=>) $2::text::extensions.halfvec) as cosine
  from rag.embedding e
  where e.index_id = $1 and (e.passage_id = any ($3) or e.passage_id = (
    select o.passage_id from rag.embedding o where o.index_id = $1 and o.passage_id <> all ($3) order by random() limit 1))
) s
"""


async def measure_pairs(
    store: Store, embedder: Embedder, index: EmbeddingIndex, cases: Sequence[Case] | None, *, project: UUID | None, pairs: int
) -> tuple[list[float], list[float]]:
    """Cosines of related pairs (the best passage of the right source), and of the same questions with any other passage.

    cases None: a heading asks for the passages under it; its own words are in what is embedded, which flatters the embedder.
    """
    asked: list[tuple[str, list[int]]] = []
    if cases is None:
        rows = await store.rows_for(None, _HEADINGS, index.id, pairs, project)
        asked = [(row["question"].replace(" > ", ": "), list(row["passages"])) for row in rows]
    else:
        for case in cases[:pairs]:
            rows = await store.rows_for(None, _SOURCES, index.id, list(case.relevant), project)
            if rows:
                asked.append((case.question, [row["passage_id"] for row in rows]))
    related: list[float] = []
    unrelated: list[float] = []
    for start in range(0, len(asked), embedder.batch):
        batch = asked[start : start + embedder.batch]
        questions = [question for question, _ in batch]
        found = checked(embedder, questions, await embedder.embed(questions))
        await store.record_usage(index.id, "query", len(batch), found.tokens)
        for (_, passages), vector in zip(batch, found.vectors, strict=True):
            (row,) = await store.rows_for(None, _COSINES, index.id, as_vector(vector), passages)
            if row["own"] is not None and row["other"] is not None:
                related.append(row["own"])
                unrelated.append(row["other"])
    return related, unrelated


_LINKED = """
select d.source, string_agg(p.text, e'\\n\\n' order by c.seq) as text
from rag.document d join rag.chunk c on c.document_id = d.id join rag.passage p on p.id = c.passage_id
where d.kind in ('markdown', 'rst') and (d.project_id is null or d.project_id = $1)
group by d.id order by d.source limit 5000
"""
_CANDIDATES = """
select d.source, f.words, f.share, f.cosine
from rag.find($1, $2, $3, 100, array[$4::uuid], null, null) f
join rag.chunk c on c.passage_id = f.passage_id join rag.document d on d.id = c.document_id
where (d.project_id is null or d.project_id = $4) and d.source <> $5
"""
WEIGHTS = tuple(number / 20 for number in range(21))
"""What vectors may count in the fusion."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a search finds of one document: BM25, the share of the question's words, the cosine (None: no vector)."""

    source: str
    words: float
    share: float
    cosine: float | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question whose answers are known, and what both ways find for it."""

    relevant: Sequence[str]
    found: Sequence[Candidate]
    rarest: float
    """What BM25 gives for a word that stands in one passage alone."""


async def ask_links(
    store: Store, embedder: Embedder | None, index: EmbeddingIndex | None, *, project: UUID | None, most: int,
    advance: Callable[[], None] = lambda: None,
) -> list[Asked]:  # fmt: skip
    """Asks what sentences with links ask, a sample of at most so many, each without the document that it stands in."""
    rows = await store.rows_for(None, _LINKED, project)
    questions = questions_by_links((row["source"], row["text"]) for row in rows)
    questions = random.Random(1).sample(questions, min(most, len(questions)))  # the same ones each time  # noqa: S311
    rarest = float(await store.value("select rag.rarest_weight(array[$1::uuid])", project))
    asked: list[Asked] = []
    size = embedder.batch if embedder is not None else 64
    for start in range(0, len(questions), size):
        batch = questions[start : start + size]
        vectors: list[str | None] = [None] * len(batch)
        if embedder is not None and index is not None:
            texts = [item.question for item in batch]
            embedded = checked(embedder, texts, await embedder.embed(texts))
            await store.record_usage(index.id, "query", len(batch), embedded.tokens)
            vectors = [as_vector(vector) for vector in embedded.vectors]
        for item, vector in zip(batch, vectors, strict=True):
            found = await store.rows_for(
                None, _CANDIDATES, item.question, vector, index.id if vector and index else None, project, item.own
            )
            asked.append(Asked((item.relevant,), [Candidate(**row) for row in found], rarest))
            advance()
    return asked


def measure_shares(asked: Sequence[Asked]) -> tuple[list[float], list[float]]:
    """Shares of the question's words: of the best passage of the right document, and of the middle one of all others."""
    return _spread(asked, lambda found: found.share if found.words > 0 else None)


def measure_cosines(asked: Sequence[Asked]) -> tuple[list[float], list[float]]:
    """Cosines, likewise."""
    return _spread(asked, lambda found: found.cosine)


def _spread(asked: Sequence[Asked], measure: Callable[[Candidate], float | None]) -> tuple[list[float], list[float]]:
    related, unrelated = [], []
    for question in asked:
        values = [
            (found.source in question.relevant, value) for found in question.found if (value := measure(found)) is not None
        ]
        own = [value for right, value in values if right]
        others = sorted(value for right, value in values if not right)
        if own and others:
            related.append(max(own))
            unrelated.append(others[len(others) // 2])
    return related, unrelated


def measure_weights(asked: Sequence[Asked]) -> dict[float, float]:
    """nDCG@10 of documents by what the vectors count in the fusion: 0, words alone, to 1, vectors alone."""
    return {weight: sum(ndcg(_ranked(each, weight), each.relevant) for each in asked) / len(asked) for weight in WEIGHTS}


def best_weight(measured: dict[float, float]) -> float:
    """The middle of the weights within 0.005 of the best one: a peak of a sample is a matter of chance."""
    best = max(measured.values())
    near = [weight for weight, score in measured.items() if score >= best - 0.005]
    return near[len(near) // 2]


def _ranked(asked: Asked, weight: float) -> list[str]:
    """Documents by their best passage, as rag.hits fuses them."""
    words = max((each.words for each in asked.found), default=0) + asked.rarest
    cosine = max((each.cosine or 0 for each in asked.found), default=0) or 1
    best: dict[str, float] = {}
    for each in asked.found:
        score = (1 - weight) * each.words / words + weight * (each.cosine or 0) / cosine
        best[each.source] = max(score, best.get(each.source, score))
    return sorted(best, key=lambda source: (-best[source], source))
