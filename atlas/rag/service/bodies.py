"""What the knowledge service takes and answers: its bodies, as /openapi.json describes them."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from atlas.rag.document import Kind
from atlas.rag.service.gateway import CallRefused

MOST_DOCUMENTS = 1_000
LONGEST_QUERY = 32_000


def storable(text: str) -> str:
    """What Postgres can store: no NUL, and no half of a surrogate pair."""
    if "\x00" in text:
        raise ValueError("holds a NUL character: remove it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is not Unicode text: send UTF-8") from None
    return text


StoredText = Annotated[str, AfterValidator(storable)]


class Body(BaseModel):
    """A body that names nothing unknown: a misspelt field is said, not ignored."""

    model_config = ConfigDict(extra="forbid")


class Filter(Body):
    """Which documents are looked at."""

    source: (
        Annotated[str, Field(max_length=2000, description="the beginning of their source"), AfterValidator(storable)] | None
    ) = None
    kind: Kind | None = None


class Question(Body):
    """What to search for."""

    query: Annotated[str, Field(max_length=LONGEST_QUERY), AfterValidator(storable)]
    top_k: Annotated[int, Field(ge=1, le=200)] = 15
    filter: Filter = Filter()
    relevancy_threshold: Annotated[float, Field(ge=-1, le=1)] | None = None
    collapse_by_file: bool = True
    project: UUID | None = Field(None, description="whose documents besides the shared ones; a user's login has its projects")
    task_id: UUID | None = Field(None, description="search what this task's owner may read (the service's key only)")

    @model_validator(mode="after")
    def _asks(self) -> Question:
        if not self.query.strip():
            raise ValueError("query is empty: ask something")
        return self


class FoundChunk(BaseModel):
    """A chunk. score: what orders them, by the words, the fusion or the reranker."""

    chunk_id: int
    source: str = Field(description="path or URL, commit and lines (pages of a PDF, cells of a notebook), as replies cite it")
    path: str = Field(description="the path or URL alone, as filters and DELETE take it")
    commit: str | None
    kind: str
    title: str
    heading: str
    start_line: int
    end_line: int
    text: str
    tokens: int
    sha256: str
    similarity: float = Field(description="how near it is to the question; what that means is in similarity_kind")
    similarity_kind: Literal["cosine", "words"] = Field(
        description="cosine: of the vectors; words: what share of the question's words it holds, each by its weight, 0 to 1"
    )
    score: float


class Answer(BaseModel):
    """Chunks, best first, and what to know of the search."""

    chunks: list[FoundChunk]
    warnings: list[str]


class Item(Body):
    """A document of a batch."""

    source: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(storable)]
    text: Annotated[str, Field(max_length=2_000_000), AfterValidator(storable)]
    kind: Kind | None = None


class NewDocument(Body):
    """A document: its text, or the bytes of a PDF in base64."""

    source: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(storable)]
    text: Annotated[str, Field(max_length=4_000_000), AfterValidator(storable)] | None = None
    content_base64: str | None = None
    kind: Kind | None = None
    project: UUID | None = None

    @model_validator(mode="after")
    def _one_content(self) -> NewDocument:
        if (self.text is None) == (self.content_base64 is None):
            raise ValueError("send text, or content_base64 (a PDF), and not both")
        return self

    def data(self) -> bytes:
        """Its bytes. Raises CallRefused."""
        if self.text is not None:
            return self.text.encode()
        try:
            return base64.b64decode(self.content_base64 or "", validate=True)
        except (binascii.Error, ValueError) as error:
            raise CallRefused(422, "invalid", f"content_base64 is not base64 ({error})", "encode the file's bytes") from None


class Said(BaseModel):
    """An error: a word for it, what is wrong, and the next act."""

    code: str
    message: str
    hint: str


class Refusal(BaseModel):
    """The body of every answer that is not a success."""

    error: Said


class JobState(BaseModel):
    """How far a job is."""

    job_id: UUID
    state: Literal["queued", "running", "completed", "failed"]
    done: int
    total: int
    errors: list[str]
    last_error: str | None = Field(description="why it waits, or failed")


class SourceRow(BaseModel):
    """A document that is indexed."""

    source: str
    title: str
    kind: str
    chunks: int
    commit: str | None
    project: UUID | None
    indexed_at: datetime
