"""Words: what is counted is exact whatever comes and goes, and what BM25 makes of it is BM25."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.support.core import Database
from tests.support.knowledge import ANN, BOB, find, opened, put, sources, team
from tests.support.queried import acting

DIFFERENCES = """
with said as (
  select t.passage_id, t.scope, t.language, t.length, t.terms, rag.terms_of(t.language, p.heading || e'\\n\\n' || p.text) as tsv
  from rag.passage_terms t join rag.passage p on p.id = t.passage_id
), counted as (
  select s.scope, s.language, u.lexeme, least(cardinality(u.positions), 10)::smallint as occurrences, count(*) as passages
  from said s cross join lateral unnest(s.tsv) u group by 1, 2, 3, 4
)
select 'term ' || coalesce(c.lexeme, t.lexeme) as what from counted c
full join rag.term t on t.scope = c.scope and t.language = c.language and t.lexeme = c.lexeme and t.occurrences = c.occurrences
where t.passages is distinct from c.passages
union all
select 'passage ' || s.passage_id from said s
where s.length <> coalesce((select sum(cardinality(u.positions)) from unnest(s.tsv) u), 0)
  or s.terms <> coalesce((select array_agg(t.id order by t.id) from unnest(s.tsv) u join rag.term t on t.scope = s.scope
    and t.language = s.language and t.lexeme = u.lexeme and t.occurrences = least(cardinality(u.positions), 10)), '{}')
union all
select 'corpus ' || c.language from rag.corpus c
where (c.passages, c.words) is distinct from (
  select (count(*), coalesce(sum(s.length), 0)) from said s where s.scope = c.scope and s.language = c.language)
union all
select 'shown ' || d.passage_id from (
  select distinct c.passage_id, rag.scope_of(d.project_id) as scope, d.language
  from rag.chunk c join rag.document d on d.id = c.document_id) d
full join rag.passage_terms t on t.passage_id = d.passage_id and t.scope = d.scope and t.language = d.language
where d.passage_id is null or t.passage_id is null
"""
"""What is counted otherwise than by counting all of it now."""


async def differences(db: asyncpg.Connection) -> list[str]:
    return [row["what"] for row in await db.fetch(DIFFERENCES)]


async def test_counts_are_exact_after_every_change(database: Database, db: asyncpg.Connection) -> None:
    async with opened(database) as known:
        shared = "# Leases\n\nA lost worker gives its lease back, and the lease of a task is a minute."
        await put(known, "a.md", shared)
        await put(known, "b.md", shared)
        await put(known, "c.py", "def lease_of(task): return ClaimedTask(task).lease", kind="code")
        await put(
            known,
            "d.md",
            "Der Lease gehört dem Worker, und wenn er stirbt, wird die Aufgabe an einen anderen gegeben, der noch lebt und nicht wartet.",
        )
        assert await differences(db) == []
        assert await db.fetchval("select sum(passages) from rag.corpus") == 3, "the shared text is one passage"
        assert {row[0] for row in await db.fetch("select language from rag.corpus")} == {"english", "simple", "german"}
        await put(known, "a.md", "# Leases\n\nNow of something else")
        assert await differences(db) == []
        await known.store.drop_documents(None, ["b.md"])
        assert await differences(db) == []
        assert sources(await find(known, "lost worker")) == ["d.md"], "what no document shows is neither found nor counted"
        await known.store.drop_documents(None, ["a.md", "c.py", "d.md"])
        assert await db.fetchval("select count(*) from rag.term") == 0
        assert await differences(db) == []


async def test_counts_are_exact_however_many_index_at_once(database: Database, db: asyncpg.Connection) -> None:
    texts = [f"# Part {n % 5}\n\nlease worker budget {'queue ' * (n % 4)} number{n % 7}" for n in range(40)]

    async def indexes(first: int) -> None:
        async with opened(database) as known:
            for round_ in range(3):
                for n in range(first, 40, 4):
                    await put(known, f"{n % 10}.md", texts[(n + round_) % 40])
                await known.store.drop_documents(None, [f"{(first + round_) % 10}.md"])

    async with asyncio.TaskGroup() as group:
        for first in range(4):
            group.create_task(indexes(first))
    assert await db.fetchval("select count(*) from rag.passage_terms") > 0
    assert await differences(db) == []


async def test_the_score_is_bm25(database: Database, db: asyncpg.Connection) -> None:
    """Computed here from the texts alone: idf of Lucene, k1 1.2, b 0.75."""
    texts = {
        "a.md": "lease worker lease queue", "b.md": "worker queue queue queue budget money token", "c.md": "budget lease",
        "d.md": "money money money token token price price price price worker",
    }  # fmt: skip
    async with opened(database) as known:
        for source, text in texts.items():
            await put(known, source, text)
        found = {chunk.source: chunk.score for chunk in (await find(known, "lease queue queue unheard", threshold=-1)).chunks}
    mean = sum(len(text.split()) for text in texts.values()) / len(texts)
    want = {}
    for source, text in texts.items():
        counts = Counter(text.split())
        score = 0.0
        for word, times in {"lease": 1, "queue": 2}.items():
            having = sum(word in other.split() for other in texts.values())
            weight = times * math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
            tf = counts[word]
            score += weight * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(text.split()) / mean))
        if score:
            want[source] = score
    assert found == pytest.approx(want, rel=1e-4)
    # k1 and b are settings: without them only what a word weighs counts
    await db.execute("select rag.set_ranking(p_k1 => 0)")
    async with opened(database) as known:
        flat = {chunk.source: chunk.score for chunk in (await find(known, "lease", threshold=-1)).chunks}
    assert flat["a.md"] == pytest.approx(flat["c.md"])


async def test_identifiers_are_found_by_their_parts_and_each_other(database: Database) -> None:
    async with opened(database) as known:
        await put(known, "camel.py", "class ClaimedTask: ...", kind="code")
        await put(known, "snake.py", "claimed_task = None", kind="code")
        await put(known, "dotted.md", "Call asyncio.sleep, or read docs/deploy.md")
        await put(known, "other.md", "bread and butter")
        for question in ("claimed task", "ClaimedTask", "claimed_task", "CLAIMED_TASK"):
            assert set(sources(await find(known, question))) == {"camel.py", "snake.py"}, question
        for question in ("sleep", "asyncio", "deploy", "asyncio.sleep()"):
            assert sources(await find(known, question)) == ["dotted.md"], question


async def test_each_language_is_asked_in_its_own_way(database: Database, db: asyncpg.Connection) -> None:
    async with opened(database) as known:
        await put(
            known,
            "de.md",
            "Die Aufgaben der Warteschlangen werden von den Arbeitern nach der Reihe geholt, und wenn einer stirbt, holt sie ein anderer.",
        )
        await put(
            known,
            "fr.md",
            "Les tâches de la file sont prises par les ouvriers dans l'ordre, et si l'un d'eux meurt, un autre les reprend pour lui.",
        )
        await put(
            known,
            "en.md",
            "The workers take what is queued in its order, and where one of them dies, another takes it up for it.",
        )
        await put(known, "jp.md", "データベース 設計 " * 15)
        rows = await db.fetch("select source, language from rag.document order by source")
        assert [tuple(row) for row in rows] == [
            ("de.md", "german"),
            ("en.md", "english"),
            ("fr.md", "french"),
            ("jp.md", "simple"),
        ]
        assert sources(await find(known, "Aufgabe einer Warteschlange")) == ["de.md"], "by its stem"
        assert sources(await find(known, "tâche ouvrier")) == ["fr.md"]
        assert sources(await find(known, "queues for a worker")) == ["en.md"]
        assert sources(await find(known, "設計")) == ["jp.md"]
        assert sources(await find(known, "wenn und der")) == [], "a stop word of one language weighs in none"
        await put(known, "c.py", "the = wenn = 1", kind="code")
        assert sources(await find(known, "the")) == [], "nor in code"
    short = ["Man page", "Die casting", "C API", "min max", "todo", "x y", ""]
    assert {await db.fetchval("select rag.language_of('markdown', $1)", text) for text in short} <= {"english", "simple"}


async def test_another_project_changes_nothing(database: Database, db: asyncpg.Connection) -> None:
    """Neither what is found nor how near it is: a project that says the same words a thousand times does not crowd out what others
    find, and nobody reads from a number how often a word stands in documents that they may not read."""
    ours, theirs = await team(db, "ours", ANN), await team(db, "theirs", BOB)
    search = "select source, similarity, score from rag.search($1, 15, p_threshold => -1)"

    async def seen(user: UUID) -> list[tuple[Any, ...]]:
        return [
            tuple(row)
            for word in ("lease", "initech lease", "zork initech")
            for row in await acting(database, user, search, word)
        ]

    async with opened(database) as known:
        for n in range(20):
            await put(known, f"shared{n}.md", f"the lease of part {n}")
        await put(known, "ours.md", "zork and its lease", ours)
        before = await seen(ANN)
        for n in range(30):
            await put(
                known,
                f"crowd{n}.md",
                "\n\n".join(f"# Part {p}\n\nlease lease lease initech {n} {p}" for p in range(50)),
                theirs,
            )
        assert await seen(ANN) == before
        assert len(before) == 15 + 15 + 1
        assert {row[0][:5] for row in await seen(BOB)} == {"crowd"}
        assert await differences(db) == []
        # a passage that both show is each one's own
        await put(known, "same.md", "a passage that both projects show", ours)
        await put(known, "same.md", "a passage that both projects show", theirs)
        assert await differences(db) == []
        await db.execute("delete from atlas.project where id = $1", theirs)
        assert await differences(db) == []
        assert [row[0] for row in await acting(database, ANN, search, "both projects")] == ["same.md"]


async def test_similarity_without_vectors_is_the_share_of_the_question(database: Database, db: asyncpg.Connection) -> None:
    async with opened(database) as known:
        await put(known, "all.md", "a lost worker gives its lease back")
        await put(known, "some.md", "the worker of a garden")
        for n in range(20):
            await put(known, f"x{n}.md", f"bread and butter number {n}")
        found = await find(known, "lost worker lease", threshold=-1)
        share = {chunk.source: chunk.similarity for chunk in found.chunks}
        assert {chunk.similarity_kind for chunk in found.chunks} == {"words"}
        assert share["all.md"] == pytest.approx(1, abs=0.15)
        assert 0.1 < (share["some.md"] or 0) < 0.4
        assert sources(await find(known, "lost worker lease", threshold=0.5)) == ["all.md"]
        await db.execute("select rag.set_ranking(p_words_threshold => 0.5)")
        assert sources(await find(known, "lost worker lease")) == ["all.md"]
        dropped = await find(known, "worker of seventeen unheard topics elsewhere")
        assert dropped.chunks == []
        assert "dropped every passage" in dropped.warnings[0]


async def test_a_long_question_visits_a_part_of_the_index(database: Database, db: asyncpg.Connection) -> None:
    """Its heavy words find passages, and common ones only count in what they found."""
    await db.execute(
        """
        with document as (
          insert into rag.document (source, title, kind, content_sha256, chunks)
          select format('%s.md', n), 't', 'markdown', '\\x00', 100 from generate_series(1, 300) n returning id, source
        ), passage as (
          insert into rag.passage (sha256, heading, text, tokens)
          select sha256(n::text::bytea), 'h', format('common usual ordinary word%s %s', n % 1000, case when n = 777 then 'zebra' end), 5
          from generate_series(1, 30000) n returning id, text
        ), numbered as (select id, row_number() over (order by id) - 1 as n from passage)
        insert into rag.chunk (document_id, seq, start_line, end_line, passage_id)
        select d.id, n.n % 100, 1, 1, n.id from numbered n join document d on d.source = format('%s.md', n.n / 100 + 1)
        """
    )
    await db.execute("analyze rag.term, rag.passage_terms, rag.chunk, rag.document, rag.passage")
    question = "common usual ordinary zebra " + " ".join(f"word{n}" for n in range(770, 780))
    leading = await db.fetchval(
        "select sum(t.passages) from rag.weigh_terms($1, null) w join rag.term t on t.id = w.id where w.leads", question
    )
    assert leading == 1 + 10 * 30, "of 90,301 occurrences of its words"
    rows = await db.fetch("select text, score from rag.search($1, 3, p_collapse => false)", question)
    assert "zebra" in rows[0]["text"]
    # all of its words are counted in what the heavy ones found
    alone = await db.fetchval("select max(score) from rag.search('zebra', 3)")
    assert rows[0]["score"] > alone
    # one common word alone is still answered, from the part of the index that its heaviest terms reach
    assert len(await db.fetch("select 1 from rag.search('common', 15, p_collapse => false, p_threshold => -1)")) == 15
