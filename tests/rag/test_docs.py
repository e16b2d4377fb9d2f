"""What docs/knowledge.md, docs/errors.md and deploy/ say of retrieval is true."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path
from typing import Any

import asyncpg
from ruamel.yaml import YAML

from atlas.settings import Settings
from tests.doubles.models import models_double
from tests.support.core import ROOT, Database, run_atlas
from tests.support.knowledge import embedding, service

PAGE = (ROOT / "docs/knowledge.md").read_text()
NAMES = {name.upper() for name in Settings.model_fields}


def test_every_setting_that_is_named_exists() -> None:
    named = set(re.findall(r"\b(?:RAG|SUPABASE|OPENAI)_[A-Z_]+\b", PAGE))
    assert len(named) > 10
    assert {name.removesuffix("_FILE") for name in named} <= NAMES
    # and every setting of retrieval is told of, here or in .env.example
    told = PAGE + (ROOT / ".env.example").read_text()
    assert [name for name in NAMES if name.startswith("RAG_") and name not in told] == []


def test_every_code_of_the_service_stands_in_the_table_of_errors() -> None:
    table = (ROOT / "docs/errors.md").read_text().partition("## Codes of the RAG service")[2].partition("\n## ")[0]
    source = (
        (ROOT / "atlas/rag/service/api.py").read_text()
        + (ROOT / "atlas/rag/service/gateway.py").read_text()
        + (ROOT / "atlas/rag/service/bodies.py").read_text()
    )
    used = set(re.findall(r'(?:CallRefused|_error)\(\s*\d{3}, "(\w+)"', source)) | {"too_large"}
    assert len(used) >= 12
    assert [code for code in used - {"internal"} if f"`{code}`" not in table] == []


async def test_the_commands_run_as_they_stand(database: Database, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for n in range(30):
        (tmp_path / f"docs/{n}.md").write_text(f"# Chapter {n} of access\n\n" + f"who may read reply number{n} and why. " * 8)
    (tmp_path / "cases.jsonl").write_text('{"question": "who may read reply number7", "relevant": ["docs/7.md"]}\n')
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.strip().splitlines()]
    commands = [line[1:] for line in lines if line and line[0] == ".venv/bin/atlas"]
    assert {tuple(command[:2]) for command in commands} >= {
        ("index", "docs/"),
        ("rag", "status"),
        ("rag", "calibrate"),
        ("rag", "eval"),
    }
    async with models_double(dimensions=256) as models:
        settings = embedding(models.url, rag_embed_dimensions="256")
        env = {"DATABASE_URL": database.url()} | {name.upper(): value for name, value in settings.items()}
        for command in commands:
            done = await asyncio.to_thread(run_atlas, *command, env=env, cwd=tmp_path)
            assert done.returncode == 0, (command, done.stderr)
            assert done.stdout, command
    assert (tmp_path / "eval.svg").read_text().startswith("<svg")


async def test_the_calls_are_those_of_the_service(database: Database, tmp_path: Path) -> None:
    async with service(database, tmp_path) as rag:
        described = (await rag.call("GET", "/openapi.json")).json()["paths"]
    routes = {(method.upper(), path) for path, methods in described.items() for method in methods}
    table = PAGE.partition("| call | body | answer |")[2].partition("\n\n")[0]
    told = {(m, p) for m, p in re.findall(r"`(GET|POST|DELETE) (/[\w/{}]+)", table)}
    assert told == {route for route in routes if route[1] != "/metrics"} | {("GET", "/healthz")}


async def test_the_sql_is_a_job(db: asyncpg.Connection) -> None:
    (statement,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    await db.execute(statement)
    assert await db.fetchval("select repository from rag.embed_job where state = 'queued'") == "https://github.com/acme/docs"


async def test_the_nightly_refresh_runs_from_both(database: Database, db: asyncpg.Connection) -> None:
    await db.execute(
        "insert into rag.embed_job (repository, state, finished_at) values ('https://github.com/acme/docs', 'completed', now())"
    )
    # pg_cron is not in this Postgres: what it would be told is read, and run as it would
    sql = (ROOT / "deploy/pg_cron/atlas_index_refresh.sql").read_text()
    name, schedule, statement = re.findall(r"cron\.schedule\('([^']+)', '([^']+)', '([^']+)'\)", sql)[0]
    assert (name, len(schedule.split())) == ("atlas-index-refresh", 5)
    assert await db.fetchval(statement) == 1
    assert await db.fetchval(statement) == 0, "what waits already is not queued twice"
    cron, *_ = documents("index-refresh.yaml")
    assert (cron["kind"], cron["metadata"]["name"]) == ("CronJob", "atlas-index-refresh")
    assert cron["spec"]["schedule"] == schedule
    (container,) = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    done = await asyncio.to_thread(run_atlas, *container["args"], env={"DATABASE_URL": database.url()})
    assert done.returncode == 0, done.stderr
    assert "0 repositories are queued" in done.stdout


def documents(name: str) -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all(ROOT / "deploy/kubernetes/base" / name))
