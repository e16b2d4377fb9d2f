"""Retrieval as a worker does it: the cache, the service that is away or slow, what a reply says of it, and what stays for the audit."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from atlas.breaker import Breaker
from atlas.database.pool import Pool
from atlas.rag.retrieval import NONE, STALE, Cache, CachedRetriever, InProcess, RagService
from atlas.rag.wiring import Knowledge
from tests.doubles.models import models_double
from tests.doubles.openai import OpenAIDouble
from tests.doubles.serving import serving
from tests.support.core import ADR, Database, Workers, ask, claim, command, ended, reply, until
from tests.support.knowledge import ANN, BOB, KEY, embedding, opened, put, service, team
from tests.support.queried import acting


def retriever(bus: Pool, known: Knowledge) -> CachedRetriever:
    return CachedRetriever(InProcess(known.searcher, top_k=5, collapse=True), Cache(bus, settings="test"), top_k=5)


async def task_of(database: Database, db: asyncpg.Connection, user: UUID, project: str, question: str = "lease?") -> UUID:
    message = {
        "task_id": str(uuid4()),
        "role": "architect",
        "msg_type": "chat",
        "content": question,
        "metadata": {"project": project},
    }
    await acting(database, user, "insert into public.architect_in (data) values ($1) returning id", message)
    return UUID(str(await db.fetchval("select id from atlas.task where message_task_id = $1", UUID(str(message["task_id"])))))


async def test_the_cache_serves_the_same_readers_until_the_index_changes(database: Database, db: asyncpg.Connection) -> None:
    await team(db, "ours", ANN)
    await team(db, "theirs", BOB)
    async with (
        models_double() as models,
        opened(database, **embedding(models.url)) as operator,
        opened(database, "atlas_worker", **embedding(models.url)) as known,
        Pool.connect(database.url("atlas_worker")) as bus,
    ):
        ours = UUID(str(await operator.store.project("ours")))
        theirs = UUID(str(await operator.store.project("theirs")))
        await put(operator, "shared.md", "the lease", None)
        await put(operator, "ours.md", "our lease", ours)
        await put(operator, "theirs.md", "their secret lease", theirs)
        mine, other, hers = [
            await task_of(database, db, user, project) for user, project in ((ANN, "ours"), (ANN, "ours"), (BOB, "theirs"))
        ]
        worker = retriever(bus, known)

        async def seen(task: UUID) -> list[str]:
            found = await worker.search("lease?", task_id=task)
            assert found.warnings == ()
            return sorted(chunk.source for chunk in found.chunks)

        before = len(models.texts)
        assert await seen(mine) == ["ours.md", "shared.md"]
        assert len(models.texts) == before + 1
        assert await seen(mine) == await seen(other) == ["ours.md", "shared.md"]
        assert len(models.texts) == before + 1, "the same question of the same project is not searched again"
        # somebody who may read other documents has an entry of their own
        assert await seen(hers) == ["shared.md", "theirs.md"]
        assert len(models.texts) == before + 2
        assert await db.fetchval("select count(*) from rag.cache") == 2
        # another project's documents change nothing here; one's own, and shared ones, do
        await put(operator, "theirs2.md", "their lease", theirs)
        count = len(models.texts)
        assert await seen(mine) == ["ours.md", "shared.md"]
        assert len(models.texts) == count
        await put(operator, "ours2.md", "our other lease", ours)
        assert await seen(mine) == ["ours.md", "ours2.md", "shared.md"]
        await operator.store.drop_documents(None, ["shared.md"])
        assert await seen(mine) == ["ours.md", "ours2.md"]
        # who leaves the project is not served what members were
        await db.execute("delete from atlas.member where user_id = $1", ANN)
        assert await seen(mine) == []


async def test_flush_cache_drops_it_for_all_workers(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=ADR)
    async with models_double() as models:
        settings = embedding(models.url) | {"openai_api_key": "sk-test", "openai_base_url": openai.url}
        async with opened(database, **embedding(models.url)) as known:
            await put(known, "a.md", "the lease")
        count = len(models.texts)
        for _ in range(2):
            await workers.start(**settings)  # type: ignore[arg-type]  # names of settings
        for expected in (1, 1, 1):
            await ended(db, await ask(db, "What of the lease?"))
            assert len(models.texts) == count + expected
        await command(db, {"command": "flush_cache"})

        async def empty() -> bool:
            return int(await db.fetchval("select count(*) from rag.cache")) == 0

        await until(empty, 20, "the cache is dropped")
        await ended(db, await ask(db, "What of the lease?"))
        assert len(models.texts) == count + 2
        assert await db.fetchval("select sum(texts) from rag.usage where purpose = 'query'") >= 1


class Rag:
    """A stand-in for a service that is in trouble: the real one is in test_service."""

    def __init__(self) -> None:
        self.calls = 0
        self.status = 200
        self.hang = 0.0
        self.body: object = {"chunks": [], "warnings": []}
        self.asked: list[dict[str, object]] = []

    async def answer(self, request: Request) -> Response:
        self.calls += 1
        self.asked.append(await request.json())
        await asyncio.sleep(self.hang)
        return JSONResponse(self.body, status_code=self.status)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/query_chat", self.answer, methods=["POST"])])


async def test_a_worker_uses_the_service_and_outlives_it(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble, tmp_path: Path
) -> None:
    openai.plan(text=ADR)
    async with service(database, tmp_path) as rag:
        await rag.json(
            "POST", "/v1/documents", {"source": "docs/a.md", "text": "# Leases\n\na lost worker gives its lease back"}
        )
        worker = await workers.start(openai_api_key="sk-test", openai_base_url=openai.url, rag_url=rag.url, rag_api_key=KEY)
        assert f"retrieval: the service at {rag.url}" in worker.log.read_text()
        first = await ended(db, await ask(db, "What of the lease?"))
        metadata = (await reply(db, first["id"]))["metadata"]
        assert [source["path"] for source in metadata["sources"]] == ["docs/a.md:1-3"]
        assert "warnings" not in metadata or not any("knowledge" in line for line in metadata["warnings"])
        rag.kill()
        # asked before: what was found then; asked never: nothing. Both say so, and neither fails
        await db.execute("update rag.epoch set number = number + 1")
        again = (await reply(db, (await ended(db, await ask(db, "What of the lease?")))["id"]))["metadata"]
        assert [source["path"] for source in again["sources"]] == ["docs/a.md:1-3"]
        assert STALE in again["warnings"]
        new = (await reply(db, (await ended(db, await ask(db, "What of the budget?")))["id"]))["metadata"]
        assert new["sources"] == []
        assert NONE in new["warnings"]
        assert new["status"] == "completed"
        await rag.start()

        async def well() -> bool:
            task = await ended(db, await ask(db, f"What of the lease {time.monotonic()}?"))
            return not any("knowledge" in line for line in (await reply(db, task["id"]))["metadata"].get("warnings", []))

        await until(well, 60, "the service is used again")


async def test_slow_broken_and_odd_answers_are_an_outage(database: Database, db: asyncpg.Connection) -> None:
    rag = Rag()
    task = await ask(db)
    now = [0.0]
    async with serving(rag.app()) as port, httpx.AsyncClient() as web:
        source = RagService(web, f"http://127.0.0.1:{port}", key=None, top_k=5, collapse=True, threshold=None, patience=0.2,
                            breaker=Breaker(failures=3, pause=10, clock=lambda: now[0]))  # fmt: skip
        async with Pool.connect(database.url("atlas_worker")) as bus, opened(database) as known:
            await put(known, "a.md", "alpha")
            worker = CachedRetriever(source, Cache(bus, settings="x"), top_k=5)
            assert (await worker.search("x", task_id=task)).warnings == ()
            for trouble in ({"hang": 1.0}, {"status": 500}, {"body": {"chunks": [{"source": "half"}]}}):
                for name, value in trouble.items():
                    setattr(rag, name, value)
                began = time.monotonic()
                assert (await worker.search(f"q {trouble}", task_id=task)).warnings == (NONE,)
                assert time.monotonic() - began < 0.9
                rag.hang, rag.status, rag.body = 0.0, 200, {"chunks": [], "warnings": ["half a search"]}
            calls = rag.calls
            assert (await worker.search("open", task_id=task)).warnings == (NONE,)
            assert rag.calls == calls, "after three failures the breaker is open: nobody waits two seconds for nothing"
            now[0] = 11
            assert (await worker.search("again", task_id=task)).warnings == ("half a search",)
            calls = rag.calls
            await worker.search("again", task_id=task)
            assert rag.calls == calls + 1, "half a search is not kept"
            assert rag.asked[-1] == {"query": "again", "task_id": str(task), "top_k": 5, "collapse_by_file": True}


def test_the_breaker_lets_one_try_when_its_pause_is_over() -> None:
    now = [0.0]
    breaker = Breaker(failures=2, pause=10, clock=lambda: now[0])
    for _ in range(2):
        assert breaker.enter()
        breaker.record(ok=False)
    assert not breaker.enter()
    now[0] = 10
    assert breaker.enter()
    assert not breaker.enter(), "one, and not all that waited"
    breaker.record(ok=True)
    assert breaker.enter()
    assert breaker.enter()


async def test_an_embedder_that_is_slow_costs_two_seconds_and_a_warning(database: Database, db: asyncpg.Connection) -> None:
    async with models_double() as models, opened(database, **embedding(models.url)) as known:
        await put(known, "a.md", "the lease")
        models.hang = 10
        began = time.monotonic()
        task = await ask(db)
        async with Pool.connect(database.url("atlas_worker")) as bus:
            found = await retriever(bus, known).search("lease", task_id=task)
        assert time.monotonic() - began < 5
        assert [chunk.source for chunk in found.chunks] == ["a.md"]
        assert found.warnings == ("the embedder did not answer: only words were searched",)
        assert await db.fetchval("select count(*) from rag.cache") == 0


async def test_what_a_reply_was_written_from_stays_for_the_audit(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=ADR)
    async with opened(database) as known:
        await put(known, "a.md", "the lease of a worker")
        await put(known, "b.md", "bread")
        await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
        task = await ended(db, await ask(db, "What of the lease?"))
        (source,) = (await reply(db, task["id"]))["metadata"]["sources"]
        assert re.fullmatch(r"S\d{4}", source["id"])
        assert source["path"] == "a.md:1-1"
        detail = await db.fetchval("select detail from atlas.audit where task_id = $1 and event = 'cite_passages'", task["id"])
        assert detail == {"passages": [source["sha256"]]}
        await known.store.drop_documents(None, ["a.md"])
        await known.store.drop_documents(None, ["b.md"])
        await db.execute("update rag.passage set seen_at = now() - interval '2 days'")
        assert await known.store.collect_passages() == 1
        kept = await db.fetchrow("select text, sha256 from rag.passage")
        assert (kept["text"], kept["sha256"].hex()) == ("the lease of a worker", source["sha256"])
        assert await db.fetchval("select count(*) from rag.search('lease')") == 0, "kept, and found no more"


async def test_nothing_indexed_costs_one_look(database: Database, db: asyncpg.Connection) -> None:
    async with Pool.connect(database.url("atlas_worker")) as bus, httpx.AsyncClient() as web:
        source = RagService(web, "http://127.0.0.1:9", key=None, top_k=5, collapse=True, threshold=None)
        found = await CachedRetriever(source, Cache(bus, settings="x"), top_k=5).search("x", task_id=await ask(db))
        assert (found.chunks, found.warnings) == ((), ())


@pytest.mark.parametrize("sources", [[{"sha256": "zz"}], "no list", [1, None, {"sha256": "ab" * 32}], {"a": 1}])
async def test_odd_sources_of_a_reply_do_no_harm(db: asyncpg.Connection, sources: object) -> None:
    task = await ask(db)
    (claimed,) = await claim(db)
    await db.fetch(
        "select atlas.complete_tasks($1)",
        [
            {
                "attempt_id": str(claimed["attempt_id"]),
                "content": "x",
                "metadata": {"sources": sources, "status": "completed"},
                "usages": {},
            }
        ],
    )
    assert await db.fetchval("select state from atlas.task where id = $1", task) == "completed"
    assert await db.fetchval("select count(*) from rag.citation") == 0
