"""reconcile."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from atlas.commands import statements
from atlas.commands.common import JsonFlag, dump, operator, runs, settings, show_rows
from atlas.commands.console import say, tell
from atlas.errors import UsageError
from atlas.llm.errors import ModelError, Pending, ResponseGone
from atlas.settings import Settings
from atlas.task import Usage
from atlas.tasks.values import Row

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from atlas.llm.openai_responses import OpenAIGenerator


@runs
async def reconcile(
    since: Annotated[str | None, typer.Option(help="From this UTC day on, such as 2026-11-01; without it 30 days.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask the provider about held and unknown calls, and compare its usage with the books."""
    known = settings()
    if known.openai_api_key is None:
        raise UsageError("OPENAI_API_KEY is not set, so nobody can be asked", "set it, or OPENAI_API_KEY_FILE")
    today = datetime.now(UTC).date()
    first = _day(since) if since else today - timedelta(days=30)
    if first > today:
        raise UsageError(f"--since {since} is in the future", "name a day that has begun")
    from openai import AsyncOpenAI  # imported here: it takes most of a second

    from atlas.llm.openai_responses import OpenAIGenerator
    from atlas.llm.transport import watched_client

    key = known.openai_api_key.get_secret_value()
    admin = known.openai_admin_key.get_secret_value() if known.openai_admin_key else None
    async with (
        operator() as reads,
        AsyncOpenAI(
            api_key=key, admin_api_key=admin, base_url=known.openai_base_url, max_retries=1,
            http_client=watched_client(read=30),
        ) as client,
    ):  # fmt: skip
        provider = OpenAIGenerator(client, background=known.openai_background)
        calls = []
        for call in await reads.rows(statements.open_calls(first)):
            usage, said = await _ask(provider, call)
            if said == "settled":
                item = {
                    "spend_id": call["id"],
                    "attempt_id": str(call["attempt_id"]),
                    "usage": usage.as_json() if usage else None,
                }
                if not await reads.call("record_usage", [item]):
                    said = "not booked"
            calls.append(
                {"call": call["id"], "day": call["day"], "model": call["model"], "was": call["known"] or call["state"],
                 "reserved_tokens": call["reserved_tokens"], "tokens": usage.tokens if usage else None, "now": said}
            )  # fmt: skip
        booked = {row["model"]: row for row in await reads.rows(statements.booked_since(first))}
        used = await _organisation(client, known, first) if admin else None
    models = [
        {"model": name, "booked": int(booked[name]["tokens"]) if name in booked else 0,
         "provider": used.get(name, 0) if used is not None else None}
        for name in sorted(set(booked) | set(used or ()))
    ]  # fmt: skip
    if as_json:
        say(dump({"since": first, "calls": calls, "models": models}))
        return
    show_rows(
        calls, {"call": "CALL", "day": "DAY", "model": "MODEL", "was": "WAS", "reserved_tokens": "RESERVED", "tokens": "USED",
                "now": "NOW"},
        as_json=False, empty=f"no call since {first} is held or unknown", right=("reserved_tokens", "tokens"),
    )  # fmt: skip
    if used is None:
        tell("set OPENAI_ADMIN_KEY to compare the books with the organisation's usage as well")
    else:
        show_rows(models, {"model": "MODEL", "booked": "BOOKED TOKENS", "provider": "PROVIDER'S"}, as_json=False,
                  empty="nothing was used", right=("booked", "provider"))  # fmt: skip


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--since {text!r} is not a day", "write it as 2026-11-01") from None


async def _ask(provider: OpenAIGenerator, call: Row) -> tuple[Usage | None, str]:
    """What the provider says of a call, and what became of it here."""
    if call["response_id"] is None:
        return None, "no response is known: only the provider's webhook can tell"
    try:
        usage = await provider.usage(call["response_id"])
    except Pending:
        return None, "is being written"
    except ResponseGone:
        return None, "settled" if call["state"] != "settled" else "is gone: it stays as it is"
    except ModelError as error:
        return None, f"cannot be asked: {error}"
    return usage, "settled" if usage is not None or call["state"] != "settled" else "the provider does not say"


async def _organisation(client: AsyncOpenAI, known: Settings, first: date) -> dict[str, int]:
    """Tokens by model, as the organisation's usage has them; of all who use its keys, not of Atlas alone."""
    start = int(datetime.combine(first, time.min, UTC).timestamp())
    used: dict[str, int] = defaultdict(int)
    page: str | None = None
    while True:
        more = {"page": page} if page else {}
        found = await client.admin.organization.usage.completions(
            start_time=start, bucket_width="1d", group_by=["model"], limit=31,
            **more,  # type: ignore[arg-type]
        )  # fmt: skip
        for bucket in found.data:
            for result in bucket.results:
                name = getattr(result, "model", None)
                if name is not None:
                    used[name] += getattr(result, "input_tokens", 0) + getattr(result, "output_tokens", 0)
        page = found.next_page
        if not found.has_more or page is None:
            return dict(used)


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(reconcile)
