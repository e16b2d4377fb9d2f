"""What people read and do through Supabase: the supabase client, under their login, row level security in force."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
from postgrest import APIError
from supabase import AsyncClient, AsyncClientOptions, acreate_client
from supabase_auth.errors import AuthError

from atlas.errors import SQLSTATES, DatabaseDown, NotAllowed, NotFoundError, RefusedError, UsageError
from atlas.settings import Settings
from atlas.supabase.channel import Patience
from atlas.supabase.deltas import Deltas
from atlas.supabase.keys import expiry_of
from atlas.supabase.session import SessionFile
from atlas.task import JsonObject
from atlas.tasks.finding import no_such_decision, no_such_task, task_name, the_one
from atlas.tasks.port import Live, Part
from atlas.tasks.statements import COUNTS, SPEND_KEYS
from atlas.tasks.values import Row, typed

Answer = TypeVar("Answer")
PAGE = 1000
OWN = " of yours"
"""Whose tasks a person reads: a message says so."""
SHOWN = tuple("unknown" if name == "unknown_calls" else name for name in COUNTS)


async def guarded(work: Awaitable[Answer]) -> Answer:
    """The answer of a call. Raises the errors of atlas.errors for what the server, or the way to it, says."""
    try:
        return await work
    except APIError as error:
        state = error.code or ""
        if state in ("PGRST301", "PGRST302", "PGRST303"):
            raise NotAllowed("the session is over", "log in again with `atlas login`") from error
        if state in ("PGRST106", "PGRST202", "42P01", "42883", "3F000"):
            raise DatabaseDown(f"the project does not expose Atlas ({error.message})",
                               "list atlas in [api] schemas, and apply the migrations") from error  # fmt: skip
        kind = NotAllowed if state == "42501" else SQLSTATES.get(state, RefusedError)
        raise kind(str(error.message), str(error.hint or "")) from error
    except AuthError as error:
        raise NotAllowed(f"the login was refused ({error.message})", "log in with `atlas login`") from error
    except httpx.HTTPError as error:
        reason = f"Supabase cannot be reached ({type(error).__name__}: {error})"
        raise DatabaseDown(reason, "check SUPABASE_URL and the network") from error


async def open_client(settings: Settings, key: str) -> AsyncClient:
    """A client of the project, with the session that `atlas login` kept."""
    options = AsyncClientOptions(
        schema="atlas", storage=SessionFile(str(settings.supabase_url)), auto_refresh_token=False, flow_type="implicit",
        httpx_client=httpx.AsyncClient(timeout=30, follow_redirects=False),
    )  # fmt: skip
    return await guarded(acreate_client(str(settings.supabase_url), key, options=options))


@asynccontextmanager
async def connect(settings: Settings, *, patience: Patience | None = None) -> AsyncIterator[RestTasks]:
    """What a person may read: by their login, else by a secret key of the environment. Raises UsageError without either."""
    key = settings.public_key or settings.worker_key
    if key is None:
        raise UsageError("SUPABASE_URL is set without a key", "set SUPABASE_PUBLISHABLE_KEY (or SUPABASE_ANON_KEY)")
    client = await open_client(settings, key)
    session = await guarded(client.auth.get_session())
    if session is None:
        if settings.worker_key is None:
            raise UsageError(f"nobody is logged in at {settings.supabase_url}", "log in with `atlas login`")
        if key != settings.worker_key:
            client = await open_client(settings, settings.worker_key)
    try:
        yield RestTasks(client, settings, patience)
    finally:
        if client.options.httpx_client is not None:
            await client.options.httpx_client.aclose()
        await asyncio.gather(*client._background_tasks, return_exceptions=True)


@asynccontextmanager
async def connect_as(settings: Settings, token: str) -> AsyncIterator[RestTasks]:
    """What the login of an access token may read. Whether the token is one says each call's answer: NotAllowed."""
    key = settings.public_key
    if key is None:
        raise UsageError("no public key is set for logins", "set SUPABASE_PUBLISHABLE_KEY (or SUPABASE_ANON_KEY)")
    async with httpx.AsyncClient(timeout=30, follow_redirects=False) as http:
        options = AsyncClientOptions(
            schema="atlas", headers={"Authorization": f"Bearer {token}"}, auto_refresh_token=False, persist_session=False,
            httpx_client=http,
        )  # fmt: skip
        client = await guarded(acreate_client(str(settings.supabase_url), key, options=options))
        yield RestTasks(client, settings)


class SessionTokens:
    """Realtime's token is the session's; it is refreshed where it is about to run out."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @property
    def apikey(self) -> str:
        return str(self._client.supabase_key)

    async def token(self) -> tuple[str, float | None]:
        session = await guarded(self._client.auth.get_session())
        if session is not None and session.expires_at is not None and session.expires_at - time.time() < 120:
            session = (await guarded(self._client.auth.refresh_session())).session
        token = session.access_token if session is not None else self.apikey
        return token, expiry_of(token)


class RestTasks:
    """What a person reads and does, under their login: atlas.tasks.port.Tasks."""

    def __init__(self, client: AsyncClient, settings: Settings, patience: Patience | None = None) -> None:
        self._client = client
        self._settings = settings
        self._patience = patience

    async def _rows(self, query: Any) -> list[Row]:
        answer = await guarded(query.execute())
        return [typed(row) for row in answer.data]

    async def _all(self, query: Any, limit: int | None = None) -> list[Row]:
        """All rows of an ordered query, page by page: the server answers with so many at most, and does not say so."""
        found: list[Row] = []
        while limit is None or len(found) < limit:
            most = PAGE if limit is None else min(PAGE, limit - len(found))
            page = await self._rows(query.range(len(found), len(found) + most - 1))
            if not page:
                break
            found += page
        return found

    async def call(self, function: str, **arguments: Any) -> Any:
        """What a function of schema atlas answers."""
        return (await guarded(self._client.schema("atlas").rpc(function, arguments).execute())).data

    def _table(self, name: str, schema: str = "atlas") -> Any:
        return self._client.schema(schema).table(name)

    async def find(self, text: str, *, state: str | None = None) -> UUID:
        found = await self.call("find_task", p_text=task_name(text), p_state=state)
        return the_one(text, [UUID(one) for one in found], OWN)

    async def tasks(
        self, *, limit: int, state: str | None, sender: str | None, project: str | None, every: bool = False
    ) -> list[Row]:
        query = self._table("task_history").select("*").order("queued_at", desc=True).order("id")
        if not every:
            query = query.eq("kind", "chat")
        if state:
            query = query.eq("state", state)
        if sender:
            query = query.eq("sender_key", sender)
        if project:
            query = query.eq("project_id", str(await self.project(project)))
        rows = await self._all(query, limit)
        users = sorted({str(row["sender"]) for row in rows if row["sender"]})
        names = {row["user_id"]: row["email"] for row in await self.call("names_of", p_users=users)} if users else {}
        return [row | {"asker": names.get(str(row["sender"])) or row["sender_key"]} for row in rows]

    async def project(self, name: str) -> UUID:
        column = "id" if len(name) == 36 else "name"
        rows = await self._rows(self._table("project").select("id").eq(column, name).limit(1))
        if not rows:
            raise NotFoundError(f"no project {name!r} of yours", "see `atlas whoami`")
        return UUID(rows[0]["id"])

    async def sender(self, name: str) -> str:
        session = await guarded(self._client.auth.get_session())
        if "@" not in name:
            return name
        if session is None or (session.user.email or "").lower() != name.lower():
            raise NotAllowed(f"whose {name} is, only an operator may ask", "name your own address, or a sender's key")
        return str(session.user.id)

    async def task(self, task_id: UUID) -> Row:
        found: Row | None = await self.call("get_task", p_task_id=str(task_id))
        if found is None:
            raise no_such_task(task_id, OWN)
        return typed(found)

    async def state(self, task_id: UUID) -> Row:
        found: Row | None = await self.call("task_state", p_task_id=str(task_id))
        if found is None:
            raise no_such_task(task_id, OWN)
        return typed(found)

    async def progress(self, task_id: UUID) -> Row:
        found: Row | None = await self.call("task_progress", p_task_id=str(task_id))
        if found is None:
            raise no_such_task(task_id, OWN)
        return typed(found)

    async def parts_after(self, task_id: UUID, attempt: int, generation: int, offset: int) -> list[Part]:
        arguments = {"p_task_id": str(task_id), "p_attempt": attempt, "p_generation": generation, "p_offset": offset}
        return [Part(**row) for row in await self.call("read_parts", **arguments)]

    async def submit(self, message: Mapping[str, object]) -> Row:
        found: list[Row] = await self.call("submit_task", data={**message})
        return found[0]

    async def cancel(self, task_id: UUID) -> str:
        return str(await self.call("cancel_task", p_task_id=str(task_id)))

    async def answer(self, task_id: UUID, text: str) -> str:
        return str(await self.call("answer_task", p_task_id=str(task_id), p_answer=text))

    async def retry(self, task_id: UUID) -> str:
        return str(await self.call("retry_task", p_task_id=str(task_id)))

    async def set_budget(self, scope: str, limits: Row) -> Row:
        found = await self.call("set_budget", p_scope=scope, p_limits=limits)
        return dict(found[0] if isinstance(found, list) else found)

    async def budgets(self) -> list[Row]:
        limits = ("per_run", "usd_per_run", "daily", "usd_daily", "monthly", "usd_monthly")
        rows = await self._all(self._table("budget_now").select("*").order("scope"))
        return [row for row in rows if any(row[name] is not None for name in limits)]

    async def quote(self, project: UUID | None, window: str) -> Row:
        found: Row = await self.call("quote_task", p_project=str(project) if project else None, p_window=window)
        return found

    async def spend(self, by: str, *, since: date | None, until: date | None) -> list[Row]:
        query = self._table(f"spend_by_{by}").select("*").order("day")
        if by != "day":
            query = query.order(SPEND_KEYS[by])
        if since:
            query = query.gte("day", since.isoformat())
        if until:
            query = query.lt("day", until.isoformat())
        sums: dict[Any, Row] = defaultdict(lambda: dict.fromkeys(SHOWN, 0))
        for row in await self._all(query):
            total = sums[row[SPEND_KEYS[by]]]
            for name in COUNTS:
                total["unknown" if name == "unknown_calls" else name] += row[name] or 0
        return [{by: key, **sums[key]} for key in sorted(sums, key=str)]

    async def accept(self, task_id: UUID, reason: str | None, supersedes: Sequence[int]) -> Row:
        return await self._decided("accept", p_task=str(task_id), p_reason=reason, p_supersedes=list(supersedes))

    async def reject(self, task_id: UUID, reason: str | None) -> Row:
        return await self._decided("reject", p_task=str(task_id), p_reason=reason)

    async def supersede(self, project: UUID, number: int, by: int, reason: str | None) -> Row:
        return await self._decided("supersede", p_project=str(project), p_number=number, p_by=by, p_reason=reason)

    async def _decided(self, verb: str, **arguments: Any) -> Row:
        found = await self.call(verb, **arguments)
        return typed(found[0] if isinstance(found, list) else found)

    async def decisions(
        self, *, project: UUID | None = None, status: str | None = None, number: int | None = None
    ) -> list[Row]:
        query = self._table("decisions").select("*").order("project").order("number")
        for column, value in (("project_id", project), ("status", status), ("number", number)):
            if value is not None:
                query = query.eq(column, str(value))
        return await self._all(query)

    async def record(self, project: UUID, number: int) -> str:
        rows = await self._rows(
            self._table("decision").select("content").eq("project_id", str(project)).eq("number", str(number))
        )
        if not rows:
            raise no_such_decision(number)
        return str(rows[0]["content"])

    async def import_decisions(self, project: UUID, records: Sequence[JsonObject]) -> Row:
        return dict(await self.call("import_decisions", p_project=str(project), p_records=list(records)))

    async def deviations(self, project: UUID, number: int) -> list[Row]:
        query = self._table("deviation").select("*").eq("project_id", str(project)).eq("number", str(number)).order("id")
        return await self._all(query)

    async def work_items(self, task_id: UUID) -> list[Row]:
        return [typed(row) for row in await self.call("work_items", p_task=str(task_id))]

    async def take_work_item(self, task_id: UUID, number: int) -> Row:
        return await self._decided("take_work_item", p_task=str(task_id), p_number=number)

    async def report_work_item(
        self, task_id: UUID, number: int, state: str, *, commit: str | None = None, note: str | None = None,
        deviations: Sequence[JsonObject] = (),
    ) -> Row:  # fmt: skip
        return dict(await self.call(
            "report_work_item", p_task=str(task_id), p_number=number, p_state=state, p_commit=commit, p_note=note,
            p_deviations=list(deviations),
        ))  # fmt: skip

    async def search(self, query: str, *, limit: int, project: UUID | None) -> list[Row]:
        named = None if project is None else str(project)
        rows = await self.call("search_knowledge", p_query=query, p_top_k=limit, p_project=named)
        return [{**row, "sha256": row["sha256"].removeprefix("\\x")} for row in rows]

    async def read_source(self, sha256: str) -> list[Row]:
        return list(await self.call("read_source", p_sha256=sha256))

    @asynccontextmanager
    async def live(self, task_id: UUID) -> AsyncIterator[Live | None]:
        reader = {"p_task_id": str(task_id), "p_reader": str(uuid4())}
        async with Deltas(
            str(self._settings.supabase_url), SessionTokens(self._client), task_id,
            lambda: self.call("watch_task", **reader), patience=self._patience,
        ) as deltas:  # fmt: skip
            yield deltas
