"""doctor: what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer

from atlas.commands import statements
from atlas.commands.audit import check_audit
from atlas.commands.common import Found, JsonFlag, runs, settings, show_rows, spent_of
from atlas.commands.console import EXIT_DOCTOR, spoken
from atlas.commands.live_openai import check_openai
from atlas.commands.live_supabase import check_supabase
from atlas.commands.production import check_production
from atlas.database.migrate import pending
from atlas.database.operator import Operator, connect
from atlas.database.pool import CONNECTION_LOST
from atlas.environment import environment, origin
from atlas.errors import AtlasError, SettingsError, UsageError
from atlas.llm.models import read_models, resolve
from atlas.local.address import database_url
from atlas.rotation import CurrentSettings
from atlas.settings import Settings
from atlas.supabase.keys import headers_of, role_of
from atlas.text import visible


@runs
async def doctor(
    production: Annotated[
        bool, typer.Option("--production", help="Instead: with a worker's own settings, what the deployment manual asks of it.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Instead: ask OpenAI and Supabase whether they are as Atlas takes them to be.")
    ] = False,
    max_usd: Annotated[float, typer.Option(help="With --live: what its calls may cost at worst.", min=0)] = 0.25,
    as_json: JsonFlag = False,
) -> None:
    """Check settings, database, migrations, models, budgets, workers, audit and PATH. Exit code 7 on a problem."""
    findings: list[dict[str, str]] = []

    def found(level: str, what: str, text: str) -> None:
        findings.append({"state": level, "what": what, "text": text if as_json else spoken(text)})

    if not production and not live:
        _check_path(found)
    try:
        known = settings()
    except SettingsError as error:
        for problem in error.problems:
            found("problem", "settings", problem)
    else:
        if production:
            await check_production(known, environment(os.environ), found)
            _show(findings, as_json=as_json)
            return
        if live:
            if known.openai_api_key is None and known.supabase_url is None:
                raise UsageError("there is no OPENAI_API_KEY and no SUPABASE_URL: nobody to ask", "set one of them")
            if not math.isfinite(max_usd):
                raise UsageError(f"--max-usd {max_usd} is not an amount", "send US dollars, such as 0.25")
            async with connect(database_url(known, "postgres")) as reads:
                if known.openai_api_key is not None:
                    await check_openai(known, reads, Decimal(str(max_usd)), found)
                if known.supabase_url is not None:
                    await check_supabase(known, reads, found)
            _show(findings, as_json=as_json)
            return
        model = " > ".join(known.chain)
        if known.atlas_replay is not None:
            model = f"none, {known.atlas_replay} is replayed to its question (ATLAS_REPLAY)"
        elif known.openai_api_key is None:
            model = "none, the offline architect answers with passages; set OPENAI_API_KEY for a model"
        where = origin(os.environ, "OPENAI_API_KEY")
        found("ok", "settings", f"models: {model}" + (f" (the key is from {where})" if where else ""))
        await _check_key(known, found)
        await _check_supabase(known, found)
        try:
            await _check_database(known, found)
        except AtlasError as error:
            found("problem", "database", error.line)
    _show(findings, as_json=as_json)


def _show(findings: list[dict[str, str]], *, as_json: bool) -> None:
    show_rows(findings, {"state": "STATE", "what": "WHAT", "text": "FINDING"}, as_json=as_json, empty="")
    if any(finding["state"] == "problem" for finding in findings):
        raise typer.Exit(EXIT_DOCTOR)


async def _check_key(known: Settings, found: Found) -> None:
    """Asks the provider about the first model: that costs nothing, and shows whether it takes the key."""
    if known.openai_api_key is None or known.atlas_replay is not None:
        return
    from atlas.service import generator_of  # here: most commands do without it

    try:
        async with asyncio.timeout(15), generator_of(CurrentSettings(known)) as generator:
            await generator.probe(known.openai_model)
    except TimeoutError:
        found("problem", "key", f"{known.openai_base_url} does not answer: check OPENAI_BASE_URL and the network")
    except AtlasError as error:
        found("problem", "key", f"{known.openai_base_url}: {error.line}")
    else:
        found("ok", "key", f"{known.openai_base_url} takes the key, and has {known.openai_model}")


async def _check_supabase(known: Settings, found: Found) -> None:
    """Whether the project answers, and whether its keys are what they are taken for."""
    if known.supabase_url is None:
        return
    import httpx  # here: most commands do without it

    if known.public_key is None and known.worker_key is None:
        found(
            "problem",
            "supabase",
            "SUPABASE_URL is set without a key: set SUPABASE_PUBLISHABLE_KEY, and SUPABASE_SECRET_KEY for workers",
        )
        return
    for name, one, wanted in (("people's", known.public_key, "anon"), ("workers'", known.worker_key, "service_role")):
        role = role_of(one) if one is not None else None
        if role not in (wanted, None):
            found("problem", "supabase", f"{name} key is one of {role}, and must be one of {wanted}")
    keys = {name: one for name, one in (("people's", known.public_key), ("workers'", known.worker_key)) if one is not None}
    try:
        async with httpx.AsyncClient(timeout=10) as web:
            # a table that the service role may read: a route that needs no key says nothing of one
            answers = {
                name: await web.get(
                    f"{known.supabase_url}/rest/v1/architect_in",
                    params={"select": "id", "limit": "0"},
                    headers=headers_of(one),
                )
                for name, one in keys.items()
            }
    except httpx.HTTPError as error:
        found("problem", "supabase", f"{known.supabase_url} cannot be reached ({type(error).__name__}): check SUPABASE_URL")
        return
    for name, answer in answers.items():
        setting = "SUPABASE_PUBLISHABLE_KEY" if name == "people's" else "SUPABASE_SECRET_KEY"
        if answer.is_success or _is_denied(answer):
            found("ok", "supabase", f"{known.supabase_url} takes {name} key")
        elif answer.status_code in (401, 403):
            found("problem", "supabase key", f"{known.supabase_url} refuses {name} key ({_said(answer)}): check {setting}")
        else:
            found(
                "problem",
                "supabase",
                f"{known.supabase_url} answers {answer.status_code} ({_said(answer)}): check SUPABASE_URL",
            )


def _is_denied(answer: Any) -> bool:
    """Whether the key was taken, and its role may not read the table: Postgres's own answer."""
    try:
        return bool(answer.json().get("code") == "42501")
    except (ValueError, AttributeError):
        return False


def _said(answer: Any) -> str:
    try:
        found = answer.json()
        return visible(str(found.get("message") or found))[:100]
    except (ValueError, AttributeError):
        return f"HTTP {answer.status_code}"


def _check_path(found: Found) -> None:
    mine = Path(sys.argv[0]).resolve()
    others = {
        str(path)
        for folder in os.get_exec_path()
        if (path := Path(folder) / "atlas").exists() and os.access(path, os.X_OK) and path.resolve() != mine
    }
    if others:
        found(
            "warning", "path", f"another `atlas` is on PATH ({', '.join(sorted(others))}): `atlas-architect` is always this one"
        )
    elif shutil.which("atlas") is None:
        found("ok", "path", f"`atlas` is not on PATH; it is {mine}")
    else:
        found("ok", "path", "one `atlas` on PATH")


async def _check_database(known: Settings, found: Found) -> None:
    url = database_url(known, "postgres")
    try:
        connection = await asyncpg.connect(url, timeout=10)
    except (*CONNECTION_LOST, TimeoutError, asyncpg.PostgresError) as error:
        found("problem", "database", f"Postgres cannot be reached ({error}): check DATABASE_URL, or run `atlas up`")
        return
    try:
        version = connection.get_server_version()
        found("ok", "database", f"Postgres {version.major}.{version.minor}")
        todo = await pending(connection)
    finally:
        await connection.close()
    if todo:
        found(
            "problem", "migrations", f"{len(todo)} are not applied, first {todo[0].version}_{todo[0].name}: run `atlas migrate`"
        )
        return
    found("ok", "migrations", "all are applied")
    async with connect(url) as reads:
        await _check_models(known, reads, found)
        for row in await reads.call("get_budgets"):
            for used, most, unit, when in spent_of(row):
                share = used / most if most else 1.0
                level = "problem" if share >= 1 else "warning" if share >= 0.8 else "ok"
                found(level, "budget", f"{row['scope']}: {used:g} of {most:g} {unit} {when} ({share:.0%})")
        wrong = await reads.call_rows("check_ledger", datetime.now(UTC).date() - timedelta(days=31))
        for row in wrong[:20]:
            found("problem", "books", "{problem}: {subject}: {expected} expected, {found} found".format(**row))
        if not wrong:
            found("ok", "books", "budgets, calls, attempts and audit of 31 days agree")
        workers = await reads.rows(statements.workers_alive())
        for row in workers:
            said = f"{row['name']} ({row['version']}, {row['state']}) calls {' > '.join(row['models'])}"
            if list(row["models"]) == list(known.chain):
                found("ok", "workers", said)
            else:
                again = "`atlas up` starts it anew" if known.database_url is None else "start it anew with them"
                found("warning", "workers", f"{said}; the settings here say {' > '.join(known.chain)}: {again}")
        if not workers:
            found("warning", "workers", "none is alive: run `atlas up` or `atlas worker`")
        dead = len(await reads.rows(statements.dead_letters()))
        if dead:
            found("warning", "dead letters", f"{dead}: see `atlas dlq list`")
        await _check_outbox(known, reads, found)
        await check_audit(known, reads, found)


async def _check_outbox(known: Settings, reads: Operator, found: Found) -> None:
    rows = await reads.rows(statements.outbox_status())
    if not any(row["enabled"] for row in rows):
        kept = next((row["pending"] for row in rows if row["destination"] is None), 0)
        found(
            "ok", "outbox",
            f"no destination is configured: replies stay in architect_out; "
            f"{'1 event is kept for one, for' if kept == 1 else f'{kept} events are kept for one, each for'} "
            f"{known.atlas_outbox_keep_days:g} days",
        )  # fmt: skip
    for row in rows:
        if row["destination"] is None or not row["enabled"]:
            continue
        said = f"{row['destination']}: {row['pending']} to send"
        if row["dead"]:
            found("warning", "outbox", f"{row['destination']}: {row['dead']} dead rows: see `atlas dlq list --kind outbox`")
        if row["failures"]:
            level = "problem" if row["open"] else "warning"
            found(level, "outbox", f"{said}; {row['failures']} failures in a row, the last: {row['last_error']}")
        else:
            found("ok", "outbox", said)
    names = await reads.rows(statements.webhook_secrets())
    for row in names:
        if row["secret_name"] not in known.webhook_secrets:
            found("warning", "outbox", f"{row['secret_name']} is not set here: a mirror needs it to sign")


async def _check_models(known: Settings, reads: Operator, found: Found) -> None:
    models = read_models(await reads.call("list_models"))
    if not models:
        found("problem", "models", "atlas.model is empty: run `atlas migrate --include-seed`")
        return
    today = datetime.now(UTC).date()
    chain = resolve(known.chain, models, today)
    for passed in chain.passed:
        found("warning", "models", passed.line)
    for model in chain.models:
        if model.shutdown_at and model.shutdown_at <= today + timedelta(days=90):
            found("warning", "models", f"{model.name} shuts down on {model.shutdown_at}; then {model.successor} is called")
        elif model.name not in models:
            found("warning", "models", f"{model.name} has no row in atlas.model: limits, price and vocabulary are not known")
        else:
            found("ok", "models", f"{model.name}")
        if not model.priced and any(row["usd_daily"] is not None for row in await reads.call("get_budgets")):
            found(
                "problem", "models", f"{model.name} has no price, so a budget in USD refuses it: add a row to atlas.model_price"
            )
    if not chain.models:
        found("problem", "models", "no model of the chain is left: set OPENAI_MODEL")


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(doctor)
