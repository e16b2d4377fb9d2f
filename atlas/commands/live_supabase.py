"""doctor --live: whether Supabase is as Atlas takes it to be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from atlas.commands.common import Found
from atlas.commands.live import Broken, finding, need
from atlas.database.operator import Operator
from atlas.settings import Settings
from atlas.supabase.keys import headers_of


async def check_supabase(known: Settings, reads: Operator, found: Found) -> None:
    """Asks it."""
    import httpx

    async with httpx.AsyncClient(base_url=str(known.supabase_url), timeout=15) as web:
        if known.public_key is not None:
            async with finding("rest, anybody", found) as seen:
                await _rest_as_anybody(web, known.public_key, seen)
        if known.worker_key is not None:
            async with finding("rest, workers' key", found) as seen:
                await _rest_as_service(web, known.worker_key, seen)
    if known.worker_key is not None:
        async with finding("realtime", found) as seen:
            await _realtime(known, reads, seen)
    found(
        "ok",
        "realtime rate",
        "not tried: past it a project's events are dropped for 20 s; ATLAS_REALTIME_RATE says what Atlas keeps to",
    )


async def _rest_as_anybody(web: Any, key: str, seen: Callable[[str], None]) -> None:
    for table, schema in (("architect_in", "public"), ("architect_out", "public"), ("task_history", "atlas")):
        answer = await web.get(f"/rest/v1/{table}", params={"limit": "1"}, headers=headers_of(key) | {"accept-profile": schema})
        # a key that is not accepted is refused as well, by another code than Postgres's own
        need(
            answer.is_success or _refused_by_postgres(answer),
            f"{schema}.{table} is answered {answer.status_code} ({answer.text[:120]}): is the publishable key this project's?",
        )
        need(
            not answer.is_success or answer.json() == [],
            f"anybody reads {schema}.{table} with the publishable key alone: check row level security",
        )
    sent = await web.post("/rest/v1/architect_in", headers=headers_of(key), content=json.dumps({"data": {}}))
    need(
        _refused_by_postgres(sent),
        f"an insert without a login is answered {sent.status_code} instead of 401 or 403 of Postgres",
    )
    seen("without a login nobody reads a row, or writes one")


def _refused_by_postgres(answer: Any) -> bool:
    """Whether Postgres itself said that the role may not."""
    return answer.status_code in (401, 403) and answer.json().get("code") == "42501"


async def _rest_as_service(web: Any, key: str, seen: Callable[[str], None]) -> None:
    for table, schema in (("architect_in", "public"), ("task_history", "atlas")):
        answer = await web.get(f"/rest/v1/{table}", params={"limit": "0"}, headers=headers_of(key) | {"accept-profile": schema})
        need(
            answer.is_success,
            f"{schema}.{table} is answered {answer.status_code} ({answer.text[:120]}): is atlas among the schemas of [api]?",
        )
    seen("public and atlas are served")


async def _realtime(known: Settings, reads: Operator, seen: Callable[[str], None]) -> None:
    from atlas.supabase.tokens import KeyTokens
    from atlas.wake_ups.realtime import RealtimeWakeUps

    states: list[str] = []
    heard: list[str] = []
    assert known.worker_key is not None
    wake_ups = RealtimeWakeUps(str(known.supabase_url), KeyTokens(known.worker_key), entered=states.append)
    listening = asyncio.create_task(wake_ups.run(lambda source, _cancel: heard.append(source)))
    try:
        await _until(
            lambda: "receiving" in states, 40, f"its private channel is not open ({' > '.join(states) or 'no connection'})"
        )
        await reads.call("send", {"doctor": "live"}, "task_queued", "atlas:wake", True, schema="realtime")
        await _until(lambda: "realtime_broadcast" in heard, 10, "a broadcast that SQL sent was not heard within 10 s")
    finally:
        listening.cancel()
        await asyncio.wait({listening})
    seen(f"{' > '.join(dict.fromkeys(states))}; a broadcast that SQL sent to the private topic was heard")


async def _until(check: Callable[[], bool], seconds: float, otherwise: str) -> None:
    for _ in range(int(seconds * 20)):
        if check():
            return
        await asyncio.sleep(0.05)
    raise Broken(otherwise)
