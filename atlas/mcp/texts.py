"""What tools answer: short, with links to more. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from atlas.task import JsonObject

LONGEST = 6_000
"""Characters of an answer; the rest is a resource."""


def cut(text: str, link: str, longest: int = LONGEST) -> str:
    """A text, or its beginning and where the rest is."""
    if len(text) <= longest:
        return text
    return f"{text[:longest].rsplit(chr(10), 1)[0]}\n\n… {len(text) - longest} more characters: read {link}"


def of_decision(row: JsonObject, content: str, deviations: Sequence[JsonObject], link: str) -> str:
    """A decision as an implementer needs it: whether it holds, what binds, where it was not kept, then the record."""
    by = f" by ADR-{row['superseded_by']}" if row["superseded_by"] else ""
    lines = [f"ADR-{row['number']} is {row['status']}{by} (project {row['project']}, decided {row['decided_at']:%Y-%m-%d})."]
    if row["status"] != "accepted":
        lines.append("It does not hold: do not work by it.")
    if row["constraints"]:
        lines += ["", "Constraints:", *(f"- {text}" for text in row["constraints"])]
    if row["paths"]:
        lines += ["", f"Governs: {', '.join(row['paths'])}"]
    if row["checks"]:
        lines += ["", "Checks, to run in your checkout:", *(f"- {command}" for command in row["checks"])]
    if deviations:
        lines += ["", "Deviations:"]
        lines += [
            f"- {one['constraint_text']}: {one['reason']} ({one['reported_by']}, {one['commit'] or 'no commit'})"
            for one in deviations
        ]
    return "\n".join([*lines, "", "---", "", cut(content, link)])


def of_decisions(rows: Sequence[JsonObject]) -> str:
    """Decisions in a line each, with what they bind."""
    if not rows:
        return "No decision governs this."
    lines = []
    for row in rows:
        by = f" by ADR-{row['superseded_by']}" if row["superseded_by"] else ""
        lines.append(f"- ADR-{row['number']} {row['title']} ({row['status']}{by}; {', '.join(row['paths']) or 'everything'})")
        lines += [f"  - {text}" for text in row["constraints"]]
    return "\n".join(lines)


def of_task(found: JsonObject, link: str) -> str:
    """Where a task stands, and its reply where there is one."""
    lines = [f"Task {found['id']} is {found['state']}."]
    if found["wait_reason"]:
        lines.append(f"It waits: {found['wait_reason']}.")
    if found["error_message"]:
        lines.append(f"Error: {found['error_message']}")
    if found["usd"] is not None:
        lines.append(f"Cost so far: ${float(found['usd']):.4f}.")
    if found["reply"]:
        lines += ["", cut(found["reply"], link)]
    return "\n".join(lines)


def of_items(rows: Sequence[JsonObject], task: str) -> str:
    """Work items in a line each."""
    lines = [f"Work items of task {task}" + (f" ({rows[0]['decision']})" if rows and rows[0]["decision"] else "") + ":"]
    for row in rows:
        after = f", after {', '.join(map(str, row['depends_on']))}" if row["depends_on"] else ""
        by = f", {row['taken_by']}" if row["taken_by"] else ""
        lines.append(f"{row['number']}. {row['title']} ({row['state']}{by}{after})")
    return "\n".join(lines)


def of_item(row: JsonObject) -> str:
    """One work item, whole."""
    item = row["item"]
    if item.get("body"):
        return f"# {item['title']}\n\n{item['body']}"
    lines = [
        f"# {item['title']}",
        "",
        "## Context",
        "",
        item.get("context", ""),
        "",
        "## Technical Spec",
        "",
        item.get("technical_spec", ""),
    ]
    return "\n".join([*lines, "", "## Acceptance", "", *(f"- {one}" for one in item.get("acceptance", []))])


def of_price(quote: JsonObject) -> str:
    """What a question costs, and what is left."""
    models = quote.get("models") or []
    if not models:
        return "Nobody knows the price: no worker is alive."
    if any(row.get("worst_usd") is None for row in models):
        unpriced = ", ".join(row["model"] for row in models if row.get("worst_usd") is None)
        return f"{unpriced} has no price on record; nothing bounds what it costs but the budget in tokens."
    worst, likely = max(float(row["worst_usd"]) for row in models), models[0].get("likely_usd")
    names = " > ".join(row["model"] for row in models)
    return f"It costs at most ${worst:.4f}" + (f", likely ${float(likely):.4f}" if likely is not None else "") + f" ({names})."
