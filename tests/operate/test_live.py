"""atlas doctor --live: against doubles that are as the real ones were seen to be, against a peer's mock, and against ones that differ."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.acceptance.test_aimock import aimock as aimock
from tests.doubles.openai import OpenAIDouble, usage
from tests.doubles.serving import serving
from tests.support.core import Database, run_atlas, stand_in_of
from tests.support.faults import Faults

LINES = "\n".join(f"line {n}" for n in range(60))


async def live(database: Database, *words: str, code: int = 0, **settings: object) -> dict[str, tuple[str, str]]:
    env = {"DATABASE_URL": database.url()} | {name.upper(): str(value) for name, value in settings.items()}
    done = await asyncio.to_thread(run_atlas, "doctor", "--live", "--json", *words, env=env, timeout=150)
    assert done.returncode == code, done.stdout + done.stderr
    return {row["what"]: (row["state"], row["text"]) for row in json.loads(done.stdout)}


@pytest.fixture
def asked(openai: OpenAIDouble) -> dict[str, Any]:
    openai.plan(text=LINES, chunk=20, delay=0.02, usage=usage(20, 120))
    missing = {"code": "model_not_found", "message": "The model does not exist."}
    openai.plan(model="atlas-no-such-model", error=(404, missing))
    return {"openai_api_key": "sk-test", "openai_base_url": openai.url, "openai_fallback_models": "none"}


async def test_what_is_as_it_was_taken_to_be_is_said_line_by_line(
    database: Database, openai: OpenAIDouble, asked: dict[str, Any]
) -> None:
    found = await live(database, **asked)
    assert {what: state for what, (state, _) in found.items()} == dict.fromkeys(
        ("model gpt-4.1", "unknown model", "input count", "stream", "resume after a cut", "cancel", "spent"), "ok"
    ), found
    assert "no character twice, none missing" in found["resume after a cut"][1]
    assert "cached_tokens" in found["stream"][1]
    assert found["cancel"][1].startswith("cancelled")
    assert len(openai.calls) == 4, "three that are answered, and one to a model that is not there"
    assert all(call["max_output_tokens"] <= 400 for call in openai.calls)


async def test_it_spends_no_more_than_it_may(database: Database, openai: OpenAIDouble, asked: dict[str, Any]) -> None:
    found = await live(database, "--max-usd", "0.005", **asked)
    # a call of 200 and 400 tokens of gpt-4.1 is 0.0036 USD
    assert found["stream"][0] == "ok"
    for line in ("cancel", "unknown model"):
        assert "not tried: it may cost 0.0036 USD, and 0.0014 of --max-usd are left" in found[line][1]
    assert found["spent"][1].startswith("at most 0.0036 USD of 0.005")
    assert len(openai.calls) == 1
    assert "not tried" in (await live(database, "--max-usd", "0", **asked))["stream"][1]
    assert len(openai.calls) == 1
    env = {"DATABASE_URL": database.url()} | {name.upper(): value for name, value in asked.items()}
    done = await asyncio.to_thread(run_atlas, "doctor", "--live", "--max-usd", "inf", env=env)
    assert (done.returncode, "--max-usd inf is not an amount" in done.stderr) == (2, True)


async def test_each_call_names_its_tier_and_is_charged_by_it(
    database: Database, openai: OpenAIDouble, asked: dict[str, Any]
) -> None:
    found = await live(database, openai_service_tier="priority", **asked)
    assert [call["service_tier"] for call in openai.calls] == ["priority"] * 4
    assert found["spent"][1].startswith("at most 0.0288 USD"), "four calls at twice 0.0036 USD"


async def test_a_model_that_thinks_may_write_enough_to_answer(
    database: Database, openai: OpenAIDouble, asked: dict[str, Any]
) -> None:
    openai.plan(text=LINES, model="gpt-6-luna", chunk=20, delay=0.02, usage=usage(20, 1_200, reasoning=1_100))
    found = await live(database, openai_model="gpt-6-luna", **asked)
    assert {state for state, _ in found.values()} == {"ok"}, found
    assert {call["max_output_tokens"] for call in openai.calls if call["model"] == "gpt-6-luna"} == {4_000}


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"{}", b"[1]"])
async def test_a_peer_that_answers_anything_at_all_is_a_problem_in_each_line(
    database: Database, asked: dict[str, Any], body: bytes
) -> None:
    async def answer(_request: Request) -> Response:
        return Response(body, media_type="text/html")

    page = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    async with serving(page) as port:
        found = await live(database, code=7, **asked | {"openai_base_url": f"http://127.0.0.1:{port}/v1"})
    assert {state for what, (state, _) in found.items() if what not in ("spent", "unknown model")} == {"problem"}, found


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        ("no usage", "stream", "has no usage"),
        ("another day", "model gpt-4.1", "it shuts down on 2026-12-24"),
        ("not found", "model gpt-4.1", "it is not found"),
        ("any name", "unknown model", "takes any name"),
        ("too long", "stream", "500 tokens were written"),
        ("a wrong key", "stream", "AuthenticationError"),
    ],
)
async def test_what_differs_is_said(
    database: Database, openai: OpenAIDouble, asked: dict[str, Any], change: str, line: str, said: str
) -> None:
    code = 0
    if change == "no usage":
        code = 7
        openai.plan(text=LINES, match="Count", model="gpt-4.1", usage=None)
    elif change == "another day":
        openai.shutdown_dates["gpt-4.1"] = "2026-12-24"
    elif change == "not found":
        openai.missing_models.add("gpt-4.1")
    elif change == "any name":
        openai.plans = [plan for plan in openai.plans if plan.model is None]
    elif change == "too long":
        code = 7
        openai.plan(text=LINES, model="gpt-4.1", usage=usage(20, 500))
    else:
        openai.key, code = "another", 7
    found = await live(database, code=code, **asked)
    assert found[line][0] in ("warning", "problem")
    assert said in found[line][1], found


async def test_supabase_is_asked_too(database: Database, db: asyncpg.Connection) -> None:
    async with stand_in_of(database) as there:
        keys: dict[str, Any] = {
            "supabase_url": there.url,
            "supabase_publishable_key": there.keys.publishable,
            "supabase_secret_key": there.keys.secret,
        }
        found = await live(database, **keys)
        assert {what: state for what, (state, _) in found.items()} == dict.fromkeys(
            ("rest, anybody", "rest, workers' key", "realtime", "realtime rate"), "ok"
        ), found
        assert "receiving" in found["realtime"][1]
        await db.execute(
            "grant select on public.architect_out to anon; alter table public.architect_out disable row level security"
        )
        await db.execute("insert into public.architect_out (data, task_id) values ('{}', gen_random_uuid())")
        open_to_all = await live(database, code=7, **keys)
        assert open_to_all["rest, anybody"] == (
            "problem", "anybody reads public.architect_out with the publishable key alone: check row level security",
        )  # fmt: skip
        made_up = await live(database, code=7, **keys | {"supabase_publishable_key": "sb_publishable_made_up"})
        assert "is the publishable key this project's?" in made_up["rest, anybody"][1]


async def test_a_realtime_that_delivers_nothing_is_seen(database: Database) -> None:
    faults = Faults.quick()
    faults.no_broadcasts = True
    async with stand_in_of(database, faults) as there:
        found = await live(database, code=7, supabase_url=there.url, supabase_secret_key=there.keys.secret)
    assert found["realtime"] == ("problem", "a broadcast that SQL sent was not heard within 10 s")


async def test_against_a_peers_mock(database: Database, aimock: str) -> None:
    """It keeps no responses, and counts nothing: what it lacks is said, and nothing breaks."""
    found = await live(
        database, code=7, openai_api_key="k", openai_base_url=aimock, openai_fallback_models="none", openai_background="off"
    )
    assert {"stream", "unknown model", "spent"} <= set(found)
    assert all(state in ("ok", "warning", "problem") for state, _ in found.values())


async def test_with_nobody_to_ask_it_says_so(database: Database) -> None:
    done = await asyncio.to_thread(run_atlas, "doctor", "--live", env={"DATABASE_URL": database.url()})
    assert (done.returncode, "nobody to ask" in done.stderr) == (2, True)


async def test_a_model_without_a_price_is_not_called(
    database: Database, openai: OpenAIDouble, asked: dict[str, Any], tmp_path: Path
) -> None:
    done = await asyncio.to_thread(
        run_atlas, "doctor", "--live",
        env={"DATABASE_URL": database.url(), "OPENAI_API_KEY": "k", "OPENAI_BASE_URL": openai.url, "OPENAI_MODEL": "mine"},
    )  # fmt: skip
    assert (done.returncode, "mine has no price" in done.stderr) == (2, True)
    assert openai.calls == []
