"""Traces by OpenTelemetry, to a collector over OTLP/HTTP: the extra `otel`.

OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_HEADERS are settings of Atlas. What else the SDK reads of the environment
(OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_*) is as its documentation says.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from atlas import __version__
from atlas.text import clean
from atlas.tracing.port import Attributes, Kind

_KINDS: Mapping[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT, "consumer": SpanKind.CONSUMER, "producer": SpanKind.PRODUCER,
}  # fmt: skip
_LONGEST_FLUSH = 5.0
"""Seconds that a process which ends waits for its last spans: a collector that is away must not hold it up."""


class OtelSpan:
    """A span of the SDK: atlas.tracing.port.Span."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span
        self._ended: int | None = None

    @property
    def recording(self) -> bool:
        return self._span.is_recording()

    @property
    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(self._span, Context()))
        return carrier.get("traceparent")

    def child(self, name: str, *, kind: Kind = "internal", attributes: Attributes | None = None) -> OtelSpan:
        context = trace.set_span_in_context(self._span, Context())
        return OtelSpan(self._tracer, self._tracer.start_span(name, context, _KINDS[kind], attributes))

    def add(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def fail(self, error_type: str, message: str = "") -> None:
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(Status(StatusCode.ERROR, clean(message)[:500] or None))

    def stop(self) -> None:
        self._ended = self._ended or time.time_ns()

    def finish(self) -> None:
        self._span.end(self._ended)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.fail(kind.__name__, str(error))
        self.finish()


class OtelTracer:
    """Sends traces to a collector: atlas.tracing.port.Tracer.

    endpoint: its address, to which /v1/traces is added. headers: as OTEL_EXPORTER_OTLP_HEADERS has them, by name.
    """

    def __init__(self, endpoint: str, headers: Mapping[str, str]) -> None:
        exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", headers=headers)
        own = Resource.create({"service.name": "atlas", "service.version": __version__})
        self._provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("atlas", __version__)

    def start(self, name: str, *, kind: Kind, parent: str | None, attributes: Attributes) -> OtelSpan:
        carrier = {"traceparent": parent} if parent else {}
        context = TraceContextTextMapPropagator().extract(carrier, Context())
        return OtelSpan(self._tracer, self._tracer.start_span(name, context, _KINDS[kind], attributes))

    def close(self) -> None:
        """Sends what is left, for some seconds at most."""
        # the SDK waits for as long as a collector may take: a daemon's thread may be left behind
        last = threading.Thread(target=self._provider.shutdown, daemon=True, name="last spans")
        last.start()
        last.join(_LONGEST_FLUSH)
