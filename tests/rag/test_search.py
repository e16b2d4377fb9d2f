"""Search: both ways, their fusion, who may read what, and the plans that keep it fast."""

from __future__ import annotations

import json
import re
from uuid import UUID, uuid4

import asyncpg
import pytest

from atlas.database.pool import set_codecs
from atlas.rag.store import as_vector
from tests.doubles.models import models_double, vector_of
from tests.support.core import ROOT, Database, ask, claim
from tests.support.knowledge import ANN, BOB, embedding, find, opened, put, sources, team
from tests.support.queried import acting


async def test_both_ways_are_fused(database: Database) -> None:
    async with models_double() as models, opened(database, **embedding(models.url)) as known:
        await put(known, "both.md", "a worker that is lost gives its lease back")
        await put(known, "words.md", "lease lease")
        await put(known, "meaning.md", "zzz worker lost gives back")
        await put(known, "other.md", "bread and butter")
        found = await find(known, "lost worker lease", threshold=0.05)
        assert sources(found)[0] == "both.md"
        assert {"words.md", "meaning.md"} <= set(sources(found))
        chunk = found.chunks[0]
        assert chunk.similarity is not None
        assert 0.3 < chunk.similarity <= 1
        # the best by words and by meaning: all of the half by meaning, and of the half by words the less the shorter the question
        assert 0.5 < chunk.score < 1
        both, one = (next(c.score for c in found.chunks if c.source == name) for name in ("both.md", "words.md"))
        assert both > one
        assert sources(await find(known, "lost worker lease", vectors=False))[0] in ("both.md", "words.md")
        alone = await find(known, "lost worker lease", words=False, threshold=-1)
        assert len(alone.chunks) == 4, "meaning alone orders everything"


async def test_similarity_is_the_cosine_also_for_what_only_words_found(database: Database) -> None:
    async with models_double() as models, opened(database, **embedding(models.url)) as known:
        await put(known, "a.md", "the lease")
        for n in range(80):
            await put(known, f"near{n:02}.md", f"question about leases number{n}")
        found = await find(known, "question about the leases", top_k=100, threshold=-1)
        by_source = {chunk.source: chunk.similarity for chunk in found.chunks}
        one, other = vector_of("question about the leases", 64), vector_of("the lease", 64)
        dot = sum(a * b for a, b in zip(one, other, strict=True))
        size = sum(a * a for a in one) ** 0.5 * sum(b * b for b in other) ** 0.5
        assert by_source["a.md"] == pytest.approx(dot / size, abs=0.01)


async def test_the_threshold_drops_and_says_so_when_nothing_is_left(database: Database) -> None:
    async with models_double() as models, opened(database, **embedding(models.url, rag_relevancy_threshold="0.65")) as known:
        await put(known, "near.md", "lost worker lease returned")
        await put(known, "far.md", "lease of a flat with a garden and two rooms near the park in the old town")
        assert sources(await find(known, "lost worker lease")) == ["near.md"]
        assert sources(await find(known, "lost worker lease", threshold=0.1)) == ["near.md", "far.md"]
        found = await find(known, "lost worker lease", threshold=0.999999)
        assert found.chunks == []
        assert re.search(r"0\.999999 dropped every passage \(the best one has \d\.\d\d\).*calibrate", found.warnings[0])
        # a calibrated one overrides the setting
        index = await known.searcher.serving()
        assert index is not None
        await known.store.set_threshold(index.id, 0.05)
        await known.searcher.serving(fresh=True)
        assert sources(await find(known, "lost worker lease")) == ["near.md", "far.md"]


async def test_collapse_and_filters(database: Database) -> None:
    async with opened(database) as known:
        sections = "\n\n".join(f"# Lease {n}\n\nthe lease of section {n}" for n in range(6))
        await put(known, "docs/a.md", sections)
        await put(known, "docs/b.md", "a lease")
        await put(known, "src/c.py", "def lease(): ...", kind="code")
        assert sorted(sources(await find(known, "lease", top_k=20))) == ["docs/a.md", "docs/b.md", "src/c.py"]
        assert len((await find(known, "lease", top_k=20, collapse=False)).chunks) == 8
        assert len((await find(known, "lease", top_k=3, collapse=False)).chunks) == 3
        assert sorted(sources(await find(known, "lease", prefix="docs/"))) == ["docs/a.md", "docs/b.md"]
        assert sources(await find(known, "lease", kind="code")) == ["src/c.py"]
        assert sources(await find(known, "lease", prefix="docs/", kind="code")) == []


@pytest.mark.parametrize(
    "query",
    ["", "the of and", "!!! &|() <-> :*", "'; drop table rag.chunk; --", "\\' \\\\ \"", "a:b & !c", "ü 🚀 日本語", "x" * 8_000],
)
async def test_any_text_is_a_question(database: Database, query: str) -> None:
    async with models_double() as models, opened(database, **embedding(models.url)) as known:
        await put(known, "a.md", "alpha ü 日本語 drop table")
        assert len((await find(known, query or "x", threshold=-1)).chunks) == 1


async def test_people_find_what_their_projects_have(database: Database, db: asyncpg.Connection) -> None:
    ours, theirs = await team(db, "ours", ANN), await team(db, "theirs", BOB)
    async with models_double() as models, opened(database, **embedding(models.url)) as known:
        await put(known, "shared.md", "the lease", None)
        await put(known, "ours.md", "our lease", ours)
        await put(known, "theirs.md", "their secret lease", theirs)
        index = await known.searcher.serving()
        assert index is not None
        vector = as_vector(vector_of("secret lease", 64))
        search = "select source from rag.search('secret lease', p_vector => $1, p_index => $2) order by 1"
        assert [row[0] for row in await acting(database, ANN, search, vector, index.id)] == ["ours.md", "shared.md"]
        assert [row[0] for row in await acting(database, BOB, search, vector, index.id)] == ["shared.md", "theirs.md"]
        assert [row[0] for row in await acting(database, uuid4(), search, vector, index.id)] == ["shared.md"]
        # naming another's project opens nothing
        named = "select source from rag.search('lease', p_project => $1)"
        assert [row[0] for row in await acting(database, ANN, named, theirs)] == ["shared.md"]
        # nor do the ids that the inner function answers with, nor the tables themselves
        for query in (
            "select count(*) from rag.candidates('secret', null, null, 50, null, false, null, null, null)",
            "select count(*) from rag.document where source = 'theirs.md'", "select count(*) from rag.passage where text like '%secret%'",
            "select count(*) from rag.chunk c join rag.document d on d.id = c.document_id where d.source = 'theirs.md'",
        ):  # fmt: skip
            assert (await acting(database, ANN, query))[0][0] == 0, query
        assert (await acting(database, ANN, "select count(*) from rag.embedding"))[0][0] == 2


async def test_a_task_finds_what_its_owner_may_read(database: Database, db: asyncpg.Connection) -> None:
    ours, theirs = await team(db, "ours", ANN), await team(db, "theirs", ANN, BOB)
    async with opened(database) as known, opened(database, "atlas_worker") as worker:
        await put(known, "shared.md", "the lease", None)
        await put(known, "ours.md", "our lease", ours)
        await put(known, "theirs.md", "their lease", theirs)
        await put(known, "default.md", "the lease of the default project", await known.store.project("default"))
        tasks = {}
        for project in ("ours", "theirs"):
            message = {
                "task_id": str(uuid4()),
                "role": "architect",
                "msg_type": "chat",
                "content": "lease?",
                "metadata": {"project": project},
            }
            await acting(database, ANN, "insert into public.architect_in (data) values ($1) returning id", message)
            tasks[project] = UUID(str(message["task_id"]))
        tasks["service"] = await ask(db, "lease?")
        await claim(db, 3)
        ids = {
            name: await db.fetchval("select id from atlas.task where message_task_id = $1", task)
            for name, task in tasks.items()
        }

        async def seen(name: str) -> list[str]:
            return sorted(sources(await find(worker, "lease", task=ids[name])))

        assert await seen("ours") == ["ours.md", "shared.md"]
        assert await seen("theirs") == ["shared.md", "theirs.md"]
        assert await seen("service") == ["default.md", "shared.md"]
        assert sources(await find(worker, "lease", task=uuid4())) == ["shared.md"], "no task: what everybody may read"
        await db.execute("delete from atlas.member where user_id = $1 and project_id = $2", ANN, ours)
        assert await seen("ours") == ["shared.md"], "who left a project reads it no more"


async def many(db: asyncpg.Connection, chunks: int, project: UUID | None = None, seed: int = 0) -> int:
    """An embedding index of 16 dimensions with so many chunks, ten a document; answers its id."""
    await db.execute("select setseed(0.5)")
    index = int(await db.fetchval("select (rag.open_index('openai', 'many', 16)).id"))
    await db.execute(
        """
        with new_passage as (
          insert into rag.passage (sha256, heading, text, tokens)
          select sha256(format('%s %s', $1::int, n)::bytea), 'h', format('text%s of lease common', n), 4 from generate_series(1, $2) n
          returning id, sha256
        ), numbered as (select id, row_number() over (order by id) as n from new_passage),
        new_document as (
          insert into rag.document (project_id, source, title, kind, content_sha256, chunks)
          select $3, format('d%s/%s.md', $1::int, n), 't', 'markdown', '\\x00', 10 from generate_series(1, $2 / 10) n returning id, source
        ), ordered as (select id, row_number() over (order by source) - 1 as n from new_document),
        new_chunk as (
          insert into rag.chunk (document_id, seq, start_line, end_line, passage_id)
          select d.id, p.n % 10, 1, 1, p.id from numbered p join ordered d on d.n = (p.n - 1) / 10 returning passage_id
        )
        insert into rag.embedding (index_id, passage_id, embedding)
        select $4, passage_id, array(select random() - 0.5 + 0 * passage_id from generate_series(1, 16))::real[]::extensions.halfvec from new_chunk
        """,
        seed, chunks, project, index,
    )  # fmt: skip
    await db.execute("select rag.serve_index($1)", index)
    await db.execute("analyze rag.passage, rag.document, rag.chunk, rag.embedding")
    return index


async def plans(database: Database, query: str, *arguments: object, user: UUID | None = None) -> str:
    """The plans of all statements that a call makes, as auto_explain writes them. user: under row level security."""
    said: list[str] = []
    admin = await asyncpg.connect(database.url("supabase_admin"))
    try:
        await set_codecs(admin)
        await admin.execute("load 'auto_explain'")
        admin.add_log_listener(lambda _connection, message: said.append(str(message.message)))
        await admin.execute(
            "set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on; set client_min_messages = log; "
            "set auto_explain.log_analyze = on"
        )
        if user is not None:
            await admin.execute(
                "select set_config('request.jwt.claims', $1, false)", json.dumps({"sub": str(user), "role": "authenticated"})
            )
            await admin.execute("set role authenticated")
        await admin.fetch(query, *arguments)
    finally:
        await admin.close()
    return "\n".join(said)


QUESTION = "[" + ",".join(["0.1", "-0.2"] * 8) + "]"


@pytest.mark.parametrize("user", [None, ANN])
async def test_a_wide_search_uses_both_indexes_and_reads_no_table_whole(
    database: Database, db: asyncpg.Connection, user: UUID | None
) -> None:
    index = await many(db, 8_000)
    await many(db, 10, seed=1)
    search = "select * from rag.search('text77 lease', p_vector => $1, p_index => $2)"
    plan = await plans(database, search, QUESTION, index, user=user)
    assert f"Index Scan using embedding_hnsw_{index} on embedding e" in plan
    assert "Bitmap Index Scan on passage_terms_terms" in plan
    # of documents a thousand are looked at, to tell whether they are few
    for table in ("embedding", "passage", "passage_terms", "term", "chunk"):
        assert f"Seq Scan on {table}" not in plan, plan
    rows = await db.fetch(search, QUESTION, index)
    assert len(rows) == 15


async def test_filters_do_not_starve_the_result(database: Database, db: asyncpg.Connection) -> None:
    """A project that owns little of the index is searched whole; one that owns a part is searched until enough is found."""
    few = await team(db, "few")
    some = await team(db, "some")
    index = await many(db, 8_000)
    await many(db, 50, few, seed=1)
    await many(db, 6_000, some, seed=2)
    for project, least in ((few, 50), (some, 60)):
        # as somebody who sees only this project's documents, and not the shared ones
        await db.execute("update rag.document set project_id = $1 where source like 'd0/%'", await team(db, f"others{least}"))
        rows = await db.fetch(
            "select * from rag.search('', p_top_k => 60, p_project => $1, p_collapse => false, p_vector => $2, p_index => $3)",
            project, QUESTION, index,
        )  # fmt: skip
        assert len(rows) >= least
        exact = await db.fetch(
            "select c.id from rag.embedding e join rag.chunk c on c.passage_id = e.passage_id join rag.document d on d.id = c.document_id "
            "where d.project_id = $1 order by e.embedding operator(extensions.<=>) $2::text::extensions.halfvec limit 10",
            project, QUESTION,
        )  # fmt: skip
        found = {row["chunk_id"] for row in rows[:12]}
        assert len(found & {row["id"] for row in exact}) >= 9


async def test_a_space_that_does_not_serve_is_not_searched(database: Database, db: asyncpg.Connection) -> None:
    async with opened(database) as known:
        await put(known, "a.md", "alpha")
    with pytest.raises(asyncpg.PostgresError, match="embedding index 99 does not serve") as refused:
        await db.fetch("select * from rag.search('x', p_vector => '[1]', p_index => 99)")
    assert refused.value.sqlstate == "AT005"


def test_every_function_of_search_is_in_the_snapshot() -> None:
    """The worker may search for a task, and read no table."""
    access = (ROOT / "docs/access.md").read_text()
    line = next(line for line in access.splitlines() if line.startswith("| `rag.search_task("))
    assert line.count("calls") == 2
    for table in ("chunk", "passage", "document", "embedding", "cache", "citation"):
        row = next(line for line in access.splitlines() if line.startswith(f"| `rag.{table}`"))
        assert row.split("|")[6].strip() == "", row
