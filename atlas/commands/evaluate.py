"""eval: replies to questions whose good answers are known in part, by models or as they were recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from atlas.architect.kinds import KINDS
from atlas.commands.common import JsonFlag, dump, face, runs, show_rows
from atlas.commands.console import say, tell
from atlas.errors import UsageError
from atlas.messages import chat
from atlas.rag.quality.plot import bars
from atlas.record.opening import opening_of
from atlas.record.score import EvalCase, ReplyScores, read_cases, score, summed
from atlas.shipped import folder
from atlas.task import JsonObject
from atlas.tasks.follow import Ended, follow
from atlas.tasks.port import Tasks

COLUMNS = {
    "name": "REPLIES OF", "replies": "N", "structure": "STRUCTURE", "citations": "CITATIONS", "coverage": "COVERAGE",
    "unsupported": "UNSUPPORTED", "contradictions": "CONTRADICTIONS", "words": "WORDS", "tokens": "TOKENS", "usd": "USD",
}  # fmt: skip


@runs
async def evaluate(
    cases: Annotated[Path | None, typer.Argument(help="A set of cases; without it, the one for the example team.")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Ask these too, with the same sources; may be repeated.")
    ] = None,
    recorded: Annotated[
        Path | None, typer.Option(help="Ask nobody: score the replies of this folder, named CASE.NAME.md.", file_okay=False)
    ] = None,
    project: Annotated[str | None, typer.Option(help="The project that is asked.")] = None,
    per_run: Annotated[int | None, typer.Option(help="End with 1 where a reply took more tokens.", min=1)] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the scores into this SVG file.")] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write what was accepted and rejected as a set of cases, and ask nobody.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Score replies to a set of design questions: form, citations, claims, constraints, contradictions, length, cost."""
    if export is not None:
        await _export(export, project)
        return
    known = _cases(cases)
    found = _recorded(known, recorded) if recorded is not None else await _asked(known, model or [], project)
    rows = summed(found)
    if plot is not None:
        shares = [(name, [float(row[name] or 0) for row in rows]) for name in ("structure", "citations", "coverage")]
        plot.write_text(bars("Replies, by rules", [row["name"] for row in rows], shares, most=1.0), encoding="utf-8")
    if as_json:
        say(dump({"summary": rows, "replies": [one.as_row() for one in found]}))
    else:
        show_rows(
            rows, COLUMNS, as_json=False, empty="no question was answered, so nothing is scored", right=tuple(COLUMNS)[1:]
        )
    over = [one for one in found if per_run is not None and (one.tokens or 0) > per_run]
    for one in over:
        tell(f"{one.case} ({one.name}) took {one.tokens} tokens, more than {per_run}")
    if over:
        raise typer.Exit(1)


def _cases(path: Path | None) -> list[EvalCase]:
    path = path or folder("examples") / "eval" / "team.json"
    try:
        return read_cases(json.loads(path.read_text(encoding="utf-8")), path.name)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error})", "name a JSON file such as examples/eval/team.json") from None


def _recorded(cases: list[EvalCase], replies: Path) -> list[ReplyScores]:
    by_id = {case.id: case for case in cases}
    found = []
    for path in sorted(replies.glob("*.md")):
        case, _, name = path.stem.partition(".")
        if case not in by_id:
            raise UsageError(f"{path.name} is of no case of the set", f"name it CASE.NAME.md, such as {cases[0].id}.gpt-4.1.md")
        text = path.read_text(encoding="utf-8")
        found.append(score(by_id[case], name or "recorded", text, KINDS[by_id[case].kind].sections))
    if not found:
        raise UsageError(f"no replies found in {replies}", f"replies are named CASE.NAME.md, such as {cases[0].id}.gpt-4.1.md")
    return found


async def _asked(cases: list[EvalCase], models: list[str], project: str | None) -> list[ReplyScores]:
    found = []
    async with face() as tasks:
        decided = await tasks.decisions(project=await tasks.project(project) if project else None, status="accepted")
        for case in cases:
            tell(f"{case.id} …")
            first = await _reply(tasks, chat(case.question, kind=case.kind, anew=True, project=project))
            replies = [first]
            if first["state"] == "completed":
                for model in models:
                    again = chat(case.question, replays=str(first["id"]), model=model, project=project)
                    replies.append(await _reply(tasks, again))
            for reply in replies:
                if reply["state"] == "completed":
                    found.append(await _scored(tasks, case, reply, decided))
                else:
                    tell(f"{case.id}: {reply['error_message'] or reply['state']}")
    return found


async def _reply(tasks: Tasks, message: dict[str, Any]) -> JsonObject:
    sent = await tasks.submit(message)
    async for event in follow(tasks, UUID(str(sent["task_id"]))):
        if isinstance(event, Ended):
            return event.task
    raise AssertionError("a task that is followed ends")


async def _scored(tasks: Tasks, case: EvalCase, reply: JsonObject, decided: list[JsonObject]) -> ReplyScores:
    text = reply["reply"][len(opening_of(reply["reply"])) :]
    passages = {}
    for source in reply["metadata"].get("sources") or ():
        rows = await tasks.read_source(source["sha256"]) if source.get("sha256") else []
        passages[source["id"]] = " ".join([source["path"], *(f"{row['heading']} {row['text']}" for row in rows[:1])])
    return score(
        case, str(reply["model"] or "none"), text, KINDS[case.kind].sections, passages=passages, decided=decided,
        tokens=reply["tokens"], usd=None if reply["usd"] is None else float(reply["usd"]),
    )  # fmt: skip


async def _export(path: Path, project: str | None) -> None:
    async with face() as tasks:
        rows = await tasks.decisions(project=await tasks.project(project) if project else None)
    cases = [
        {"id": f"adr-{row['number']}", "question": row["question"], "kind": "adr", "verdict": row["status"],
         "constraints": row["constraints"] if row["status"] == "accepted" else [],
         "contradictions": row["constraints"] if row["status"] == "rejected" else []}
        for row in rows
        if row["status"] in ("accepted", "rejected") and len(row["question"]) > 2
    ]  # fmt: skip
    path.write_text(json.dumps(cases, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    tell(f"{len(cases)} cases")


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command(name="eval")(evaluate)
