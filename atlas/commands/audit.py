"""audit verify, export, compare: who did what when, its proof, and where a copy of it ends."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from atlas.commands import statements
from atlas.commands.common import Found, JsonFlag, counted, operator, runs, settings, show_rows
from atlas.commands.console import EXIT_DOCTOR, say
from atlas.database.audit import audit_mac
from atlas.database.audit_file import header, read_chains, row_line, seal_line, verify_file
from atlas.database.operator import Operator
from atlas.errors import UsageError
from atlas.settings import Settings

audit = typer.Typer(help="The audit: who did what when, chained and sealed.", no_args_is_help=True)


@audit.callback()
def _group() -> None:
    """The audit: who did what when, chained and sealed."""


@audit.command("verify")
@runs
async def verify(
    file: Annotated[
        Path | None, typer.Option("--file", help="Prove an export instead, without a database; - is stdin.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Prove hashes, chains, seals, and the replies against what was completed. Exit code 7 on a problem."""
    findings: list[dict[str, str]] = []

    def found(level: str, what: str, text: str) -> None:
        findings.append({"state": level, "what": what, "text": text})

    if file is not None:
        _verify_file(file, settings(), found)
    else:
        async with operator() as reads:
            await check_audit(settings(), reads, found)
    show_rows(findings, {"state": "STATE", "text": "FINDING"}, as_json=as_json, empty="")
    if any(finding["state"] == "problem" for finding in findings):
        raise typer.Exit(EXIT_DOCTOR)


def _verify_file(file: Path, known: Settings, found: Found) -> None:
    key = _key(known)
    try:
        with sys.stdin if str(file) == "-" else file.open(encoding="utf-8") as lines:
            problems = list(itertools.islice(verify_file(lines, key), 20))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read ({error})", "name an export of the audit") from error
    for problem in problems:
        found("problem", "audit", problem)
    if not problems:
        sealed = (
            "seals were made with this key" if key is not None else "without ATLAS_AUDIT_KEY the seals' key was not checked"
        )
        found("ok", "audit", f"hashes, chains and seals fit; {sealed}")


@audit.command("export")
@runs
async def export() -> None:
    """Print the whole audit as JSON Lines, which `atlas audit verify --file` proves anywhere."""
    async with operator() as reads:
        upto = await reads.first(statements.ended_transactions())
        seals = await reads.rows(statements.seals(upto))
        rows = await reads.first(statements.count_audit(upto))
        say(json.dumps(header(upto, rows, len(seals))))
        last = 0
        while page := await reads.rows(statements.audit_after(last, upto, 2000)):
            for row in page:
                say(json.dumps(row_line(row), ensure_ascii=False))
            last = page[-1]["id"]
        for seal in seals:
            say(json.dumps(seal_line(seal)))


@audit.command("compare")
@runs
async def compare(
    file: Annotated[Path, typer.Argument(help="An export of the original, made after this copy.")],
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel here what the original has gone on with.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say where a restored copy ends, and what the original has continued since. Exit code 7 where a task would run again."""
    try:
        with file.open(encoding="utf-8") as lines:
            chains, sealed = read_chains(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read ({error})", "name an export of the audit") from error
    findings: list[dict[str, Any]] = []
    async with operator() as reads:
        ours = {bytes(seal["mac"]).hex(): seal["id"] for seal in await reads.rows(statements.seals())}
        last = [seal for seal in sealed if seal["mac"] in ours]
        later = f", {counted(len(sealed) - len(last), 'seal')} before the end of the original" if last else ""
        findings.append(
            {
                "state": "ok",
                "task": None,
                "text": f"this copy has seal {last[-1]['id']}{later}" if last else "no seal is in both",
            }
        )
        copied = {str(row["task_id"]): row for row in await reads.rows(statements.chain_ends())}
        for task, chain in chains.items():
            row = copied.get(task)
            since = chain.events if row is None else chain.went_on(row["seq"], bytes(row["hash"]).hex())
            if since == []:
                continue
            state, text = _told(since, missing=row is None, still=row is not None and row["open"])
            if cancel and state == "problem" and since is not None:
                await reads.call("cancel_task", UUID(task))
                state, text = "ok", f"{text}; cancelled here"
            findings.append({"state": state, "task": task, "text": text})
    show_rows(findings, {"state": "STATE", "task": "TASK", "text": "FINDING"}, as_json=as_json, empty="")
    if any(finding["state"] == "problem" for finding in findings):
        raise typer.Exit(EXIT_DOCTOR)


def _told(since: list[str] | None, *, missing: bool, still: bool) -> tuple[str, str]:
    """What to say of a task that the original has continued. since: its events there; None: both have gone on with it."""
    if missing:
        return "warning", "it was asked after this copy was made"
    if since is None:
        return "warning", "both have gone on with it"
    said = f"the original went on: {', '.join(dict.fromkeys(since))}"
    return ("problem", f"{said}; here it would run again") if still else ("ok", said)


async def check_audit(known: Settings, reads: Operator, found: Found) -> None:
    """Hashes, chains and seals, and the replies against what was completed. found takes a level, what, and a finding."""
    broken = (await reads.call_rows("verify_audit"))[:5]
    for row in broken:
        found("problem", "audit", f"{row['problem']} (task {row['task_id']}, row {row['audit_id']})")
    key = _key(known)
    seals = await reads.rows(statements.seals())
    if key is None:
        found("warning", "audit", "no ATLAS_AUDIT_KEY: the audit is chained, and not sealed")
        if not broken:
            found("ok", "audit", "chains hold, and replies are those that were completed")
        return
    earlier: bytes | None = None
    for seal in seals:
        fits = seal["mac"] == audit_mac(key, seal["upto"], seal["rows"], seal["digest"], seal["prev_mac"])
        if not fits or seal["prev_mac"] != earlier:
            found("problem", "audit", f"seal {seal['id']} was not made with this key, or follows another")
        earlier = seal["mac"]
    if not broken:
        sealed = counted(len(seals), "seal")
        found("ok", "audit", f"chains hold, {sealed}, and replies are those that were completed")


def _key(known: Settings) -> bytes | None:
    """ATLAS_AUDIT_KEY, or that of the embedded stack."""
    if known.atlas_audit_key:
        return known.atlas_audit_key.get_secret_value().encode()
    path = known.home / "audit.key"
    return path.read_text().strip().encode() if known.database_url is None and path.exists() else None


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.add_typer(audit, name="audit")
