"""What the core asks of tracing. Without a collector it is Untraced, which costs nothing and passes a producer's context on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self

Attributes = Mapping[str, str | int | float | bool | Sequence[str]]
Kind = Literal["internal", "client", "consumer", "producer"]


class Span(Protocol):
    """A piece of work with its duration. As a context manager it finishes with its block, and fails with what that raises."""

    @property
    def recording(self) -> bool:
        """Whether anybody will see it."""

    @property
    def traceparent(self) -> str | None:
        """Its context as W3C Trace Context writes it, for whoever goes on with the trace."""

    def child(self, name: str, *, kind: Kind = "internal", attributes: Attributes | None = None) -> Span:
        """Begins a span within this one."""

    def add(self, attributes: Attributes) -> None:
        """Adds what was learned, until it is finished."""

    def fail(self, error_type: str, message: str = "") -> None:
        """Marks it as failed. error_type: one of few, such as a code."""

    def stop(self) -> None:
        """Its work has ended now; what is learned of it later can still be added."""

    def finish(self) -> None:
        """Hands it over, as of stop where that was called."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Tracer(Protocol):
    """Begins traces, or goes on with those of others."""

    def start(self, name: str, *, kind: Kind, parent: str | None, attributes: Attributes) -> Span:
        """Begins a span. parent: a traceparent; one that cannot be read counts as none."""


@dataclass(frozen=True, slots=True)
class UntracedSpan:
    """A span that nobody sees."""

    traceparent: str | None = None
    recording: bool = False

    def child(self, name: str, *, kind: Kind = "internal", attributes: Attributes | None = None) -> UntracedSpan:
        return self

    def add(self, attributes: Attributes) -> None:
        pass

    def fail(self, error_type: str, message: str = "") -> None:
        pass

    def stop(self) -> None:
        pass

    def finish(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


UNTRACED = UntracedSpan()
"""Belongs to no trace."""


class Untraced:
    """Where nobody collects traces."""

    def start(self, name: str, *, kind: Kind, parent: str | None, attributes: Attributes) -> UntracedSpan:
        return UntracedSpan(parent)
