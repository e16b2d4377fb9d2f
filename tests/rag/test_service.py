"""The RAG service as a process: its doors, its limits, its jobs, and what it says of bad input."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from atlas.rag.service.gateway import BodyLimit, Buckets
from atlas.supabase.keys import mint
from tests.doubles.models import models_double
from tests.support.core import Database, Json, run_atlas, until
from tests.support.knowledge import ANN, BOB, KEY, Service, embedding, service, team
from tests.support.pdf import pdf_of

JWT_SECRET = "a secret of at least thirty-two characters"


async def test_query_chat_as_the_manual_has_it(database: Database, tmp_path: Path) -> None:
    async with models_double() as models, service(database, tmp_path, **embedding(models.url)) as rag:
        put = await rag.json(
            "POST", "/v1/documents", {"source": "docs/a.md", "text": "# Leases\n\na lost worker gives its lease back"}
        )
        assert put == {"source": "docs/a.md", "changed": True, "chunks": 1, "tokens": put["tokens"], "redacted": []}
        assert (
            await rag.json(
                "POST", "/v1/documents", {"source": "docs/a.md", "text": "# Leases\n\na lost worker gives its lease back"}
            )
        )["changed"] is False
        await rag.json("POST", "/v1/documents", {"source": "docs/b.md", "text": "bread and butter"})
        answer = await rag.json("POST", "/v1/query_chat", {"query": "lost worker", "top_k": 1})
        (chunk,) = answer["chunks"]
        assert {name: chunk[name] for name in ("source", "title", "path", "heading", "kind", "commit")} == {
            "source": "docs/a.md:1-3", "title": "Leases", "path": "docs/a.md", "heading": "Leases", "kind": "markdown", "commit": None,
        }  # fmt: skip
        assert 0 < chunk["similarity"] <= 1
        assert chunk["score"] > 0
        assert "gives its lease back" in chunk["text"]
        assert answer["warnings"] == []
        # the options
        both = {"query": "lost worker", "relevancy_threshold": -1}
        assert len((await rag.json("POST", "/v1/query_chat", both))["chunks"]) == 2
        only = both | {"filter": {"source": "docs/b", "kind": "markdown"}}
        assert [c["path"] for c in (await rag.json("POST", "/v1/query_chat", only))["chunks"]] == ["docs/b.md"]
        nothing = await rag.json("POST", "/v1/query_chat", {"query": "lost worker", "relevancy_threshold": 0.9999})
        assert nothing["chunks"] == []
        assert "dropped every passage" in nothing["warnings"][0]
        # what there is, and its end
        listed = await rag.json("GET", "/v1/sources", params={"prefix": "docs/", "limit": 1})
        assert [row["source"] for row in listed] == ["docs/a.md"]
        assert [row["source"] for row in await rag.json("GET", "/v1/sources", params={"after": "docs/a.md"})] == ["docs/b.md"]
        assert await rag.json("DELETE", "/v1/documents", params={"source": "docs/a.md"}) == {"dropped": 1}
        assert (await rag.call("DELETE", "/v1/documents", params={"source": "docs/a.md"})).status_code == 404
        # PDFs come as bytes
        pdf = {"source": 'run book\'s/"x".pdf', "content_base64": base64.b64encode(pdf_of("restore the backup")).decode()}
        assert (await rag.json("POST", "/v1/documents", pdf))["chunks"] == 1
        found = (await rag.json("POST", "/v1/query_chat", {"query": "restore backup", "relevancy_threshold": -1}))["chunks"]
        assert found[0]["source"] == 'run book\'s/"x".pdf#page=1'
        health = await rag.json("GET", "/healthz", key=None)
        assert health["retrieval"] == "full text and vectors of openai words"
        assert health["embedding_indexes"] == [{"embedder": "openai", "model": "words", "dimensions": 64, "state": "serving"}]
        page = (await rag.call("GET", "/metrics", key=None)).text
        assert 'atlas_rag_calls_total{route="/v1/query_chat",status="200"}' in page
        assert "atlas_rag_search_seconds_count" in page
        described = await rag.json("GET", "/openapi.json", key=None)
        assert set(described["paths"]) >= {
            "/v1/query_chat", "/v1/embed_batch", "/v1/jobs/{job_id}", "/v1/documents", "/v1/sources", "/healthz",
        }  # fmt: skip


async def test_without_an_embedder_it_says_so_and_searches_words(database: Database, tmp_path: Path) -> None:
    async with service(database, tmp_path) as rag:
        await rag.json("POST", "/v1/documents", {"source": "a.md", "text": "a lost worker"})
        answer = await rag.json("POST", "/v1/query_chat", {"query": "worker"})
        assert (answer["chunks"][0]["similarity"], answer["chunks"][0]["similarity_kind"]) == (1.0, "words"), (
            "all of the question"
        )
        assert answer["warnings"] == []
        assert (await rag.json("GET", "/healthz"))["retrieval"] == "full text alone (RAG_EMBEDDER is none)"
        assert rag.log.read_text().count("full text alone") == 1


async def test_embed_batch_is_a_job(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    async with models_double() as models, service(database, tmp_path, **embedding(models.url)) as rag:
        answer = await rag.call("POST", "/v1/embed_batch", ["one lease", "two leases"])
        assert answer.status_code == 202
        job = await rag.job(answer.json()["job_id"])
        assert (job["state"], job["done"], job["total"], job["errors"]) == ("completed", 2, 2, [])
        mixed = [{"source": "a.md", "text": "# T\n\nthree leases", "kind": "markdown"}, {"source": "b.md", "text": "-----BEGIN PRIVATE KEY-----"},
                 {"source": "c.ipynb", "text": "no notebook"}, "one lease"]  # fmt: skip
        job = await rag.job((await rag.json("POST", "/v1/embed_batch", mixed))["job_id"])
        assert (job["state"], job["done"], job["total"]) == ("completed", 4, 4)
        assert [error.split(":")[0] for error in job["errors"]] == ["b.md", "c.ipynb"]
        assert await db.fetchval("select count(*) from rag.document") == 3
        assert sorted(models.texts) == ["T\n\n# T\n\nthree leases", "one lease", "two leases"]
        assert await db.fetchval("select count(*) from rag.embed_item where text <> ''") == 0, (
            "texts of done items are not kept twice"
        )
        assert (await rag.call("GET", f"/v1/jobs/{uuid4()}")).status_code == 404


async def test_a_job_goes_on_after_kill_9_and_embeds_nothing_twice(database: Database, tmp_path: Path) -> None:
    texts = [f"lease number{n}" for n in range(30)]
    async with models_double() as models:
        models.hang = 0.15
        async with service(database, tmp_path, **embedding(models.url)) as rag:
            job = (await rag.json("POST", "/v1/embed_batch", texts))["job_id"]
            for kill_at in (5, 12, 20):

                async def far(kill_at: int = kill_at) -> bool:
                    return len(models.texts) >= kill_at

                await until(far, 30, "the job is on its way")
                rag.kill()
                await rag.start()
            models.hang = 0
            found = await rag.job(job, 60)
            assert (found["state"], found["done"], found["errors"]) == ("completed", 30, [])
            # a call that was under way when the process died may have been answered to nobody
            assert len(models.texts) - len(set(models.texts)) <= 3
            assert set(models.texts) == set(texts)


async def test_a_job_waits_for_an_embedder_that_is_away(database: Database, tmp_path: Path) -> None:
    async with models_double() as models, service(database, tmp_path, **embedding(models.url)) as rag:
        models.fail_after = 3
        job = (await rag.json("POST", "/v1/embed_batch", [f"lease number{n}" for n in range(6)]))["job_id"]

        async def waits() -> Json | None:
            found: Json = await rag.json("GET", f"/v1/jobs/{job}")
            return found if found["last_error"] else None

        found = await until(waits, 60, "the job waits")
        assert (found["state"], found["done"]) == ("queued", 3)
        assert "HTTP 503" in found["last_error"]
        models.fail_after = None
        found = await rag.job(job, 60)
        assert (found["done"], found["last_error"]) == (6, None)
        assert len(models.texts) == 6


async def test_two_services_share_jobs(database: Database, tmp_path: Path) -> None:
    async with models_double() as models:
        models.hang = 0.05
        async with (
            service(database, tmp_path.parent, **embedding(models.url)) as one,
            service(database, tmp_path, **embedding(models.url)) as two,
        ):
            jobs = [
                (await one.json("POST", "/v1/embed_batch", [f"text {n} {m}" for m in range(4)]))["job_id"] for n in range(6)
            ]
            for job in jobs:
                assert (await two.job(job))["done"] == 4
        assert len(models.texts) == len(set(models.texts)) == 24


async def test_nobody_comes_in_without_a_key(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    ours = await team(db, "ours", ANN)
    theirs = await team(db, "theirs", BOB)
    async with service(database, tmp_path, supabase_jwt_secret=JWT_SECRET) as rag:
        for source, project in (("shared.md", None), ("ours.md", ours), ("theirs.md", theirs)):
            body = {"source": source, "text": f"the lease of {source}", "project": project and str(project)}
            await rag.json("POST", "/v1/documents", body)
        query = {"query": "lease"}
        for key in (None, "wrong", KEY + "x", mint("another secret of thirty-two characters", {"role": "authenticated", "sub": str(ANN)}, lasts=60),
                    mint(JWT_SECRET, {"role": "authenticated", "sub": str(ANN)}, lasts=-5)):  # fmt: skip
            answer = await rag.call("POST", "/v1/query_chat", query, key=key)
            assert answer.status_code == 401, key
            assert answer.headers["www-authenticate"] == "Bearer"
            assert set(answer.json()["error"]) == {"code", "message", "hint"}
        anon = mint(JWT_SECRET, {"role": "anon"}, lasts=60)
        assert (await rag.call("POST", "/v1/query_chat", query, key=anon)).status_code == 403
        ann = mint(JWT_SECRET, {"role": "authenticated", "sub": str(ANN)}, lasts=60)

        async def seen(key: str, **more: object) -> list[str]:
            answer = await rag.json("POST", "/v1/query_chat", query | more, key=key)
            return sorted(chunk["path"] for chunk in answer["chunks"])

        assert await seen(ann) == ["ours.md", "shared.md"]
        assert await seen(ann, project=str(theirs)) == ["shared.md"]
        assert [row["source"] for row in await rag.json("GET", "/v1/sources", key=ann)] == ["ours.md", "shared.md"]
        assert await seen(KEY) == ["shared.md"]
        assert await seen(KEY, project=str(theirs)) == ["shared.md", "theirs.md"]
        service_role = mint(JWT_SECRET, {"role": "service_role"}, lasts=60)
        assert await seen(service_role, project=str(ours)) == ["ours.md", "shared.md"]
        # what changes the index is the service's
        job = (await rag.json("POST", "/v1/embed_batch", ["x"]))["job_id"]
        for method, path, sent in (
            ("POST", "/v1/documents", {"source": "x", "text": "x"}), ("POST", "/v1/embed_batch", ["x"]),
            ("DELETE", "/v1/documents?source=shared.md", None), ("POST", "/v1/query_chat", query | {"task_id": str(uuid4())}),
        ):  # fmt: skip
            assert (await rag.call(method, path, sent, key=ann)).status_code == 403, path
        assert (await rag.call("GET", f"/v1/jobs/{job}", key=ann)).status_code == 404, "a job of others is not there"
        assert KEY not in rag.log.read_text()


async def test_loopback_alone_needs_no_key_and_other_names_do(database: Database, tmp_path: Path) -> None:
    async with service(database, tmp_path, rag_api_key="") as rag:
        assert (await rag.call("POST", "/v1/query_chat", {"query": "x"}, key=None)).status_code == 200
        # a page in a browser that reached this port by a name of its own
        other = await rag.call("POST", "/v1/query_chat", {"query": "x"}, key=None, headers={"host": "evil.example.com"})
        assert other.status_code == 401
    done = run_atlas("rag", "serve", "--host", "192.0.2.1", "--port", "0", env={"DATABASE_URL": database.url()})
    assert done.returncode == 2
    assert "would let anybody in: set RAG_API_KEY" in done.stderr
    done = run_atlas("rag", "serve", env={"DATABASE_URL": database.url(), "RAG_API_KEY": "short"})
    assert done.returncode == 2
    assert "shorter than 16" in done.stderr


async def refused(rag: Service, path: str, body: object = None, content: bytes | None = None) -> tuple[int, str]:
    more: Json = {} if content is None else {"content": content}
    answer = await rag.call("POST", path, body, **more)
    error = answer.json()["error"]
    return answer.status_code, f"{error['message']} {error['hint']}"


async def test_bad_input_gets_a_clear_error(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    async with service(database, tmp_path) as rag:
        cases: list[tuple[str, object, bytes | None, int, str]] = [
            ("/v1/query_chat", {"query": ""}, None, 422, "query is empty"),
            ("/v1/query_chat", {"query": " \n "}, None, 422, "query is empty"),
            ("/v1/query_chat", {"query": "x" * 10_000_000}, None, 413, "larger than 8 MiB"),
            ("/v1/query_chat", {"query": "x" * 40_000}, None, 422, "query: String should have at most 32000"),
            ("/v1/query_chat", {"query": "x", "top_k": 0}, None, 422, "top_k"),
            ("/v1/query_chat", {"query": "x", "topk": 3}, None, 422, "topk"),
            ("/v1/query_chat", {"query": "a\x00b"}, None, 422, "NUL"),
            ("/v1/query_chat", None, b'{"query": "\\ud800"}', 422, "unicode"),
            ("/v1/query_chat", None, b'{"query": "caf\xe9"}', 400, "not JSON in UTF-8"),
            ("/v1/query_chat", None, b"{", 422, "JSON"),
            ("/v1/query_chat", [], None, 422, "body"),
            ("/v1/embed_batch", ["x"] * 10_000, None, 422, "at most 1000"),
            ("/v1/embed_batch", [], None, 422, "at least 1"),
            ("/v1/embed_batch", [{"source": "", "text": "x"}], None, 422, "source"),
            ("/v1/embed_batch", [{"source": "a", "text": "x", "kind": "word"}], None, 422, "kind"),
            ("/v1/documents", {"source": "a.pdf", "text": "no PDF"}, None, 422, "a.pdf: it is not a PDF"),
            ("/v1/documents", {"source": "a.pdf", "content_base64": "JVBERi0="}, None, 422, "broken PDF"),
            ("/v1/documents", {"source": "a.pdf", "content_base64": "$$"}, None, 422, "not base64"),
            ("/v1/documents", {"source": "a.md"}, None, 422, "send text, or content_base64"),
            ("/v1/documents", {"source": "a.md", "text": "-----BEGIN PRIVATE KEY-----"}, None, 422, "private key"),
            ("/v1/documents", {"source": "a.md", "text": "x", "project": str(uuid4())}, None, 404, "no project"),
        ]  # fmt: skip
        for path, body, content, status, said in cases:
            got = await refused(rag, path, body, content)
            assert got[0] == status, (path, str(body)[:80], got)
            assert said in got[1], (path, str(body)[:80], got)
        plain = await rag.call("POST", "/v1/query_chat", {"query": "x"}, headers={"content-type": "text/plain"})
        assert (plain.status_code, plain.json()["error"]["code"]) == (415, "content_type")
        # a body without its length is counted as it comes
        async with httpx.AsyncClient(timeout=20) as web:

            async def endless() -> AsyncIterator[bytes]:
                for _ in range(20):
                    yield b"x" * 1_000_000

            answer = await web.post(f"{rag.url}/v1/query_chat", content=endless(), headers={"authorization": f"Bearer {KEY}"})
            assert answer.status_code == 413
        assert (await rag.call("GET", "/v1/jobs/x")).status_code == 422
        assert (await rag.call("GET", "/nothing")).status_code == 404
        assert (await rag.call("PUT", "/v1/documents")).status_code == 405
        assert await db.fetchval("select count(*) from rag.document") == 0
        assert await db.fetchval("select count(*) from rag.embed_job") == 0
        assert "Traceback" not in rag.log.read_text()
        # a thousand documents are one job
        job = (await rag.json("POST", "/v1/embed_batch", [f"text number{n}" for n in range(1000)]))["job_id"]
        assert (await rag.job(job, 90))["done"] == 1000


async def test_calls_of_a_key_are_limited(database: Database, tmp_path: Path) -> None:
    async with service(database, tmp_path, rag_rate_limit="1") as rag:
        answers = [await rag.call("POST", "/v1/query_chat", {"query": "x"}) for _ in range(14)]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:10] == [200] * 10
        assert 429 in statuses
        late = next(answer for answer in answers if answer.status_code == 429)
        assert int(late.headers["retry-after"]) >= 1
        assert (await rag.call("GET", "/healthz")).status_code == 200, "health is not counted"


def test_buckets_fill_again_and_forget_the_least_used() -> None:
    now = [0.0]
    buckets = Buckets(2, most=3, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(20)] == [0.0] * 20
    assert buckets.take("a") == pytest.approx(0.5)
    now[0] = 0.5
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0
    for name in "bcd":
        buckets.take(name)
    assert buckets.take("a") == 0, "forgotten callers begin anew; nothing grows without end"


async def test_postgres_away_is_said_and_comes_back(database: Database, tmp_path: Path) -> None:
    async with service(database, tmp_path) as rag:
        await rag.json("POST", "/v1/documents", {"source": "a.md", "text": "a lease"})
        killed = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'atlas' and datname = current_database()"
        for _ in range(3):
            async with database.connect("supabase_admin") as admin:
                await admin.execute(killed)
            began = time.monotonic()
            assert len((await rag.json("POST", "/v1/query_chat", {"query": "lease"}))["chunks"]) == 1
            assert time.monotonic() - began < 10


async def test_keys_of_the_project_that_cannot_be_read_are_an_outage(database: Database, tmp_path: Path) -> None:
    async with service(database, tmp_path, supabase_url="http://127.0.0.1:9", supabase_secret_key="sb_secret_x") as rag:
        head = base64.urlsafe_b64encode(b'{"alg":"ES256","kid":"k","typ":"JWT"}').decode().rstrip("=")
        answer = await rag.call("POST", "/v1/query_chat", {"query": "x"}, key=f"{head}.e30.AAAA")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "away")


async def test_half_open_requests_take_neither_health_nor_the_service(database: Database, tmp_path: Path) -> None:
    async with service(database, tmp_path) as rag:
        host, port = rag.url.removeprefix("http://").split(":")
        half = b"POST /v1/query_chat HTTP/1.1\r\nhost: x\r\n"
        begun = (
            half + b"authorization: Bearer %s\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{" % KEY.encode()
        )
        async with AsyncExitStack() as stack:

            async def opened_with(data: bytes) -> asyncio.StreamReader:
                reader, writer = await asyncio.open_connection(host, int(port))
                stack.callback(writer.close)
                writer.write(data)
                return reader

            late = [await opened_with(data) for data in [half] * 150 + [b""] * 150]
            assert (await rag.call("GET", "/healthz")).status_code == 200
            assert (await rag.call("POST", "/v1/query_chat", {"query": "x"})).status_code == 200
            # bodies that do not come take the lane of calls, and not that of health
            for _ in range(256):
                await opened_with(begun)

            async def full() -> bool:
                return (await rag.call("POST", "/v1/query_chat", {"query": "x"})).status_code == 503

            await until(full, 20, "the calls are all taken")
            assert (await rag.call("GET", "/healthz")).status_code == 200
            assert (await rag.call("GET", "/metrics")).status_code == 200
            async with asyncio.timeout(30):
                answers = [await reader.read() for reader in late]
            assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 408 Request Timeout"}


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    sent: list[Any] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/", "headers": []}
    await BodyLimit(app, most=100, within=0.1)(scope, never, send)
    assert [message.get("status") for message in sent] == [408, None]
    assert b"took longer than 0.1 s" in sent[1]["body"]
