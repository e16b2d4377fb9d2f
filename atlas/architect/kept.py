"""What a call asks a model, as it is kept: exactly, with the texts that many prompts share apart. Pure."""

from __future__ import annotations

import hashlib
import json
import re

from atlas.architect.kinds import PROMPTS, ReplyKind
from atlas.errors import WrongState
from atlas.llm.models import Model
from atlas.llm.port import ModelCall
from atlas.task import AttemptId, Chunk, JsonObject

_PASSAGE = re.compile(r"(?<=>\n)(.*?)(?=\n</source>)", re.DOTALL)
_PLACE = ("source", "title", "heading", "start_line", "end_line", "kind", "commit", "sha256")


def kept(call: ModelCall, attempt: AttemptId, number: int, tier: str) -> JsonObject:
    """As atlas.keep_prompts in SQL takes it: what people wrote stays in its own row, instructions and passages are shared."""
    texts: dict[str, str] = {}

    def shared(text: str) -> JsonObject:
        digest = hashlib.sha256(text.encode()).hexdigest()
        texts[digest] = text
        return {"sha256": digest}

    body: list[list[object]] = [["instructions", [shared(call.instructions)]]]
    quoted = {source.text for source in call.sources}
    for role, text in call.turns:
        pieces: list[object] = []
        for piece in _PASSAGE.split(text) if text.startswith("<source ") else [text]:
            if piece in quoted:
                pieces.append(shared(piece))
            elif piece:
                pieces.append(piece)
        body.append([role, pieces])
    whole = json.dumps([["instructions", call.instructions], *call.turns], ensure_ascii=False, separators=(",", ":"))
    parameters = {
        "kind": call.kind, "max_output_tokens": call.max_output_tokens, "effort": call.model.reasoning_effort, "tier": tier,
        "completion_window": call.completion_window, "schema": call.schema,
    }  # fmt: skip
    sources = [
        {"id": label, "text_sha256": hashlib.sha256(chunk.text.encode()).hexdigest()}
        | {name: getattr(chunk, name) for name in _PLACE}
        for label, chunk in zip(call.labels, call.sources, strict=True)
    ]
    given = {name: value for name, value in parameters.items() if value is not None}
    return {
        "attempt_id": str(attempt), "call": number, "model": call.model.name, "version": PROMPTS, "parameters": given,
        "body": body, "sources": sources, "texts": texts, "sha256": hashlib.sha256(whole.encode()).hexdigest(),
    }  # fmt: skip


def asked_again(found: JsonObject | None, model: Model, kind: ReplyKind, question: str) -> ModelCall:
    """The call of a prompt that was kept, for another model. Raises WrongState where it is not whole any more."""
    if found is None:
        raise WrongState(
            "the prompt of that reply was deleted", "prompts are deleted when their task is trimmed or erased: ask again"
        )
    turns = found["turns"]
    if not turns or any(text is None for _, text in turns) or any(source["text"] is None for source in found["sources"]):
        raise WrongState("some of the sources of that reply were deleted", "ask the question again")
    chunks = tuple(
        Chunk(chunk_id=0, text=source["text"], tokens=0, score=0.0, **{name: source[name] for name in _PLACE})
        for source in found["sources"]
    )
    return ModelCall(
        model=model, instructions=turns[0][1], turns=tuple((role, text) for role, text in turns[1:]), max_output_tokens=0,
        question=question, sources=chunks, labels=tuple(source["id"] for source in found["sources"]), kind=kind.name,
        schema=None if model.is_offline else kind.schema,
    )  # fmt: skip
