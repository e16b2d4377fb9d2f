"""A revision: the reply that it changes, and what a model is asked for then. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

from atlas.architect.kinds import KINDS, ReplyKind
from atlas.architect.prompt import REVISE
from atlas.errors import NotFoundError, WrongState
from atlas.record.opening import opening_of
from atlas.task import Exchange, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Revised:
    """What is revised. content: without the line that said how it stood to what was decided."""

    task: UUID
    kind: ReplyKind
    question: str
    content: str
    sources: tuple[JsonObject, ...]
    """Those that it cites: their labels stay."""

    @property
    def exchange(self) -> Exchange:
        return Exchange(question=self.question, reply=self.content)


def revised(found: JsonObject | None, task: UUID) -> Revised:
    """From what atlas.get_reply answers. Raises NotFoundError and WrongState where it cannot be revised."""
    if found is None:
        raise NotFoundError(f"no reply of task {task} that you may revise", "name a completed task of the same project")
    metadata = found["metadata"]
    kind = KINDS.get(str(metadata.get("kind", "adr")))
    if kind is None or kind.schema is not None or metadata.get("truncated"):
        what = "cut" if metadata.get("truncated") else f"a {metadata.get('kind')}"
        raise WrongState(
            f"the reply of task {task} is {what}, and cannot be revised", "ask again, with --parent for what was said"
        )
    return Revised(
        task=task, kind=kind, question=found["question"], content=found["content"][len(opening_of(found["content"])) :],
        sources=tuple(source for source in metadata.get("sources") or () if source.get("cited")),
    )  # fmt: skip


def revision_of(found: Revised) -> ReplyKind:
    """What is asked for: the form of the reply, and that only what changes is written."""
    return replace(found.kind, instructions=f"{found.kind.instructions}\n{REVISE}")
