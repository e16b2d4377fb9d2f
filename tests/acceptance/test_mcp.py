"""Atlas for agents: the protocol's official client, over standard input and over HTTP, against real processes."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import asyncpg
import httpx2
import mcp_types as types
import pytest
from mcp import Client, ClientSession, StdioServerParameters, stdio_client
from mcp.client.extension import ClientExtension, ResultClaim
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from pydantic import Field

from atlas.mcp.http import LARGEST
from atlas.mcp.work import IDENTIFIER
from atlas.supabase.keys import mint
from tests.acceptance.test_decisions import answered
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, ROOT, Database, WorkerProcess, Workers, ask, ended, stand_in_of, until
from tests.support.people import ANN, BOB

BINDS = {"constraints": ["Handlers must be idempotent."], "paths": ["src/**"], "checks": ["pytest tests/api"]}
ITEMS = [{"title": "Add the key", "body": "#### Context\n\nThere is none."}, {"title": "Use it", "body": "#### Context\n\nx"}]
TOOLS = [
    "answer",
    "ask",
    "check",
    "decisions",
    "get_decision",
    "get_task",
    "report_work_item",
    "search",
    "take_work_item",
    "work_items",
]


class Created(types.Result):
    result_type: Literal["task"] = Field("task", alias="resultType")
    task_id: str = Field(alias="taskId")
    status: str


class Detailed(types.Result):
    task_id: str = Field(alias="taskId")
    status: str
    result: dict[str, Any] | None = None


class TaskParams(types.RequestParams):
    task_id: str = Field(alias="taskId")


class GetTask(types.Request[TaskParams, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    params: TaskParams
    name_param = "taskId"


class CancelTask(types.Request[TaskParams, Literal["tasks/cancel"]]):
    method: Literal["tasks/cancel"] = "tasks/cancel"
    params: TaskParams
    name_param = "taskId"


class KnowsTasks(ClientExtension):
    identifier = IDENTIFIER

    def claims(self) -> list[Any]:
        async def resolve(created: Any, context: Any) -> Any:
            return await finished(context.session, created.task_id)

        return [ResultClaim(result_type="task", model=Created, resolve=resolve)]


async def finished(session: Any, task_id: str) -> types.CallToolResult:
    async with asyncio.timeout(60):
        while True:
            found = await session.send_request(GetTask(params=TaskParams(taskId=task_id)), Detailed)
            if found.status == "completed":
                return types.CallToolResult.model_validate(found.result)
            await asyncio.sleep(0.2)


def said(result: Any) -> str:
    """What a tool answered, whitespace evened out."""
    return " ".join("\n".join(part.text for part in result.content).split())


def stdio(database: Database, **env: str) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable, args=["-m", "atlas.cli", "mcp"], cwd=str(ROOT), env={"DATABASE_URL": database.url(), **env}
    )


@asynccontextmanager
async def over_http(worker: WorkerProcess, token: str, **how: Any) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=30) as http,
        Client(streamable_http_client(f"http://127.0.0.1:{worker.port}/mcp", http_client=http), **how) as client,
    ):
        yield client


@asynccontextmanager
async def served(
    database: Database, workers: Workers, **settings: Any
) -> AsyncIterator[tuple[WorkerProcess, dict[UUID, str], Any]]:
    """A worker with /mcp over a stand-in of Supabase, and the tokens of two people."""
    async with stand_in_of(database) as stand_in:
        worker = await workers.start(
            supabase_url=stand_in.url, supabase_publishable_key=stand_in.keys.publishable, supabase_secret_key=stand_in.keys.secret,
            **settings,
        )  # fmt: skip
        async with database.connect() as db:
            for number, one in enumerate((ANN, BOB)):
                await db.execute(
                    "insert into auth.users (id, email) values ($1, $2) on conflict do nothing", one, f"p{number}@example.com"
                )
        tokens = {
            one: mint(stand_in.keys.jwt_secret, {"sub": str(one), "role": "authenticated", "aud": "authenticated"}, lasts=3600)
            for one in (ANN, BOB)
        }
        yield worker, tokens, stand_in


async def accepted(db: asyncpg.Connection, title: str = "Use keys", **how: Any) -> UUID:
    task = await answered(db, title, kind="adr", record=BINDS, work_items=ITEMS, **how)
    await db.execute("select atlas.accept($1)", task)
    return task


async def test_a_scripted_implementer_goes_from_a_decision_to_a_commit(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    task = await accepted(db)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    async with Client(stdio(database)) as client:
        assert sorted(one.name for one in (await client.list_tools()).tools) == TOOLS
        assert "Handlers must be idempotent." in said(await client.call_tool("decisions", {"paths": ["src/api.py"]}))
        assert said(await client.call_tool("decisions", {"paths": ["docs/a.md"]})) == "No decision governs this."
        prompt = await client.get_prompt("implement_decision", {"number": "1"})
        assert "Implement ADR-1." in " ".join(prompt.messages[0].content.text.split())  # type: ignore[union-attr]
        listed = await client.call_tool("work_items", {"task": str(task)})
        assert "1. Add the key (open) 2. Use it (open)" in said(listed)
        assert "It is yours (ADR-1 accepted). # Add the key" in said(
            await client.call_tool("take_work_item", {"task": str(task), "item": 1})
        )
        check = await client.call_tool("check", {"paths": ["src/api.py"]})
        assert check.structured_content is not None
        assert check.structured_content["commands"] == ["pytest tests/api"]
        (tmp_path / "src").mkdir()
        (tmp_path / "src/api.py").write_text("KEY = 'Idempotency-Key'\n")
        git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.com"]
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", "Add the key"], check=True)
        commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
        why = [{"constraint": "Handlers must be idempotent.", "reason": "the import runs once by design"}]
        report = {"task": str(task), "item": 1, "state": "done", "commit": commit, "deviations": why}
        assert said(await client.call_tool("report_work_item", report)) == "Item 1 is done."
        assert "Handlers must be idempotent.: the import runs once by design" in said(
            await client.call_tool("get_decision", {"number": 1})
        )
        # the decision changes while the second item is worked on
        await client.call_tool("take_work_item", {"task": str(task), "item": 2})
        other = await answered(db, "Use tokens", kind="adr", record=BINDS)
        await db.execute("select atlas.accept($1, null, '{1}')", other)
        told = said(await client.call_tool("report_work_item", {"task": str(task), "item": 2, "state": "blocked"}))
        assert "The decision changed: ADR-1 accepted when you took the item, ADR-1 superseded by ADR-2 now" in told
        assert "It does not hold: do not work by it." in said(await client.call_tool("get_decision", {"number": 1}))
        refused = await client.call_tool("take_work_item", {"task": str(task), "item": 2})
        assert refused.is_error
        assert "ADR-1 superseded by ADR-2" in said(refused)
    row = await db.fetchrow("select state, commit, taken_by from atlas.work_item where number = 1")
    assert (row["state"], row["commit"]) == ("done", commit)
    events = [row["event"] for row in await db.fetch("select event from atlas.audit where task_id = $1 order by seq", task)]
    assert events[-4:] == ["report_work_item", "take_work_item", "supersede", "report_work_item"]
    assert await db.fetch("select * from atlas.verify_audit()") == []


async def test_asking_says_the_price_first_and_a_task_outlives_its_server(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=ADR, delay=0.2)
    given: dict[str, Any] = {"openai_api_key": "sk-test", "openai_base_url": openai.url, "atlas_lease_seconds": "2"}
    async with served(database, workers, **given) as (worker, tokens, stand_in):
        question = {"question": "Which database do we use for sessions, and should we?"}
        async with over_http(worker, tokens[ANN], extensions=[KnowsTasks()]) as client:
            price = await client.call_tool("ask", question)
            assert re.match(r"It costs at most \$\d", said(price))
            assert await db.fetchval("select count(*) from atlas.task") == 0, "nothing is asked before the price is agreed to"
            dear = await client.call_tool("ask", question | {"at_most_usd": 0.000001})
            assert dear.is_error
            assert "more than at_most_usd" in said(dear)
            created = await client.session.call_tool("ask", question | {"at_most_usd": 100}, allow_claimed=True)
            assert isinstance(created, Created)
            await until(lambda: db.fetchval("select exists (select from atlas.reply_part)"), 20, "it writes")
            worker.process.kill()
            worker.process.wait()
            again = await workers.start(
                atlas_http_port=worker.port, supabase_url=stand_in.url, supabase_publishable_key=stand_in.keys.publishable,
                supabase_secret_key=stand_in.keys.secret, **given,
            )  # fmt: skip
            assert again.port == worker.port
            result = await finished(client.session, created.task_id)
        assert ADR.split("\n", 1)[0] in said(result)
        assert len(openai.calls) == 1, "not paid for twice"
        async with over_http(again, tokens[BOB], extensions=[KnowsTasks()]) as client:
            with pytest.raises(MCPError, match="Task not found"):
                await client.session.send_request(GetTask(params=TaskParams(taskId=created.task_id)), Detailed)
        openai.plan(text=ADR, delay=5)
        async with over_http(again, tokens[ANN], extensions=[KnowsTasks()]) as client:
            other = await client.session.call_tool(
                "ask", {"question": "Should we cancel this one?", "at_most_usd": 100}, allow_claimed=True
            )
            assert isinstance(other, Created)
            await client.session.send_request(CancelTask(params=TaskParams(taskId=other.task_id)), types.Result)
            await until(
                lambda: db.fetchval("select state = 'cancelled' from atlas.task where id = $1", UUID(other.task_id)),
                20,
                "its end",
            )


async def test_older_clients_are_served_too(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble
) -> None:
    openai.plan(text=ADR)
    await accepted(db)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    for version in ("2025-06-18", "2025-11-25"):
        async with stdio_client(stdio(database)) as (reads, writes), ClientSession(reads, writes) as session:
            hello = types.InitializeRequest(
                params=types.InitializeRequestParams(
                    protocol_version=version,
                    capabilities=types.ClientCapabilities(),
                    client_info=types.Implementation(name="t", version="1"),
                )
            )
            answer = await session.send_request(hello, types.InitializeResult)
            assert answer.protocol_version == version
            session.adopt(answer)
            await session.send_notification(types.InitializedNotification())
            assert "ADR-1 Use keys" in said(await session.call_tool("decisions", {}))
            asked = await session.call_tool("ask", {"question": f"Which database, {version}?", "at_most_usd": 100})
            assert isinstance(asked, types.CallToolResult)
            assert asked.structured_content is not None, said(asked)
            task = asked.structured_content["task_id"]
            await ended(db, UUID(task))
            assert "# Ship with a pipeline" in said(await session.call_tool("get_task", {"task": task}))


async def test_each_request_is_answered_for_its_own_login(database: Database, db: asyncpg.Connection, workers: Workers) -> None:
    project = await db.fetchval("select atlas.create_project('payments')")
    await db.execute("insert into auth.users (id, email) values ($1, 'p0@example.com') on conflict do nothing", ANN)
    await db.execute("insert into atlas.member (project_id, user_id) values ($1, $2)", project, ANN)
    task = await answered(db, "Use keys", sender=ANN, kind="adr", record=BINDS, work_items=ITEMS, project="payments")
    await db.execute("update atlas.task set project_id = $2 where id = $1", task, project)
    await db.execute("select atlas.accept($1)", task)
    async with (
        served(database, workers) as (worker, tokens, _),
        over_http(worker, tokens[ANN]) as ann,
        over_http(worker, tokens[BOB]) as bob,
    ):
        for _ in range(3):
            one, two = await asyncio.gather(ann.call_tool("decisions", {}), bob.call_tool("decisions", {}))
            assert "ADR-1 Use keys" in said(one)
            assert said(two) == "No decision governs this."
        taken = await bob.call_tool("take_work_item", {"task": str(task), "item": 1})
        assert taken.is_error
        assert "no task" in said(taken)
        assert not (await ann.call_tool("take_work_item", {"task": str(task), "item": 1})).is_error
        wrong = await ann.call_tool("report_work_item", {"task": str(task), "item": 2, "state": "done"})
        assert "nobody has taken item 2" in said(wrong)
        lie = {"task": str(task), "item": 1, "state": "done", "deviations": [{"constraint": "Be nice.", "reason": "x"}]}
        assert "names no constraint of ADR-1" in said(await ann.call_tool("report_work_item", lie))
        resource = await ann.read_resource("atlas://decisions/payments/1")
        assert resource.contents[0].text == "# Use keys\n"  # type: ignore[union-attr]
        with pytest.raises(MCPError, match="no decision ADR-9"):
            await ann.read_resource("atlas://decisions/payments/9")
        with pytest.raises(MCPError, match="is not a decision"):
            await ann.read_resource("atlas://decisions/payments/x")


async def test_who_lies_or_sends_too_much_gets_nowhere(database: Database, db: asyncpg.Connection, workers: Workers) -> None:
    await accepted(db)
    async with served(database, workers) as (worker, tokens, _):
        url = f"http://127.0.0.1:{worker.port}/mcp"
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "decisions", "arguments": {}}}
        ask_for = {"accept": "application/json, text/event-stream"}
        async with httpx2.AsyncClient(timeout=30, headers=ask_for) as http:
            for header in (
                {},
                {"authorization": "Basic x"},
                {"authorization": "Bearer x"},
                {"authorization": "Bearer a.b." + "c" * 9_000},
            ):
                answer = await http.post(url, json=call, headers=header)
                assert answer.status_code == 401, header
                assert answer.headers["www-authenticate"].startswith("Bearer")
            assert (await http.get(url, headers={"authorization": f"Bearer {tokens[ANN]}"})).status_code == 405
            big = await http.post(url, content=b"x" * (LARGEST + 1), headers={"authorization": f"Bearer {tokens[ANN]}"})
            assert big.status_code == 413
            assert worker.get("/livez")[0] == 200
        # somebody signs their own token, as the service
        forged = mint("another secret that is long enough", {"sub": str(ANN), "role": "service_role"}, lasts=3600)
        async with over_http(worker, forged) as client:
            refused = await client.call_tool("decisions", {})
            assert refused.is_error
            assert "ADR-1" not in said(refused)
        async with over_http(worker, tokens[ANN]) as client:
            assert (await client.call_tool("erase", {})).is_error
            assert (await client.call_tool("get_decision", {"number": -1})).is_error
            assert (await client.call_tool("ask", {"question": "x" * 200_000})).is_error
            nowhere = await client.call_tool("decisions", {"project": "nowhere"})
            assert nowhere.is_error
            assert "nowhere" in said(nowhere)
        # one that begins a request and never goes on holds nobody up
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
        head = f"POST /mcp HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tokens[ANN]}\r\nContent-Type: application/json\r\n"
        writer.write((head + "Content-Length: 1000\r\n\r\n{").encode())
        await writer.drain()
        async with over_http(worker, tokens[ANN]) as client:
            assert not (await client.call_tool("decisions", {})).is_error
        writer.close()
        assert reader is not None


async def test_a_client_that_hangs_up_leaves_a_server_that_ends(database: Database) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "atlas.cli", "mcp", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, cwd=ROOT, env={**os.environ, "DATABASE_URL": database.url()},
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(b"this is no JSON\n")
    await process.stdin.drain()
    process.stdin.close()
    async with asyncio.timeout(20):
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in out
    assert await ask_nothing(database)


async def ask_nothing(database: Database) -> bool:
    async with database.connect() as db:
        return bool(await db.fetchval("select count(*) = 0 from atlas.task"))


async def test_sources_are_found_and_read_by_their_hash(database: Database, db: asyncpg.Connection) -> None:
    await accepted(db)
    async with Client(stdio(database)) as client:
        found = await client.call_tool("search", {"query": "keys"})
        (link,) = set(re.findall(r"atlas://sources/[0-9a-f]{64}", said(found)))
        passage = await client.read_resource(link)
        assert passage.contents[0].text.startswith("decision:ADR-1:")  # type: ignore[union-attr]
        with pytest.raises(MCPError, match="no source"):
            await client.read_resource("atlas://sources/" + "0" * 64)
    assert await ask(db)
