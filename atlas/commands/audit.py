"""audit verify, export, compare: who did what when, its proof, and where a copy of it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from atlas.commands import statements
from atlas.commands.common import Found, JsonFlag, counted, operator, runs, settings, show_rows
from atlas.commands.console import EXIT_DOCTOR, say
from atlas.database.audit_file import AuditChain, Proof, header, prove, row_line, seal_line, seal_problems
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
    keys = _keys(known)
    proof = _proof(file, keys)
    for problem in proof.problems:
        found("problem", "audit", problem)
    if keys and not proof.seals:
        found("problem", "audit", "the export has no seals: nothing proves that it was not rewritten")
    elif not proof.problems:
        made = "made with this key" if keys else "whose key was not checked (ATLAS_AUDIT_KEY)"
        after = f"; {counted(proof.unsealed, 'row')} after the last one" if proof.unsealed else ""
        found("ok", "audit", f"hashes and chains fit; {counted(len(proof.seals), 'seal')} {made}{after}")


def _proof(file: Path, keys: Sequence[bytes] = (), chains: dict[str, AuditChain] | None = None) -> Proof:
    """What an export proves; - is stdin."""
    try:
        with sys.stdin if str(file) == "-" else file.open(encoding="utf-8") as lines:
            return prove(lines, keys, chains=chains)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read ({error})", "name an export of the audit") from error


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
    file: Annotated[Path, typer.Argument(help="An export of the original, made after this copy; - is stdin.")],
    repeat: Annotated[
        bool,
        typer.Option(
            "--repeat", help="Do here what the original did since: cancel what it went on with, erase what it erased."
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say where a restored copy ends, and what the original has continued since. Exit code 7 where that is to be repeated."""
    chains: dict[str, AuditChain] = {}
    proof = _proof(file, chains=chains)
    for problem in proof.problems:
        raise UsageError(f"the export does not prove itself: {problem}", "export the audit again")
    findings: list[dict[str, Any]] = []
    async with operator() as reads:
        ours = {bytes(seal["mac"]).hex(): seal["id"] for seal in await reads.rows(statements.seals())}
        last = [seal for seal in proof.seals if seal["mac"] in ours]
        later = f", {counted(len(proof.seals) - len(last), 'seal')} before the end of the original" if last else ""
        text = f"this copy has seal {last[-1]['id']}{later}" if last else "the two have no seal in common"
        findings.append({"state": "ok", "task": None, "text": text})
        copied = {str(row["task_id"]): row for row in await reads.rows(statements.chain_ends())}
        for task, chain in chains.items():
            row = copied.get(task)
            since = chain.events if row is None else chain.went_on(row["seq"], bytes(row["hash"]).hex())
            if since == []:
                continue
            still = row is not None and row["open"]
            state, text = _told(since, missing=row is None, still=still)
            if repeat and state == "problem" and since is not None:
                state, text = "ok", f"{text}; {await _repeat(reads, UUID(task), since, still=still)}"
            findings.append({"state": state, "task": task, "text": text})
    show_rows(findings, {"state": "STATE", "task": "TASK", "text": "FINDING"}, as_json=as_json, empty="")
    if any(finding["state"] == "problem" for finding in findings):
        raise typer.Exit(EXIT_DOCTOR)


async def _repeat(reads: Operator, task: UUID, since: list[str], *, still: bool) -> str:
    """Cancels here, without an event, and erases what the original erased; says what was done."""
    if still:
        await reads.call("cancel_copy", task)
    if "erase" in since:
        await reads.call("erase", task)
        return "erased here"
    return "cancelled here"


def _told(since: list[str] | None, *, missing: bool, still: bool) -> tuple[str, str]:
    """What to say of a task that the original has continued. since: its events there; None: both continued it."""
    if missing:
        return "warning", "it was asked after this copy was made"
    if since is None:
        return "warning", "both continued this task"
    said = f"the original went on: {', '.join(dict.fromkeys(since))}"
    if still:
        return "problem", f"{said}; here it would run again"
    return ("problem", f"{said}; here its texts are still there") if "erase" in since else ("ok", said)


async def check_audit(known: Settings, reads: Operator, found: Found) -> None:
    """Hashes, chains and seals, and the replies against what was completed. found takes a level, what, and a finding."""
    broken = (await reads.call_rows("verify_audit"))[:5]
    for row in broken:
        found("problem", "audit", f"{row['problem']} (task {row['task_id']}, row {row['audit_id']})")
    keys = _keys(known)
    if not keys:
        found("warning", "audit", "no ATLAS_AUDIT_KEY: the audit is chained, and not sealed")
        if not broken:
            found("ok", "audit", "chains hold, and replies are those that were completed")
        return
    seals = [seal_line(seal) for seal in await reads.rows(statements.seals())]
    for problem in seal_problems(seals, keys):
        found("problem", "audit", problem)
    if not broken:
        sealed = counted(len(seals), "seal")
        found("ok", "audit", f"chains hold, {sealed}, and replies are those that were completed")


def _keys(known: Settings) -> tuple[bytes, ...]:
    """ATLAS_AUDIT_KEY, or that of the embedded stack; newest first."""
    if known.atlas_audit_key:
        return known.audit_keys
    path = known.home / "audit.key"
    return (path.read_text().strip().encode(),) if known.database_url is None and path.exists() else ()


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.add_typer(audit, name="audit")
