"""audit."""

from __future__ import annotations

from collections.abc import Callable

import typer

from atlas.commands import statements
from atlas.commands.common import JsonFlag, counted, operator, runs, settings, show_rows
from atlas.commands.console import EXIT_DOCTOR
from atlas.database.audit import audit_mac
from atlas.database.operator import Operator
from atlas.settings import Settings

audit = typer.Typer(help="The audit: who did what when, chained and sealed.", no_args_is_help=True)


@audit.callback()
def _group() -> None:
    """The audit: who did what when, chained and sealed."""


@audit.command("verify")
@runs
async def verify(as_json: JsonFlag = False) -> None:
    """Prove hashes, chains, seals, and the replies against what was completed. Exit code 7 on a problem."""
    findings: list[dict[str, str]] = []

    def found(level: str, what: str, text: str) -> None:
        findings.append({"state": level, "what": what, "text": text})

    async with operator() as reads:
        await check_audit(settings(), reads, found)
    show_rows(findings, {"state": "STATE", "text": "FINDING"}, as_json=as_json, empty="")
    if any(finding["state"] == "problem" for finding in findings):
        raise typer.Exit(EXIT_DOCTOR)


async def check_audit(known: Settings, reads: Operator, found: Callable[[str, str, str], None]) -> None:
    """Hashes, chains and seals, and the replies against what was completed. found takes a level, what, and a finding."""
    broken = (await reads.call_rows("verify_audit"))[:5]
    for row in broken:
        found("problem", "audit", f"{row['problem']} (task {row['task_id']}, row {row['audit_id']})")
    key = known.atlas_audit_key.get_secret_value() if known.atlas_audit_key else _embedded_key(known)
    seals = await reads.rows(statements.seals())
    if key is None:
        found("warning", "audit", "no ATLAS_AUDIT_KEY: the audit is chained, and not sealed")
        if not broken:
            found("ok", "audit", "chains hold, and replies are those that were completed")
        return
    earlier: bytes | None = None
    for seal in seals:
        fits = seal["mac"] == audit_mac(key.encode(), seal["upto"], seal["rows"], seal["digest"], seal["prev_mac"])
        if not fits or seal["prev_mac"] != earlier:
            found("problem", "audit", f"seal {seal['id']} was not made with this key, or follows another")
        earlier = seal["mac"]
    if not broken:
        sealed = counted(len(seals), "seal")
        found("ok", "audit", f"chains hold, {sealed}, and replies are those that were completed")


def _embedded_key(known: Settings) -> str | None:
    path = known.home / "audit.key"
    return path.read_text().strip() if known.database_url is None and path.exists() else None


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.add_typer(audit, name="audit")
