"""Repositories: docs.added on the bus, the embed-worker that clones, and what it does not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from atlas.rag.document import Document, Kind
from atlas.rag.index import Indexer
from atlas.rag.jobs import Jobs
from atlas.rag.reading import ReadingProcess
from atlas.rag.repository import CloneFailed, CloneLimits, CloneRefused, check_allowed, cloned, plain_url
from tests.doubles.models import models_double
from tests.support.core import ROOT, Database, Json, clean_environment, run_atlas, until
from tests.support.knowledge import ANN, COUNT, commit, embedding, find, git, git_server, opened, sources
from tests.support.queried import acting


@asynccontextmanager
async def embed_worker(database: Database, folder: Path, **env: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    """`atlas rag worker` as a process."""
    log = folder / "worker.log"
    settings = clean_environment() | {"DATABASE_URL": database.url(), "ATLAS_LEASE_SECONDS": "2"}
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "atlas.cli", "rag", "worker"], env=settings | {k.upper(): v for k, v in env.items()},
            stdout=file, stderr=file, cwd=ROOT,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def docs_added(url: str, **more: object) -> Json:
    content = {"command": "docs.added", "repository": url} | more
    return {
        "task_id": str(uuid4()),
        "role": "rag",
        "msg_type": "control",
        "content": json.dumps(content),
        "metadata": {"schema_ver": 2, "kind": "docs.added"},
    }


INSERT = "insert into public.architect_in (data) values ($1)"


async def job_of(db: asyncpg.Connection, message: Json) -> asyncpg.Record:
    """The job of a message, once it has ended."""
    query = (
        "select j.* from rag.embed_job j join public.architect_in i on i.id = j.in_id where i.task_id = $1::text::uuid "
        "and j.state in ('completed', 'failed')"
    )
    return await until(lambda: db.fetchrow(query, message["task_id"]), 60, "the job ends")


async def test_docs_added_is_indexed_and_indexed_again(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    repository = tmp_path / "git/acme/docs"
    first = commit(
        repository,
        {"docs/a.md": "# Alpha\n\nthe alpha lease", "b.py": "def beta_lease(): ...", ".env": "A=1", "logo.png": "\x00\x01"},
    )
    async with (
        git_server(tmp_path / "git") as server,
        embed_worker(database, tmp_path, rag_git_allow=f"{server}/acme/") as worker,
    ):
        url = f"{server}/acme/docs"
        message = docs_added(url)
        await db.execute(INSERT, message)
        job = await job_of(db, message)
        assert (job["state"], job["done"], job["total"]) == ("completed", 3, 3)
        assert [error.removeprefix(f"{url}/") for error in job["errors"]] == [
            ".env: its name looks like a secret",
            "logo.png: it is binary",
        ]
        async with opened(database) as known:
            found = await find(known, "alpha lease")
            assert found.chunks[0].place == f"{url}/docs/a.md@{first[:12]}:1-3"
            # the second time: what changed, and what went; at a commit
            second = commit(repository, {"docs/a.md": "# Alpha\n\nthe second lease", "docs/c.md": "gamma lease"})
            git(repository, "rm", "--quiet", "b.py")
            git(repository, "commit", "--quiet", "-m", "gone")
            third = git(repository, "rev-parse", "HEAD")
            before = dict(await db.fetch("select source, indexed_at from rag.document"))
            message = docs_added(url + ".git", ref=third, changed=["docs/a.md"], removed=["b.py"])
            await db.execute(INSERT, message)
            assert (await job_of(db, message))["state"] == "completed"
            found = await find(known, "lease", top_k=10)
            assert sorted(chunk.place for chunk in found.chunks) == [
                f"{url}/docs/a.md@{third[:12]}:1-3",
                f"{url}/docs/c.md@{third[:12]}:1-1",
            ]
            assert second != third
        # the nightly refresh looks again, and nothing changed
        assert (await asyncio.to_thread(run_atlas, "rag", "refresh", env={"DATABASE_URL": database.url()})).stdout.startswith(
            "1 repositories are queued"
        )
        await until(
            lambda: db.fetchval("select count(*) = 3 from rag.embed_job where state = 'completed'"), 30, "the refresh ends"
        )
        after = dict(await db.fetch("select source, indexed_at from rag.document"))
        assert len(after) == 2
        assert len(before) == 2
        assert await db.fetchval("select count(*) from rag.document where commit = $1", third) == 2
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 15) == 0
        assert "unfinished jobs go on" in (tmp_path / "worker.log").read_text()


async def test_a_repository_that_is_known_with_git_alone_and_one_that_is_not_there(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    """As the manual sends it; and who sent it hears on the bus that nothing came of it."""
    commit(tmp_path / "git/acme/dotted.git", {"a.md": "alpha lease"})
    async with git_server(tmp_path / "git") as server, embed_worker(database, tmp_path, rag_git_allow=f"{server}/acme/"):
        there, gone = docs_added(f"{server}/acme/dotted.git"), docs_added("https://elsewhere.example/x.git")
        for message in (there, gone):
            await db.execute(INSERT, message)
        assert (await job_of(db, there))["state"] == "completed"
        assert (await job_of(db, gone))["state"] == "failed"
    (answer,) = [row["data"] for row in await db.fetch("select data from public.architect_out")]
    assert (answer["task_id"], answer["role"], answer["msg_type"]) == (gone["task_id"], "rag", "control")
    assert answer["metadata"]["status"] == "failed"
    assert "may not be cloned" in answer["metadata"]["error"]["message"]


async def test_a_worker_that_is_killed_in_a_job_loses_nothing(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    commit(tmp_path / "git/acme/docs", {f"{n}.md": f"topic{n} lease" for n in range(300)})
    async with git_server(tmp_path / "git") as server:
        message = docs_added(f"{server}/acme/docs")
        await db.execute(INSERT, message)
        async with embed_worker(database, tmp_path, rag_git_allow=f"{server}/"):
            await until(lambda: db.fetchval("select count(*) > 20 from rag.document"), 40, "the job is on its way")
        async with embed_worker(database, tmp_path, rag_git_allow=f"{server}/"):
            job = await job_of(db, message)
        assert (job["state"], job["attempts"]) == ("completed", 2)
        assert await db.fetchval("select count(*) from rag.document") == 300


async def test_what_may_not_be_cloned_fails_with_its_reason(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    async with embed_worker(database, tmp_path, rag_git_allow="https://github.com/acme/"):
        message = docs_added("https://github.com/other/docs")
        await db.execute(INSERT, message)
        job = await job_of(db, message)
        assert (job["state"], job["last_error"]) == ("failed", "https://github.com/other/docs may not be cloned")


@pytest.mark.parametrize(
    ("content", "said"),
    [("no json", "is not JSON"), ('{"command": "docs.added"}', "is not a docs.added command"),
     ('{"command": "docs.added", "repository": "file:///etc"}', "is not a docs.added command"),
     ('{"command": "docs.added", "repository": "--upload-pack=x"}', "is not a docs.added command"),
     ('{"command": "docs.added", "repository": "https://x/y", "ref": "--upload-pack=x"}', "is not a docs.added command"),
     ('{"command": "docs.added", "repository": "https://x/y", "changed": "a"}', "is not a docs.added command")],
)  # fmt: skip
async def test_odd_messages_are_refused_at_the_entrance(db: asyncpg.Connection, content: str, said: str) -> None:
    with pytest.raises(asyncpg.PostgresError, match=said) as refused:
        await db.execute(INSERT, docs_added("x") | {"content": content})
    assert refused.value.sqlstate == "AT001"
    assert await db.fetchval("select count(*) from public.architect_in") == 0


async def test_only_the_service_role_may_send_it(database: Database, db: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.PostgresError, match="is for the service role") as refused:
        await acting(database, ANN, INSERT, docs_added("https://github.com/acme/docs"))
    assert refused.value.sqlstate == "AT006"
    # other messages to other roles are kept, and are no jobs
    await db.execute(INSERT, docs_added("x") | {"content": '{"command": "else"}'})
    assert await db.fetchval("select count(*) from rag.embed_job") == 0


@pytest.mark.parametrize(
    ("url", "allow", "fine"),
    [
        ("https://github.com/acme/docs.git", ["https://github.com/"], True),
        ("https://GitHub.com/acme/docs", ["https://github.com/acme/"], True),
        ("https://github.com/acme/docs", ["https://github.com/acme/docs"], True),
        ("https://github.com/acme2/docs", ["https://github.com/acme"], False),
        ("https://github.com.evil.com/acme/docs", ["https://github.com/"], False),
        ("http://github.com/acme/docs", ["https://github.com/"], False),
        ("https://github.com:444/acme/docs", ["https://github.com/"], False),
        ("https://me:pw@github.com/acme/docs", ["https://github.com/"], False),
        ("https://github.com/acme/../../x/docs", ["https://github.com/acme/"], False),
        ("https://github.com/acme/docs?x=1", ["https://github.com/"], False),
        ("https://github.com/acme/%2e%2e/evil/docs", ["https://github.com/acme/"], False),
        ("ssh://github.com/acme/docs", ["https://github.com/"], False),
        ("file:///etc/passwd", ["https://github.com/"], False),
        ("https://github.com", ["https://github.com/"], False),
        ("https://github.com/acme/docs", [], False),
        ("https://[::1/acme", ["https://github.com/"], False),
    ],
)
def test_the_list_of_what_may_be_cloned(url: str, allow: list[str], fine: bool) -> None:
    with contextlib.nullcontext() if fine else pytest.raises(CloneRefused):
        check_allowed(url, allow)


def test_sources_name_the_repository_plainly() -> None:
    assert plain_url("https://Example.com:8443/a/b.git/") == "https://example.com:8443/a/b"


async def test_hooks_submodules_links_and_configuration_do_nothing(tmp_path: Path) -> None:
    inner, outer, mark = tmp_path / "git/inner", tmp_path / "git/outer", tmp_path / "ran"
    commit(inner, {"secret.md": "of another repository"})
    commit(outer, {"a.md": "alpha", ".gitattributes": "*.md filter=evil\n", ".gitmodules": ""})
    (outer / "link.md").symlink_to("/etc/passwd")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(inner), "sub")
    git(outer, "add", "-A")
    git(outer, "commit", "--quiet", "-m", "more")
    hook = outer / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
    hook.chmod(0o755)
    async with git_server(tmp_path / "git") as server, cloned(f"{server}/outer") as checkout:
        assert sorted(path.name for path in checkout.folder.rglob("*") if path.is_file()) == [
            ".gitattributes",
            ".gitmodules",
            "a.md",
            "link.md",
        ]
        assert not (checkout.folder / "link.md").is_symlink()
        folder = checkout.folder
    assert not mark.exists()
    assert not folder.exists(), "nothing is left behind"


async def test_clones_have_limits_and_clear_errors(tmp_path: Path) -> None:
    commit(tmp_path / "git/docs", {f"{n}.md": f"text {n} " * 2000 for n in range(40)})
    async with git_server(tmp_path / "git") as server:
        url = f"{server}/docs"
        for limits, said in (
            (CloneLimits(files=30), "more than 30 files"),
            (CloneLimits(bytes=100_000), "more than 0 MiB"),
            (CloneLimits(seconds=0.001), "longer than"),
        ):
            with pytest.raises(CloneFailed, match=said):
                async with cloned(url, limits=limits):
                    pytest.fail("it was cloned")
        for name, ref, said in (
            ("nothing", None, "git fetch"),
            ("docs", "no-such-branch", "git fetch"),
            ("docs", "f" * 40, "git fetch"),
        ):
            with pytest.raises(CloneFailed, match=said):
                async with cloned(f"{server}/{name}", ref):
                    pytest.fail("it was cloned")
        with pytest.raises(CloneRefused, match="not a commit or branch"):
            async with cloned(url, "--upload-pack=touch x"):
                pytest.fail("it was cloned")
        with pytest.raises(CloneFailed, match="git is not installed"):
            async with cloned(url, git="no-such-git"):
                pytest.fail("it was cloned")
    with pytest.raises(CloneFailed, match="git fetch"):
        async with cloned(url):
            pytest.fail("it was cloned")


async def test_atlas_index_takes_a_url(database: Database, tmp_path: Path) -> None:
    made = commit(tmp_path / "git/docs", {"a.md": "alpha lease"})
    async with git_server(tmp_path / "git") as server:
        done = await asyncio.to_thread(run_atlas, "index", f"{server}/docs", env={"DATABASE_URL": database.url()})
        assert "1 file: 1 indexed" in done.stdout, done.stderr
        async with opened(database) as known:
            found = await find(known, "alpha")
            assert sources(found) == [f"{server}/docs/a.md"]
            assert found.chunks[0].commit == made
        for words, said in (
            (("--ref", "main", "docs"), "name its URL"),
            (("no-such-folder",), "is not there"),
        ):
            done = await asyncio.to_thread(run_atlas, "index", *words, env={"DATABASE_URL": database.url()})
            assert done.returncode == 2
            assert said in done.stderr


async def test_a_repository_is_watched(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    commit(tmp_path / "git/docs", {"a.md": "alpha lease"})
    async with git_server(tmp_path / "git") as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "atlas.cli", "index", f"{server}/docs", "--watch", "--every", "1",
            env=clean_environment() | {"DATABASE_URL": database.url()}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            await until(lambda: db.fetchval("select count(*) = 1 from rag.document"), 30, "it is indexed")
            made = commit(tmp_path / "git/docs", {"b.md": "beta lease"})
            await until(lambda: db.fetchval("select count(*) = 2 from rag.document"), 30, "the next commit is indexed")
            assert await db.fetchval("select commit from rag.document where source like '%/b.md'") == made
        finally:
            process.terminate()
            await process.wait()


async def test_one_jobs_defect_does_not_end_the_others(
    database: Database, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(database) as known:

        async def indexer(project: UUID | None) -> Indexer:
            return await known.indexer(project, COUNT)

        jobs = Jobs(known.store, owner=uuid4(), indexer=indexer, vectors=known.vectors, allow=(), lease=10, pause=0.01)
        bad, good = [
            await known.store.add_job([{"source": name, "text": name, "kind": "text"}], None) for name in ("bad", "good")
        ]
        real = known.reading.read

        async def broken(data: bytes, kind: Kind, name: str) -> Document:
            if name == "bad":
                raise MemoryError("planned")
            return await real(data, kind, name)

        monkeypatch.setattr(known.reading, "read", broken)
        for _ in range(2):
            assert await jobs.once()
        found = dict(await db.fetch("select id, state from rag.embed_job"))
        assert found == {bad: "failed", good: "completed"}
        assert await db.fetchval("select last_error from rag.embed_job where id = $1", bad) == (
            "a defect: MemoryError (the log of this process has more)"
        )
        # one that ends its process each time is given up in the end
        await db.execute(
            "update rag.embed_job set state = 'running', attempts = 20, lease_expires_at = now() where id = $1", bad
        )
        assert await jobs.once()
        assert "never ended" in await db.fetchval("select last_error from rag.embed_job where id = $1", bad)


async def test_a_project_that_is_not_there_is_refused_and_not_everybodys(db: asyncpg.Connection) -> None:
    message = docs_added("https://github.com/acme/docs")
    message["metadata"]["project"] = "no-such-project"
    with pytest.raises(asyncpg.PostgresError, match="is not a project") as refused:
        await db.execute(INSERT, message)
    assert refused.value.sqlstate == "AT001"
    message["metadata"]["project"] = "default"
    await db.execute(INSERT, message)
    assert await db.fetchval("select p.name from rag.embed_job j join atlas.project p on p.id = j.project_id") == "default"


async def test_a_late_job_of_an_older_push_brings_nothing_back(database: Database, db: asyncpg.Connection) -> None:
    url = "https://github.com/acme/docs"
    for ref in ("older", "newer"):
        await db.execute(INSERT, docs_added(url, ref=ref))
    await db.execute("update rag.embed_job set created_at = now() - interval '1 minute' where ref = 'older'")
    async with opened(database) as known:
        job = await known.store.claim_job(uuid4(), 10)
        assert job is not None
        assert job.ref == "newer"
        assert await known.store.claim_job(uuid4(), 10) is None
        assert await db.fetchval("select state from rag.embed_job where ref = 'older'") == "completed"
        # while one runs, the next waits: two clones would show their commits in any order
        await db.execute(INSERT, docs_added(url, ref="newest"))
        assert await known.store.claim_job(uuid4(), 10) is None
        await db.execute("update rag.embed_job set state = 'completed', lease_expires_at = null where ref = 'newer'")
        last = await known.store.claim_job(uuid4(), 10)
        assert last is not None
        assert last.ref == "newest"


async def test_one_document_does_not_end_its_job(database: Database, db: asyncpg.Connection) -> None:
    async with models_double() as models, opened(database, **embedding(models.url)) as known:
        hurried = replace(known, reading=ReadingProcess(seconds=2))

        async def indexer(project: UUID | None) -> Indexer:
            return await hurried.indexer(project, COUNT)

        bad = {
            "slow.html": "<a" * 200_000,
            "nul.ipynb": '{"cells": [{"cell_type": "code", "source": "a\\u0000b \\ud800"}]}', "marked.html": "<![foo[bar]]>",
            "".join(chr(0x4E00 + n) for n in range(1900)) + ".md": "too long a name", "deep.html": "<i>" * 3000 + "lease",
        }  # fmt: skip
        items = [{"source": name, "text": text, "kind": None} for name, text in bad.items()]
        job = await known.store.add_job([*items, {"source": "good.md", "text": "the lease", "kind": None}], None)
        jobs = Jobs(known.store, owner=uuid4(), indexer=indexer, vectors=known.vectors, allow=(), lease=10, pause=0.01)
        assert await jobs.once()
        row = await db.fetchrow("select state, done, total, errors from rag.embed_job where id = $1", job)
        assert (row["state"], row["done"], row["total"]) == ("completed", 6, 6), row["errors"]
        assert "slow.html: reading it takes more than 2 s" in row["errors"]
        assert any(error.startswith("marked.html: its reader does not understand it") for error in row["errors"])
        assert "good.md" in [row["source"] for row in await db.fetch("select source from rag.document")]
        # what the embedder refuses: the third time it is that document's fault, and not the key's
        job = await known.store.add_job([{"source": n, "text": f"text {n}", "kind": "text"} for n in ("x", "y")], None)
        for status in (400, 400, 400):
            models.errors = [status]
            await db.execute("update rag.embed_job set run_after = now() where id = $1", job)
            assert await jobs.once()
        row = await db.fetchrow("select state, done, errors from rag.embed_job where id = $1", job)
        assert (row["state"], row["done"]) == ("completed", 2)
        assert [error.split(":")[0] for error in row["errors"]] == ["x"]
        await hurried.reading.close()
