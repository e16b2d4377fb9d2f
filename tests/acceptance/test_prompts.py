"""Prompts: what a model was asked is kept exactly, until its task is trimmed or erased, and can be asked again."""

from __future__ import annotations

import hashlib
import json
from uuid import UUID, uuid4

import asyncpg
import pytest

from atlas.architect.kinds import PROMPTS, text_of
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, ROOT, Database, Workers, ask, atlas_on, ended, reply
from tests.support.knowledge import opened, put
from tests.support.people import ANN, BOB, acting

KNOWN = "We ship on Fridays, from the `main` branch, and nobody minds."


async def asked(database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble) -> UUID:
    async with opened(database) as known:
        await put(known, "shipping.md", KNOWN, kind="text")
    openai.plan(text=ADR.replace("Merges are rare [assumed].", "We ship on Fridays [S1]."))
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    task = await ask(db, "How should we ship on Fridays?")
    assert (await ended(db, task))["state"] == "completed"
    return task


async def test_a_prompt_is_kept_as_it_was_sent_and_the_audit_has_its_hash(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    task = await asked(database, db, workers, openai)
    (row,) = await db.fetch("select * from atlas.read_prompts($1)", task)
    (call,) = openai.calls
    sent = [["instructions", call["instructions"]], *([turn["role"], turn["content"]] for turn in call["input"])]
    assert row["turns"] == sent
    whole = json.dumps(sent, ensure_ascii=False, separators=(",", ":"))
    assert row["sha256"] == hashlib.sha256(whole.encode()).hexdigest()
    detail = await db.fetchval("select detail from atlas.audit where task_id = $1 and event = 'keep_prompt'", task)
    assert detail == {"call": 0, "sha256": row["sha256"]}
    assert (row["model"], row["version"], row["parameters"]["kind"]) == (call["model"], PROMPTS, "adr")
    assert row["parameters"]["max_output_tokens"] == call["max_output_tokens"]
    stored = await db.fetchval("select body::text from atlas.prompt")
    assert KNOWN not in stored, "a passage is kept once, by its hash"
    second = await ask(db, "How should we ship on Mondays or Fridays?")
    await ended(db, second)
    assert await db.fetchval("select count(*) from atlas.prompt") == 2
    assert await db.fetchval("select count(*) from atlas.prompt_text") == 2
    assert await db.fetch("select * from atlas.verify_audit()") == []


async def test_a_prompt_goes_with_its_task(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    task = await asked(database, db, workers, openai)
    await db.execute("select atlas.erase($1)", task)
    assert await db.fetchval("select count(*) from atlas.prompt") == 0
    assert await db.fetchval("select atlas.trim_prompt_texts()") == 0, "another prompt may be about to have them"
    await db.execute("update atlas.prompt_text set seen_at = now() - interval '2 days'")
    assert await db.fetchval("select atlas.trim_prompt_texts()") == 2
    assert await db.fetchval("select count(*) from atlas.prompt_text") == 0


async def test_only_who_may_read_a_task_reads_its_prompts(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=ADR)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    task = uuid4()
    message = {"task_id": str(task), "role": "architect", "msg_type": "chat", "content": "Mine?"}
    await db.execute("insert into public.architect_in (data, sender) values ($1, $2)", message, ANN)
    await ended(db, task)
    async with acting(database, "authenticated", ANN) as ann:
        assert len(await ann.fetch("select * from atlas.read_prompts($1)", task)) == 1
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ann.fetch("select * from atlas.prompt")
    async with acting(database, "authenticated", BOB) as bob:
        with pytest.raises(asyncpg.PostgresError, match="no task"):
            await bob.fetch("select * from atlas.read_prompts($1)", task)


async def test_who_has_left_a_project_reads_none_of_its_passages(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    project = await db.fetchval("select atlas.create_project('payments')")
    await db.execute("insert into atlas.member (project_id, user_id) values ($1, $2)", project, ANN)
    async with opened(database) as known:
        await put(known, "shipping.md", KNOWN, kind="text")
    openai.plan(text=ADR)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    task = uuid4()
    message = {"task_id": str(task), "role": "architect", "msg_type": "chat", "content": "How do we ship on Fridays?",
               "metadata": {"project": "payments"}}  # fmt: skip
    await db.execute("insert into public.architect_in (data, sender) values ($1, $2)", message, ANN)
    await ended(db, task)
    async with acting(database, "authenticated", ANN) as ann:
        assert len(await ann.fetch("select * from atlas.read_prompts($1)", task)) == 1
    await db.execute("delete from atlas.member where user_id = $1", ANN)
    async with acting(database, "authenticated", ANN) as ann:
        assert await ann.fetch("select * from atlas.read_prompts($1)", task) == []


async def test_a_reply_is_written_once_more_from_the_same_sources(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    task = await asked(database, db, workers, openai)
    async with opened(database) as known:
        await put(known, "shipping.md", "We never ship.", kind="text")
    openai.plan(
        model="gpt-6-luna", text=ADR.replace("Merges are rare [assumed].", "We ship on Fridays [S1]. It is odd [inferred].")
    )
    said = await atlas_on(database, "replay", str(task), "--model", "gpt-6-luna")
    assert len(openai.calls) == 2
    assert openai.calls[1]["model"] == "gpt-6-luna"
    for name in ("instructions", "input"):
        assert openai.calls[1][name] == openai.calls[0][name], "the very prompt, whatever is indexed now"
    assert "## Context (changed)\n+ It is odd [inferred]." in said
    assert "gpt-6-luna" in said
    new = await db.fetchval("select id from atlas.task order by queued_at desc limit 1")
    metadata = (await reply(db, new))["metadata"]
    assert metadata["claims"]["unsupported"] == []
    assert metadata["sources"][0]["path"] == "shipping.md:1-1"
    assert await db.fetchval("select count(*) from atlas.open_draft") == 1, "it is no draft of its own"
    measures, _ = json.JSONDecoder().raw_decode(await atlas_on(database, "replay", str(task), "--json"))
    assert measures["before"]["tokens in"] == measures["after"]["tokens in"] == 100
    assert [one for one in measures["changes"] if one["state"] != "same"] == []
    await db.execute("delete from atlas.prompt")
    assert "the prompt of that reply was deleted" in await atlas_on(database, "replay", str(task), code=5)


def test_the_version_of_the_prompts_goes_up_with_each_change() -> None:
    """Whoever changes a prompt raises PROMPTS in atlas/architect/kinds.py, and writes the new hash here."""
    names = sorted(path.stem for path in (ROOT / "atlas/architect/prompts").glob("*.md"))
    digest = hashlib.sha256("\n".join(text_of(name) for name in names).encode()).hexdigest()
    assert (PROMPTS, digest[:16]) == ("2", "49241b3f72dc2263")
