"""`atlas doctor --production`: each thing that the manual asks for is found where it is missing, and where it is there."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import asyncpg

from tests.support.core import Database, run_atlas


async def findings(env: dict[str, str], code: int) -> list[dict[str, Any]]:
    done = await asyncio.to_thread(run_atlas, "doctor", "--production", "--json", env=env)
    assert done.returncode == code, done.stdout + done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def said(found: list[dict[str, Any]], state: str, words: str) -> bool:
    return any(row["state"] == state and words in f"{row['what']}: {row['text']}" for row in found)


async def test_what_is_missing_is_found(database: Database, db: asyncpg.Connection) -> None:
    await db.execute("create table public.notes (id integer)")
    found = await findings(
        {
            "DATABASE_URL": database.url(), "OPENAI_API_KEY": "k", "ATLAS_HTTP_HOST": "10.0.0.1", "RAG_URL": "http://rag.example.com:8501",
            "RAG_API_KEY": "k" * 32, "SUPABASE_URL": "http://supabase.example.com", "SUPABASE_SERVICE_ROLE_KEY": "eyJ.eyJ.sig",
            "PUBSUB_PROJECT_ID": "acme",
        }, 7,
    )  # fmt: skip
    for state, words in (
        ("warning", "secrets: OPENAI_API_KEY is in the environment"), ("warning", "TLS: ATLAS_HTTP_HOST=10.0.0.1 speaks plain HTTP"),
        ("problem", "TLS: RAG_URL is not encrypted"), ("problem", "TLS: SUPABASE_URL is not encrypted"),
        ("warning", "Supabase key: a legacy service_role JWT"), ("problem", "audit: it is not sealed"),
        ("warning", "money: only tokens are limited"), ("problem", "database: it connects as postgres"),
        ("problem", "row level security: it is off for public.notes"), ("check", "logs: turn on Supabase's audit logs"),
        ("check", "logs: turn on Data Access audit logs of the Pub/Sub API in acme"),
    ):  # fmt: skip
        assert said(found, state, words), (state, words, found)


async def test_what_is_there_is_said(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    def secret(name: str, text: str, days: float = 0) -> str:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o440)
        os.utime(path, (time.time() - days * 86_400,) * 2)
        return str(path)

    await db.execute(
        "insert into atlas.destination (name, kind, target, secret_name) "
        "values ('hook', 'webhook', 'https://hooks.example.com/x', 'ATLAS_WEBHOOK_SECRET')"
    )
    env = {
        "DATABASE_URL_FILE": secret("url", database.url("atlas_worker")), "OPENAI_API_KEY_FILE": secret("openai", "k", days=100),
        "ATLAS_AUDIT_KEY_FILE": secret("audit", "k" * 32), "DAILY_USD_BUDGET": "5", "SUPABASE_URL": "https://supabase.example.com",
        "SUPABASE_SECRET_KEY_FILE": secret("supabase", "sb_secret_" + "x" * 30),
    }  # fmt: skip
    found = await findings(env, 0)
    for state, words in (
        ("warning", "OPENAI_API_KEY is 100 days old"), ("ok", "ATLAS_AUDIT_KEY is from a file, 0 days old"), ("ok", "audit: it is sealed"),
        ("ok", "it connects as atlas_worker, which owns nothing"), ("ok", "row level security: it is on for every table"),
        ("ok", "Supabase key: a secret key"), ("ok", "money: 5 USD"),
    ):  # fmt: skip
        assert said(found, state, words), (state, words, found)
    (egress,) = [row["text"] for row in found if row["what"] == "egress"]
    assert "api.openai.com, hooks.example.com" in egress
    Path(env["ATLAS_AUDIT_KEY_FILE"]).chmod(0o446)
    found = await findings(
        {**env, "OPENAI_API_KEY_FILE": "", "OPENAI_API_KEY": "k", "ATLAS_WEBHOOK_SECRET_OPS": "whsec_" + "A" * 32}, 7
    )
    assert said(found, "problem", "ATLAS_AUDIT_KEY_FILE=" + env["ATLAS_AUDIT_KEY_FILE"] + " is world-writable")
    assert said(found, "warning", "OPENAI_API_KEY is in the environment"), "an empty file's name counts as none"
    assert said(found, "warning", "ATLAS_WEBHOOK_SECRET_OPS is in the environment")
    found = await findings({"SUPABASE_URL": "https://supabase.example.com", "SUPABASE_SECRET_KEY": "sb_secret_x"}, 7)
    assert said(found, "problem", "set DATABASE_URL to the project's Postgres"), "the other findings are shown all the same"
    assert said(found, "ok", "Supabase key")
    # a database on another machine, whose certificate nobody checks
    far = {"DATABASE_URL": "postgresql://atlas_worker:x@db.example.com:5432/postgres?sslmode=require&connect_timeout=1"}
    found = await findings({**env, "DATABASE_URL_FILE": "", **far}, 7)
    assert said(found, "problem", "TLS: sslmode=require does not check who Postgres at db.example.com is")
