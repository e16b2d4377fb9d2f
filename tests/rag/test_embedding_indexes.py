"""A change of embedder: the old vectors serve until the new ones are complete, and two kinds are never mixed."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from atlas.errors import SettingsError, WrongState
from atlas.rag.ports import EmbedderDown
from tests.doubles.models import ModelsDouble, models_double, vector_of
from tests.support.core import Database, Json, run_atlas, until
from tests.support.knowledge import embedding, find, opened, put, service, sources


async def states(db: asyncpg.Connection) -> list[tuple[str, int, str]]:
    rows = await db.fetch("select model, dimensions, state from rag.embedding_index order by id")
    return [(row["model"], row["dimensions"], row["state"]) for row in rows]


async def test_old_vectors_serve_until_the_new_ones_are_complete(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    async with models_double() as models:
        old = embedding(models.url)
        async with opened(database, **old) as known:
            for n in range(150):
                await put(known, f"{n:03}.md", f"# Page {n}\n\ntopic{n} of leases")
        assert await states(db) == [("words", 64, "serving")]
        new = embedding(models.url, rag_embed_model="text-embedding-3-small", rag_embed_dimensions="32")
        models.hang = 0.2
        count = len(models.texts)
        async with service(database, tmp_path, **new) as rag:

            async def half() -> bool:
                built = "select count(*) from rag.embedding e join rag.embedding_index s on s.id = e.index_id where s.state = 'building'"
                return int(await db.fetchval(built)) > 0

            await until(half, 30, "the new embedding index is filled")
            assert await states(db) == [("words", 64, "serving"), ("text-embedding-3-small", 32, "building")]
            # searched meanwhile: with the old model's vectors, by the same server
            answer = await rag.json("POST", "/v1/query_chat", {"query": "topic77 leases"})
            assert "077.md" in [chunk["path"] for chunk in answer["chunks"][:3]]
            assert answer["chunks"][0]["similarity"] is not None
            assert answer["warnings"] == []
            assert models.calls[-1]["model"] in ("words", "text-embedding-3-small")
            assert any(call["model"] == "words" and call["input"] == ["topic77 leases"] for call in models.calls)
            # a document that comes meanwhile is not left out of the new embedding index
            await rag.json("POST", "/v1/documents", {"source": "new.md", "text": "topic999 of leases"})
            rag.kill()
            await rag.start()

            async def switched() -> bool:
                return ("text-embedding-3-small", 32, "serving") in await states(db)

            await until(switched, 60, "the new embedding index serves")
            assert await states(db) == [("words", 64, "retired"), ("text-embedding-3-small", 32, "serving")]
            answer = await rag.json("POST", "/v1/query_chat", {"query": "topic999 leases"})
            assert (answer["chunks"][0]["path"], answer["warnings"]) == ("new.md", [])
            assert models.calls[-1]["dimensions"] == 32, "a model that can give fewer is asked for them"
        indexed = [text for text in models.texts[count:] if text.endswith("of leases")]
        assert len(indexed) - len(set(indexed)) <= 64, "a call under way when the process died may be made again, and no more"
        assert len(set(indexed)) == 151
        assert await db.fetchval("select count(*) from rag.embedding") == 151, "the old vectors are gone"
        assert await db.fetchval("select count(*) from pg_indexes where indexname like 'embedding_hnsw_%'") == 1


async def test_another_provider_cannot_ask_the_old_space_and_says_so(database: Database, db: asyncpg.Connection) -> None:
    async with models_double() as models:
        async with opened(database, **embedding(models.url)) as known:
            await put(known, "a.md", "alpha lease")
        supabase = {
            "rag_embedder": "supabase", "supabase_url": models.url, "supabase_secret_key": "sb_secret_x", "rag_relevancy_threshold": "0",
            "rag_embed_dimensions": "64",
        }  # fmt: skip
        async with opened(database, **supabase) as known:
            found = await find(known, "lease")
            assert sources(found) == ["a.md"]
            assert found.warnings == ("the index is by openai words, which is not configured here: only words were searched",)
            vectors = await known.vectors()
            assert vectors is not None
            assert await vectors.build(uuid4())
            await known.searcher.serving(fresh=True)
            found = await find(known, "lease")
            assert (sources(found), found.warnings) == (["a.md"], ())
            assert models.keys[-1] == "Bearer sb_secret_x"
            assert models.calls[-1]["model"] == "gte-small"


async def test_indexing_builds_the_space_of_documents_that_were_there_before(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    async with opened(database) as known:
        for n in range(5):
            await put(known, f"{n}.md", f"topic{n} of leases")
    async with models_double() as models:
        env = {"DATABASE_URL": database.url()} | {name.upper(): value for name, value in embedding(models.url).items()}
        (tmp_path / "new.md").write_text("topic9 of leases")
        done = await asyncio.to_thread(run_atlas, "index", "new.md", "--json", env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["embedded"] > 0
        assert await states(db) == [("words", 64, "serving")]
        assert len(models.texts) == 6
        status = json.loads((await asyncio.to_thread(run_atlas, "rag", "status", "--json", env=env)).stdout)
        assert (status["documents"], status["embedding_indexes"][0]["vectors"], status["jobs_waiting"]) == (6, 6, 0)
        found = await asyncio.to_thread(run_atlas, "search", "topic3", "--json", env=env)
        best: list[Json] = json.loads(found.stdout)
        assert (best[0]["source"], best[0]["similarity"] is not None) == ("3.md", True)


async def test_one_process_at_a_time_fills_a_space(database: Database, db: asyncpg.Connection) -> None:
    async with opened(database) as known:
        for n in range(200):
            await put(known, f"{n}.md", f"topic{n} of leases")
    async with (
        models_double() as models,
        opened(database, **embedding(models.url)) as one,
        opened(database, **embedding(models.url)) as two,
    ):
        models.hang = 0.1
        builders = [await known.vectors() for known in (one, two)]
        done = await asyncio.gather(*(vectors.build(uuid4()) for vectors in builders if vectors is not None))
        assert sorted(done) == [False, True]
        assert len(models.texts) == 200


async def test_vectors_of_two_spaces_are_never_compared(database: Database, db: asyncpg.Connection) -> None:
    async with models_double() as models, opened(database, **embedding(models.url)) as known:
        await put(known, "a.md", "alpha")
        building = await db.fetchval("select (rag.open_index('openai', 'other', 32)).id")
        with pytest.raises(WrongState, match=f"embedding index {building} does not serve"):
            await known.store.search("x", top_k=3, collapse=True, vector=vector_of("x", 32), index=building, threshold=None)
        # the index was switched between a question's embedding and its search: it is asked again, in the new one
        await known.searcher.serving()
        await db.execute("select rag.put_vectors($1, $2, $3)", building, [{"heading": "", "text": "alpha", "tokens": 1}],
                         [str(vector_of("alpha", 32))])  # fmt: skip
        assert await db.fetchval("select rag.serve_index($1)", building)
        found = await find(known, "alpha")
        assert sources(found) == ["a.md"]


async def test_a_space_with_gaps_does_not_serve(database: Database, db: asyncpg.Connection) -> None:
    async with opened(database) as known:
        await put(known, "a.md", "alpha")
    index = await db.fetchval("select (rag.open_index('openai', 'm', 8)).id")
    assert await db.fetchval("select rag.serve_index($1)", index) is False
    assert await states(db) == [("m", 8, "building")]


async def test_settings_of_an_embedder_are_checked(database: Database) -> None:
    with pytest.raises(SettingsError, match="needs OPENAI_API_KEY or RAG_EMBED_API_KEY"):
        async with opened(database, rag_embedder="openai") as known:
            await known.vectors()
    with pytest.raises(SettingsError, match="needs SUPABASE_URL and SUPABASE_SECRET_KEY"):
        async with opened(database, rag_embedder="supabase") as known:
            await known.vectors()
    done = await asyncio.to_thread(run_atlas, "index", ".", env={"DATABASE_URL": database.url(), "RAG_EMBEDDER": "local"})
    assert done.returncode == 2
    assert "pip install 'atlas-architect[models]'" in done.stderr
    done = await asyncio.to_thread(
        run_atlas,
        "rag",
        "status",
        env={
            "DATABASE_URL": database.url(),
            "RAG_EMBEDDER": "word2vec",
            "RAG_RELEVANCY_THRESHOLD": "2",
            "RAG_GIT_ALLOW": "file:///x",
        },
    )
    assert done.returncode == 2
    for name in ("RAG_EMBEDDER", "RAG_RELEVANCY_THRESHOLD", "RAG_GIT_ALLOW"):
        assert name in done.stderr


async def test_a_model_that_nobody_knows_is_measured(database: Database, db: asyncpg.Connection) -> None:
    async with models_double(dimensions=48) as models:
        settings = embedding(models.url)
        del settings["rag_embed_dimensions"]
        async with opened(database, **settings) as known:
            await put(known, "a.md", "alpha")
            assert await states(db) == [("words", 48, "serving")]
        models.errors = [503]
        async with opened(database, **settings | {"rag_embed_model": "else"}) as known:
            with pytest.raises(EmbedderDown):
                await known.vectors()


async def test_what_openai_costs_is_accounted_for(database: Database, db: asyncpg.Connection) -> None:
    async with models_double(dimensions=1536) as models:
        settings = {
            "rag_embedder": "openai",
            "openai_api_key": "sk-x",
            "openai_base_url": f"{models.url}/v1",
            "rag_relevancy_threshold": "-1",
        }
        async with opened(database, **settings) as known:
            await put(known, "a.md", "alpha beta gamma delta")
            await find(known, "alpha beta")
        rows = await db.fetch("select purpose, texts, tokens, usd::float8 from rag.usage order by purpose")
        assert [tuple(row) for row in rows] == [("index", 1, 4, 4 * 0.02 / 1e6), ("query", 1, 2, 2 * 0.02 / 1e6)]


async def test_a_reranker_orders_and_may_be_away(database: Database) -> None:
    async with (
        models_double() as models,
        opened(database, **embedding(models.url, rag_rerank_url=models.url, rag_rerank_model="r")) as known,
    ):
        for n in range(4):
            await put(known, f"{n}.md", "lease " * (4 - n) + f"topic{n}")
        found = await find(known, "lease topic3", top_k=2)
        assert sources(found)[0] == "3.md"
        assert found.chunks[0].score == 1.0
        sent = models.reranked[-1]
        assert (sent["query"], sent["model"], len(sent["documents"])) == ("lease topic3", "r", 4)
        models.errors = [0, 500]
        found = await find(known, "lease topic3", top_k=2)
        assert len(found.chunks) == 2
        assert found.warnings == ("the reranker did not answer: the order is that of the search",)


def test_the_double_is_near_for_near_texts() -> None:
    """What tests of similarity rest on."""
    assert vector_of("a lease", 64) == vector_of("A LEASE!", 64) != vector_of("b lease", 64)
    assert isinstance(ModelsDouble().url, str)


async def test_two_embedders_do_not_take_turns(database: Database, db: asyncpg.Connection) -> None:
    """A process with other settings may take over once; the one before does not take it back by itself."""
    async with models_double() as models:
        one, two = embedding(models.url), embedding(models.url, rag_embed_model="other")
        async with opened(database, **one) as first, opened(database, **two) as second:
            await put(first, "a.md", "alpha")
            vectors = await second.vectors()
            assert vectors is not None
            assert await vectors.build(uuid4())
            with pytest.raises(WrongState, match="was retired: another embedder took over"):
                await first.vectors(revive=False)
            assert await states(db) == [("words", 64, "retired"), ("other", 64, "serving")]
            again = await first.vectors()
            assert again is not None
            assert again.index.state == "building"


async def test_indexing_goes_on_while_a_space_is_switched(database: Database, db: asyncpg.Connection) -> None:
    async with models_double() as models:
        async with opened(database) as words:
            for n in range(40):
                await put(words, f"{n}.md", f"topic{n} of leases")
        async with opened(database, **embedding(models.url)) as one, opened(database, **embedding(models.url)) as two:
            builder = await one.vectors()
            assert builder is not None

            async def index() -> None:
                for n in range(40, 80):
                    await put(two, f"{n}.md", f"topic{n} of leases")

            built, _ = await asyncio.gather(builder.build(uuid4()), index())
            assert built
            assert await states(db) == [("words", 64, "serving")]
            assert not await builder.has_gaps()
            assert await db.fetchval("select count(*) from rag.embedding") == 80


async def test_a_service_answers_before_its_worker_gives_up(database: Database, tmp_path: Path) -> None:
    async with (
        models_double() as models,
        service(database, tmp_path, **embedding(models.url, rag_rerank_url=models.url)) as rag,
    ):
        await rag.json("POST", "/v1/documents", {"source": "a.md", "text": "the lease"})
        models.hang = 10
        began = time.monotonic()
        answer = await rag.json("POST", "/v1/query_chat", {"query": "lease"})
        assert time.monotonic() - began < 1.9
        assert [chunk["path"] for chunk in answer["chunks"]] == ["a.md"]
        assert "only words were searched" in answer["warnings"][0]
