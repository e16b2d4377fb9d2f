"""What tests of retrieval share: an index over a database, the service and the embed-worker as processes, users, repositories."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from atlas.database.pool import Pool
from atlas.llm.tokens import Vocabularies
from atlas.local.postgres import free_port
from atlas.rag.search import Query
from atlas.rag.wiring import Knowledge, knowledge
from atlas.task import Retrieved
from atlas.variables import load
from tests.support.core import ROOT, Database, Json, clean_environment, until

COUNT = Vocabularies().counter("o200k_base")
KEY = "a key of the service that is long enough"
ANN = UUID("00000000-0000-0000-0000-00000000000a")
BOB = UUID("00000000-0000-0000-0000-00000000000b")


@asynccontextmanager
async def opened(database: Database, role: str = "postgres", **settings: str) -> AsyncIterator[Knowledge]:
    """Retrieval in this process."""
    found = load({name.upper(): value for name, value in settings.items()})
    async with Pool.connect(database.url(role), patience=5) as bus, knowledge(found, bus) as known:
        yield known


def embedding(url: str, **more: str) -> dict[str, str]:
    """Settings of an embedder at a double."""
    return {
        "rag_embedder": "openai", "rag_embed_url": f"{url}/v1", "rag_embed_api_key": "sk-test", "rag_embed_model": "words",
        "rag_embed_dimensions": "64", "rag_relevancy_threshold": "0",
    } | more  # fmt: skip


async def put(known: Knowledge, source: str, text: str, project: UUID | None = None, **more: Any) -> None:
    """Indexes one document."""
    indexer = await known.indexer(project, COUNT)
    await indexer.put(source, text.encode(), more.pop("kind", "markdown"), **more)


async def find(known: Knowledge, text: str, top_k: int = 5, **more: Any) -> Retrieved:
    """Searches as the service role."""
    return await known.searcher.search(Query(text=text, top_k=top_k, **more))


def sources(found: Retrieved) -> list[str]:
    return [chunk.source for chunk in found.chunks]


async def team(db: asyncpg.Connection, name: str, *users: UUID) -> UUID:
    """A project with members."""
    project = await db.fetchval("insert into atlas.project (name) values ($1) returning id", name)
    await db.executemany("insert into atlas.member (project_id, user_id) values ($1, $2)", [(project, user) for user in users])
    return UUID(str(project))


@dataclass(kw_only=True)
class Service:
    """`atlas rag serve` as a process."""

    database: Database
    log: Path
    env: dict[str, str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        env = clean_environment() | {
            "DATABASE_URL": self.database.url("atlas_rag"), "RAG_HTTP_PORT": str(self.port), "ATLAS_LEASE_SECONDS": "2",
        }  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "atlas.cli", "rag", "serve"], env=env | self.env, stdout=log, stderr=log, cwd=ROOT
            )

        async def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            try:
                async with httpx.AsyncClient() as web:
                    return (await web.get(f"{self.url}/healthz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(answers, 40, "the service answers")

    async def call(self, method: str, path: str, body: Any = None, *, key: str | None = KEY, **more: Any) -> httpx.Response:
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        async with httpx.AsyncClient(timeout=20) as web:
            content = more.pop("content", None if body is None else json.dumps(body).encode())
            return await web.request(
                method, self.url + path, content=content, headers=headers | more.pop("headers", {}), **more
            )

    async def json(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        answer = await self.call(method, path, body, **more)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def job(self, job_id: str, seconds: float = 30) -> Json:
        """The job once it has ended."""

        async def ended() -> Json | None:
            found: Json = await self.json("GET", f"/v1/jobs/{job_id}")
            return found if found["state"] in ("completed", "failed") else None

        found: Json = await until(ended, seconds, f"job {job_id} ends")
        return found

    def kill(self) -> None:
        """As kill -9 does."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


@asynccontextmanager
async def service(database: Database, folder: Path, **env: str) -> AsyncIterator[Service]:
    """The service, with its key."""
    settings = {"RAG_API_KEY": KEY} | {name.upper(): value for name, value in env.items()}
    found = Service(database=database, log=folder / "rag.log", env=settings)
    try:
        await found.start()
        yield found
    finally:
        found.kill()


def git(folder: Path, *words: str) -> str:
    """The real git, with a name for commits."""
    env = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.com",
        "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.com", "GIT_CONFIG_NOSYSTEM": "1",
    }  # fmt: skip
    done = subprocess.run(["git", *words], cwd=folder, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, files: dict[str, str]) -> str:
    """A commit of files; makes the repository when it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch=main")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "x")
    return git(folder, "rev-parse", "HEAD")


@asynccontextmanager
async def git_server(root: Path) -> AsyncIterator[str]:
    """Serves the repositories under a folder by the dumb protocol of Git over HTTP: files, and nothing else. Shallow fetches
    need the smart one, so each request goes to `git http-backend`, as a web server's CGI does."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from tests.doubles.serving import serving

    async def backend(request: Request) -> Response:
        env = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.url.path, "REQUEST_METHOD": request.method, "QUERY_STRING": request.url.query,
            "CONTENT_TYPE": request.headers.get("content-type", ""), "HTTP_GIT_PROTOCOL": request.headers.get("git-protocol", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""), "REMOTE_USER": "", "REMOTE_ADDR": "127.0.0.1",
            "GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
            "GIT_CONFIG_KEY_1": "uploadpack.allowReachableSHA1InWant", "GIT_CONFIG_VALUE_1": "true",
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            "git", "http-backend", env=env, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate(await request.body())
        head, _, body = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        return Response(body, status_code=status, headers=headers)

    app = Starlette(routes=[Route("/{path:path}", backend, methods=["GET", "POST"])])
    async with serving(app) as port:
        yield f"http://127.0.0.1:{port}"
