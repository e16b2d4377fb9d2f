"""Logs: which task each line is about; no secret in them, and no text of a task unless it is asked for."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest

from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, Workers, ask, ended

QUESTION = "How do we hide the treasure of Rackham?"
KEY = "sk-a-key-that-nobody-may-read"
SECRETS = {
    "openai_api_key": KEY,
    "atlas_audit_key": "audit-key-of-thirty-two-characters!",
    "atlas_webhook_secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
}


async def logged(db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble, **settings: Any) -> tuple[str, str, str]:
    """What a worker logs of a task that is answered and of one that fails, with the ids of the latter and its attempt."""
    openai.plan(text=ADR)
    openai.plan(
        match="Haddock", error=(400, {"message": "it broke", "type": "invalid_request_error", "code": "invalid_prompt"})
    )
    worker = await workers.start(
        ("-m", "atlas.cli", "worker"), openai_base_url=openai.url, openai_fallback_models="none", **{**SECRETS, **settings}
    )
    assert (await ended(db, await ask(db, QUESTION)))["state"] == "completed"
    task = await ask(db, "Where is Haddock?")
    assert (await ended(db, task))["state"] == "failed"
    attempt = await db.fetchval("select id from atlas.attempt where task_id = $1", task)
    return worker.log.read_text(), str(task), str(attempt)


async def test_json_lines_say_which_task_and_attempt_they_are_about(
    db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    text, task, attempt = await logged(db, workers, openai, atlas_log_format="json")
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(*(set(line) for line in lines))
    broke = [line for line in lines if "it broke" in line["message"]]
    assert broke, text
    assert all((line["task_id"], line["attempt_id"]) == (task, attempt) for line in broke)
    assert not any("task_id" in line for line in lines if line["logger"] == "atlas.service"), "those of the worker name none"


async def test_console_lines_name_them_too(db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble) -> None:
    text, task, attempt = await logged(db, workers, openai)
    broke = [line for line in text.splitlines() if "it broke" in line]
    assert broke
    assert task in broke[0]
    assert f"attempt_id={attempt}" in broke[0]


@pytest.mark.parametrize("style", ["console", "json"])
async def test_they_hold_no_secret_and_no_text_of_a_task(
    db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble, style: str
) -> None:
    text, _, _ = await logged(db, workers, openai, atlas_log_format=style)
    for secret in (*SECRETS.values(), workers.database.cluster.worker_password):
        assert str(secret) not in text
    assert "Rackham" not in text
    assert "Haddock" not in text
    assert "Ship with a pipeline" not in text


async def test_prompts_are_logged_where_it_is_asked_for(db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble) -> None:
    text, task, _ = await logged(db, workers, openai, atlas_log_format="json", atlas_log_prompts="true")
    prompts = [line for line in map(json.loads, text.splitlines()) if line["logger"] == "atlas.prompts"]
    assert any(QUESTION in line["message"] for line in prompts)
    assert any("Haddock" in line["message"] and line["task_id"] == task for line in prompts)
    assert KEY not in text
