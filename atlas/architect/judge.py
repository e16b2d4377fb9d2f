"""What is to be said of a reply: what is wrong with it, what its readers should know, and what it binds. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from atlas.architect.kinds import COMPARISON, RECORD, ReplyKind
from atlas.architect.revision import Revised
from atlas.architect.run import GeneratedText
from atlas.llm.port import ModelCall
from atlas.record import decision, plan
from atlas.record.changes import splice
from atlas.record.check import check
from atlas.record.claims import claims_of
from atlas.record.opening import opening_of
from atlas.record.parse import ParsedReply, entries, parse
from atlas.task import JsonObject

_MOST = 10
"""Warnings that a reply carries at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackQuestion:
    """A question back: one sentence, and what can be answered to it."""

    text: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """problems: in words that a model can fix. warnings: for readers, the problems among them. metadata: of the reply."""

    document: ParsedReply
    text: str
    """What readers get."""
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    metadata: JsonObject = field(default_factory=dict)
    question: BackQuestion | None = None
    """It asks something instead of answering."""


def judge(kind: ReplyKind, text: GeneratedText, call: ModelCall, revised: Revised | None = None) -> Judged:
    """Refusals and replies without a model have no required form, and pass. revised: the reply that the text changes."""
    metadata: JsonObject = {}
    labels = list(call.labels)
    if revised and not (text.refused or text.model.is_offline):
        whole, changed = splice(revised.content, text.text, kind.sections)
        if not changed:
            nothing = ("no section was written anew: write those that change, each under its '## ' heading",)
            document = parse(whole, decision.SECTIONS)
            return Judged(document=document, text=whole, problems=nothing, warnings=nothing)
        metadata["sections"] = changed
        labels += [source["id"] for source in revised.sources]
        text = replace(text, text=whole)
    written = text.text[len(opening_of(text.text)) :]
    document = parse(written, decision.SECTIONS if kind.name == RECORD.name else kind.sections)
    if text.refused or text.model.is_offline:
        return Judged(document=document, text=text.text)
    if kind.name in (RECORD.name, COMPARISON.name) and (asks := _question(document, written)):
        again = "answer the question in the form that was asked for: what is open is an assumption, or an open question"
        return Judged(document=document, text=text.text, problems=(again,), warnings=("it asks something back",), question=asks)
    if kind.schema is not None and (wrong := plan.problems(text.json or "")):
        # the Markdown that is made of it is as wrong, and says less
        return Judged(document=document, text=text.text, problems=tuple(wrong), warnings=tuple(wrong))
    found = check(document, labels, kind.sections)
    if kind.schema is not None and text.json is not None:
        metadata["work_items"] = plan.work_items(text.json)
    if kind.name == RECORD.name:
        found += decision.problems(document, call.question)
        if document.work_items:
            metadata["work_items"] = [{"title": item.title, "body": item.body} for item in document.work_items]
        metadata["record"] = decision.binding(document).as_json()
    if kind.claimed:
        passages = {
            label: f"{chunk.title}\n{chunk.heading}\n{chunk.text}"
            for label, chunk in zip(call.labels, call.sources, strict=True)
        }
        claims = claims_of(document, kind.claimed, passages, call.question)
        metadata["claims"] = claims.as_json()
        found += claims.problems
    warnings = found[:_MOST] + [f"and {len(found) - _MOST} more"] * (len(found) > _MOST)
    if (words := len(written.split())) > kind.words:
        warnings.append(f"it has {words} words, more than the {kind.words} of this kind")
    return Judged(document=document, text=text.text, problems=tuple(found), warnings=tuple(warnings), metadata=metadata)


def _question(document: ParsedReply, written: str) -> BackQuestion | None:
    """What a reply asks, where it is a question and nothing else."""
    if document.title.strip().casefold() != "question" or document.sections or len(written) > 4_000:
        return None
    body = written.split("\n", 1)[-1] if written.lstrip().startswith("#") else written
    choices = tuple(entries(body))[:5]
    text = " ".join(re.split(r"(?m)^[ \t]*[-*+][ \t]", body.split("# Question", 1)[-1])[0].split())
    return BackQuestion(text=text[:500], choices=choices) if text.endswith("?") else None
