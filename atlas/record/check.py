"""What is wrong with a reply of any kind, in words that a model can fix."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from atlas.record.parse import ParsedReply


def check(document: ParsedReply, labels: Collection[str], sections: Sequence[str]) -> list[str]:
    """Missing and empty sections, work items out of form, unknown citations: empty when nothing is wrong.

    labels: the sources that were given, such as S4821. sections: those that it must have.
    """
    found = []
    if not document.title:
        found.append("the title (a level 1 heading) is missing")
    found += [f"the section '## {name}' is missing" for name in sections if name not in document.sections]
    found += [
        f"the section '## {name}' is empty" for name in sections if name in document.sections and not document.sections[name]
    ]
    items = document.sections.get("Work items", "")
    if items and not document.work_items and not items.casefold().startswith("none"):
        found.append("'## Work items' holds no item (a level 3 heading each)")
    for item in document.work_items:
        missing = [
            name for name in ("Context", "Technical Spec") if not re.search(rf"(?im)^#+\s*{name}\b|^\*\*{name}", item.body)
        ]
        found += [f"the work item '{item.title}' has no '{name}'" for name in missing]
    unknown = sorted(document.citations - set(labels))
    if unknown:
        found.append(f"it cites sources that were not given: {', '.join(unknown)}")
    return found
