"""Answers a question: retrieve, prompt, reserve and generate with fallback, check, repair."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from atlas.architect import prompt
from atlas.architect.generation import Generation
from atlas.architect.judge import Judged, judge
from atlas.architect.kept import asked_again
from atlas.architect.kinds import COMPARISON, KINDS, PROMPTS, RECORD, ReplyKind, asked_kind
from atlas.architect.ports import Decisions, Diagrams, Models, Retriever, Thread
from atlas.architect.prompt import InputTooLarge
from atlas.architect.revision import Revised, revised, revision_of
from atlas.architect.room import Room, how_to_raise
from atlas.architect.run import GeneratedText, Run
from atlas.architect.standing import NOTHING, UNKNOWN, LookedUp, Standing, read, standing
from atlas.diagrams.fences import UncheckedDiagrams, diagrams, one_line, without
from atlas.errors import AtlasError, DatabaseDown, WrongState
from atlas.ids import as_uuid
from atlas.llm.errors import BadRequest, ModelError, Refused
from atlas.llm.models import Chain, Model
from atlas.llm.port import ModelCall
from atlas.llm.tokens import Count, Vocabularies
from atlas.metrics.worker import Metrics
from atlas.record.opening import opening_of
from atlas.task import Chunk, Completion, Exchange, JsonObject, QuestionBack, TaskId
from atlas.tracing import names

log = logging.getLogger("atlas.architect")

LONG = 20_000
"""Characters of a reply that are parsed at once: some milliseconds where the whole parser is needed."""

THREAD_DEPTH = 4
"""Earlier exchanges that are looked up; the prompt keeps those that fit."""


class Architect:
    """The judgement: no state but what it is given."""

    def __init__(
        self,
        *,
        generation: Generation,
        retriever: Retriever,
        thread: Thread,
        decisions: Decisions,
        models: Models,
        diagrams: Diagrams,
        vocabularies: Vocabularies,
        metrics: Metrics,
    ) -> None:
        self._generation = generation
        self._retriever = retriever
        self._thread = thread
        self._decisions = decisions
        self._models = models
        self._diagrams = diagrams
        self._vocabularies = vocabularies
        self._metrics = metrics

    async def answer(self, run: Run) -> Completion | QuestionBack:
        """The reply to a run's question. Raises what Generation and prompt.build raise."""
        task = run.task
        revised = await self._revised(run)
        replayed = await self._replayed(run)
        kind, why = (revision_of(revised), None) if revised else asked_kind(task.metadata, task.question)
        if replayed:
            kind = KINDS.get(str(replayed["parameters"].get("kind")), kind)
        warnings: list[str] = []
        known_first = await self._read_first(run, warnings)
        if not task.inherited and (found := _stands(run, kind, known_first)).verdict == "decided":
            return _decided(run, found, warnings)
        chain, known = await self._models.current()
        if not chain.models:
            raise BadRequest("no model is left: " + "; ".join(passed.line for passed in chain.passed), code="no_model")
        if replayed and (asked_model := task.metadata.get("model")):
            if str(asked_model) not in known:
                raise WrongState(f"model {asked_model} is not known here", f"name one of {', '.join(sorted(known))}")
            chain = Chain(models=(known[str(asked_model)],), passed=())
        chunks = () if replayed else await self._retrieve(run, warnings)
        stands = _stands(run, kind, known_first, chunks)
        if revised:
            thread = [revised.exchange]
        else:
            thread = await self._exchanges(task.parent_id, task.task_id) if task.parent_id else []
        if task.parent_id and not thread:
            warnings.append(
                f"parent {task.parent_id} was left out: there is no such question in this project that you may read"
            )
        built: dict[str, ModelCall] = {}

        def build(model: Model, count: Count, room: int) -> ModelCall:
            if replayed:
                built[model.name] = again = asked_again(replayed, model, kind, task.question)
                if again.input_tokens(count) > Room(per_run=room).input:
                    raise InputTooLarge(
                        f"the prompt does not fit into half of a run of {room}: {how_to_raise(task.per_run_scope)}"
                    )
                return again
            asked = prompt.build(task.question, thread=thread, chunks=chunks, per_run=room, count=count, key=task.label_key,
                               per_run_scope=task.per_run_scope, kind=kind,
                               asked=known_first.asked if known_first else None)  # fmt: skip
            if revised and not any(role == "assistant" for role, _ in asked.turns):
                raise InputTooLarge(
                    f"the reply that is to be revised does not fit into half of a run of {room}: "
                    f"{how_to_raise(task.per_run_scope)}"
                )
            built[model.name] = ModelCall(
                model=model, instructions=asked.instructions, turns=asked.turns, max_output_tokens=0, question=task.question,
                sources=asked.sources, labels=asked.labels, schema=None if model.is_offline else kind.schema,
                opening=stands.opening, kind=kind.name,
            )  # fmt: skip
            return built[model.name]

        if task.inherited:
            model = known.get(task.inherited.model, Model(name=task.inherited.model))
            text = await self._generation.resume(run, task.inherited, model, build, shaped=kind.schema is not None)
        else:
            text = await self._generation.generate(run, build, chain, window=run.completion_window)
        count = self._vocabularies.counter(text.model.vocabulary or "o200k_base")
        call = built.get(text.model.name) or build(text.model, count, run.per_run)
        judged = await self._judged(kind, text, call, revised)
        if judged.question is not None and known_first and known_first.asked is None and not (revised or replayed):
            return _question_back(run, kind, text, judged)
        if judged.problems and not text.truncated:
            repaired = await self._repair(run, kind, call, text, judged.problems, revised)
            if repaired is not None:
                text, judged = repaired
        return _completion(run, kind, why, text, judged, call, stands, revised, [*warnings, *judged.warnings])

    async def _revised(self, run: Run) -> Revised | None:
        """What a question revises. Raises NotFoundError and WrongState where that cannot be."""
        named = as_uuid(run.task.metadata.get("revises"))
        if named is None:
            return None
        return revised(await self._decisions.get_reply(named, run.task.task_id), named)

    async def _replayed(self, run: Run) -> JsonObject | None:
        """What was asked for a reply that is to be written once more. Raises WrongState where it is not kept any more."""
        named = as_uuid(run.task.metadata.get("replays"))
        if named is None:
            return None
        found = await self._decisions.get_prompt(named, run.task.task_id)
        asked_again(found, Model(name="offline"), RECORD, "")
        return found

    async def _read_first(self, run: Run, warnings: list[str]) -> LookedUp | None:
        """What is decided already; None where nobody could look."""
        try:
            return read(await self._decisions.read_first(run.task.task_id))
        except DatabaseDown:
            raise
        except AtlasError as error:
            log.warning("what is decided was not looked up: %s", error)
            warnings.append("what is decided could not be looked up; this reply may repeat or contradict it")
            return None

    async def _exchanges(self, parent: UUID, asking: TaskId) -> list[Exchange]:
        """The earlier exchanges of a thread, oldest first."""
        found: list[Exchange] = []
        following: UUID | None = parent
        while following is not None and len(found) < THREAD_DEPTH:
            link = await self._thread.get_thread(following, asking)
            if link is None:
                break
            exchange, following = link
            found.insert(0, exchange)
        return found

    async def _retrieve(self, run: Run, warnings: list[str]) -> Sequence[Chunk]:
        try:
            with self._metrics.retrieval_seconds.time(), run.span.child(names.RETRIEVAL, attributes=names.retrieval()) as span:
                found = await self._retriever.search(run.task.question, task_id=run.task.task_id)
                span.add({names.DOCUMENTS: len(found.chunks)})
        except AtlasError as error:
            self._metrics.fail_opens.labels(found="nothing").inc()
            log.warning("retrieval failed: %s", error)
            warnings.append("what the team knows could not be searched; this reply does not draw on it")
            return ()
        if found.fell_back:
            self._metrics.fail_opens.labels(found=found.fell_back).inc()
        warnings += found.warnings
        return found.chunks

    async def _repair(
        self,
        run: Run,
        kind: ReplyKind,
        call: ModelCall,
        text: GeneratedText,
        problems: Sequence[str],
        revised: Revised | None,
    ) -> tuple[GeneratedText, Judged] | None:
        """One more call to repair the reply, if the budget allows; None: it stays as it is."""
        asked = prompt.REPAIR.format(problems="\n".join(f"- {problem}" for problem in problems))
        turns = (*call.turns, ("assistant", text.json or text.text), ("user", asked))

        def build(model: Model, _count: Count, _room: int) -> ModelCall:
            return replace(call, model=model, turns=turns)

        try:
            repaired = await self._generation.generate(run, build, Chain(models=(text.model,), passed=()), may_wait=False)
        except (Refused, ModelError) as error:
            log.info("the reply is not repaired: %s", error)
            return None
        judged = await self._judged(kind, repaired, call, revised)
        # a repair that made it worse, or was cut or refused, is not taken
        better = len(judged.problems) < len(problems) and not (repaired.truncated or repaired.refused)
        return (repaired, judged) if better else None

    async def _judged(self, kind: ReplyKind, text: GeneratedText, call: ModelCall, revised: Revised | None) -> Judged:
        """What is to be said of a reply, its diagrams parsed. A thread judges a long one: it would hold up all streams."""
        is_long = len(text.text) > LONG
        judged = await asyncio.to_thread(judge, kind, text, call, revised) if is_long else judge(kind, text, call, revised)
        if text.refused or text.model.is_offline or not (drawn := diagrams(judged.text)):
            return judged
        try:
            errors = await self._diagrams.errors(drawn)
        except UncheckedDiagrams as error:
            log.warning("%s", error)
            return replace(judged, warnings=(*judged.warnings, str(error)))
        found = [f"the Mermaid diagram {n} does not parse: {one_line(error)}" for n, error in enumerate(errors, 1) if error]
        return replace(
            judged, text=without(judged.text, errors), problems=(*judged.problems, *found), warnings=(*judged.warnings, *found)
        )


def _stands(run: Run, kind: ReplyKind, known: LookedUp | None, chunks: Sequence[Chunk] = ()) -> Standing:
    """How the question stands to what is decided. A question within a thread goes on from its own."""
    if known is None:
        return UNKNOWN
    if run.task.parent_id or {"revises", "replays"} & set(run.task.metadata):
        return NOTHING
    found = standing(run.task.question, known, chunks, anew=run.task.metadata.get("anew") is True)
    # short answers, reviews and plans decide nothing, so they cannot change a decision
    return found if found.verdict == "decided" or kind in (RECORD, COMPARISON) else NOTHING


def _decided(run: Run, found: Standing, warnings: list[str]) -> Completion:
    """The decision itself: no model is called."""
    (decision,) = found.decisions
    metadata: JsonObject = {"status": "completed", "tokens": 0, "kind": "decided", "sources": []}
    metadata["read_first"] = found.as_json() | {"opening": found.opening}
    if warnings:
        metadata["warnings"] = warnings
    content = f"{found.opening}{decision.content}"
    return Completion(
        attempt_id=run.task.attempt_id, content=content, metadata=metadata | _carried(run), model=None, usages=run.usages
    )


def _question_back(run: Run, kind: ReplyKind, text: GeneratedText, judged: Judged) -> QuestionBack:
    """The question that the architect asks instead of an answer."""
    assert judged.question is not None
    metadata: JsonObject = {
        "kind": kind.name, "model": text.model.name, "tokens": text.usage.tokens if text.usage else 0, "prompts": PROMPTS,
        "ask": {"text": judged.question.text, "choices": list(judged.question.choices)},
    }  # fmt: skip
    return QuestionBack(
        attempt_id=run.task.attempt_id, content=judged.text, metadata=metadata | _carried(run), usages=run.usages
    )


def _carried(run: Run) -> JsonObject:
    """What a reply has of its question's metadata."""
    found = {name: run.task.metadata[name] for name in ("reply_to", "project") if run.task.metadata.get(name)}
    return found | ({"traceparent": run.span.traceparent} if run.span.traceparent else {})


def _completion(
    run: Run,
    kind: ReplyKind,
    why: str | None,
    text: GeneratedText,
    judged: Judged,
    call: ModelCall,
    stands: Standing,
    revised: Revised | None,
    warnings: list[str],
) -> Completion:
    cited = judged.document.citations
    metadata: JsonObject = {
        "status": "completed",
        "model": text.model.name,
        "tokens": text.usage.tokens if text.usage else 0,
        "sources": [
            {
                "id": label,
                "path": chunk.place,
                "title": chunk.title,
                "cited": label in cited,
                "sha256": chunk.sha256,
            }
            for label, chunk in zip(call.labels, call.sources, strict=True)
        ],
    }
    if replays := run.task.metadata.get("replays"):
        metadata["replays"] = str(replays)
    if revised:
        metadata["revises"] = str(revised.task)
        metadata["sources"] += [source | {"cited": source["id"] in cited} for source in revised.sources]
    metadata["read_first"] = stands.as_json() | ({"opening": opening} if (opening := opening_of(judged.text)) else {})
    if text.usage:
        metadata["usage"] = text.usage.as_json()
    if text.truncated:
        metadata["truncated"] = True
    if text.refused:
        metadata["kind"] = "refusal"
    elif text.model.is_offline:
        metadata["kind"] = "passages"
    else:
        metadata |= {"kind": kind.name, "prompts": PROMPTS} | judged.metadata
        if why is not None:
            metadata["kind_chosen"] = why
    if warnings:
        metadata["warnings"] = warnings
    metadata |= _carried(run)
    return Completion(
        attempt_id=run.task.attempt_id, content=judged.text, metadata=metadata, model=text.model.name, usages=run.usages
    )
