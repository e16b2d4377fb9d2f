"""The search before a model is called: how often the right decision comes first, and how often one is wrongly taken for the answer.

    python -m benchmarks.read_first

The set (read_first.json) was written by hand: each decision with its question asked again, with questions that would change it, and
with near ones that are about something else. The threshold was chosen on the even decisions; the odd ones are what is reported.
All decisions are in one project, so each is searched among all others. Needs the embedded Postgres, and no model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg

from atlas.architect.standing import LookedUp, Standing, read, standing
from atlas.database.pool import set_codecs
from atlas.local.stack import Stack
from atlas.messages import chat

SET = Path(__file__).with_suffix(".json")
Case = dict[str, Any]


async def measured(db: asyncpg.Connection, cases: list[Case]) -> dict[str, Counter[str]]:
    """Verdicts by half (chosen, reported) and kind of question: "same decided", "same first", …"""
    project = "00000000-0000-0000-0000-000000000001"
    records = [
        {"number": n, "title": case["title"], "status": "accepted", "constraints": [case["constraint"]],
         "content": f"# {case['title']}\n\n## Constraints\n\n- {case['constraint']}\n"}
        for n, case in enumerate(cases, 1)
    ]  # fmt: skip
    await db.fetchval("select atlas.import_decisions($1, $2)", project, records)
    for n, case in enumerate(cases, 1):
        await db.execute("update atlas.decision set question = $2 where number = $1", n, case["question"])
    found: dict[str, Counter[str]] = {"chosen on": Counter(), "reported": Counter()}
    for n, case in enumerate(cases, 1):
        half = found["chosen on" if n % 2 == 0 else "reported"]
        for kind in ("same", "change", "near"):
            for question in case[kind]:
                stands = await looked_up(db, question)
                half[kind] += 1
                half[f"{kind} decided"] += stands.verdict == "decided"
                numbers = [one.number for one in stands.decisions]
                half[f"{kind} first"] += numbers[:1] == [n]
                half[f"{kind} wrongly decided"] += stands.verdict == "decided" and (numbers != [n] or kind != "same")
    return found


async def looked_up(db: asyncpg.Connection, question: str) -> Standing:
    """How a question stands to what is decided."""
    message = chat(question)
    await db.execute("insert into public.architect_in (data) values ($1)", message)
    answer = await db.fetchval("select atlas.read_first($1)", message["task_id"])
    known: LookedUp = read(answer)
    return standing(question, known)


def lines(found: dict[str, Counter[str]]) -> list[str]:
    """The table, in Markdown."""
    out = [
        "| half | questions | the right decision first | already decided | wrongly decided |",
        "| --- | --- | --- | --- | --- |",
    ]
    for half, counts in found.items():
        for kind, name in (("same", "asked again"), ("change", "would change it"), ("near", "near, about something else")):
            first = (
                f"{counts[f'{kind} first']} of {counts[kind]}"
                if kind != "near"
                else f"spoken of: {counts['near first']} of {counts[kind]}"
            )
            out.append(
                f"| {half} | {name} | {first} | {counts[f'{kind} decided']} | {counts[f'{kind} wrongly decided']} of {counts[kind]} |"
            )
    return out


async def main() -> None:
    """Prints the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="atlas-bench-") as folder:
        stack = Stack(Path(folder))
        try:
            cluster = stack.start_postgres()
            await stack.prepare(cluster)
            db = await asyncpg.connect(cluster.url("supabase_admin"))
            await set_codecs(db)
            print("\n".join(lines(await measured(db, json.loads(SET.read_text(encoding="utf-8"))))))
            await db.close()
        finally:
            stack.postgres.stop("immediate")


if __name__ == "__main__":
    asyncio.run(main())
