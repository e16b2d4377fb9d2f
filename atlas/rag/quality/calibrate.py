"""Measures the scale of an embedder on an index: questions and passages that belong together, and those that do not."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from atlas.rag.ports import Embedder, checked
from atlas.rag.quality.evaluate import Case
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
