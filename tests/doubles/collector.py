"""A collector's OTLP/HTTP receiver: keeps the spans that it is sent, read by the protocol's own definitions."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.doubles.serving import serving


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A span as it arrived. kind and status by their names in the protocol."""

    name: str
    kind: str
    status: str
    trace_id: str
    span_id: str
    parent_id: str
    seconds: float
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass(kw_only=True)
class Collector:
    """delay: seconds before each answer."""

    spans: list[Seen] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    delay: float = 0.0
    url: str = ""

    def named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]

    async def take(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        body = await request.body()
        await asyncio.sleep(self.delay)
        packed = request.headers.get("content-encoding") == "gzip"
        found = ExportTraceServiceRequest.FromString(gzip.decompress(body) if packed else body)
        for resource in found.resource_spans:
            about = {pair.key: _value(pair.value) for pair in resource.resource.attributes}
            self.spans += [_seen(span, about) for scope in resource.scope_spans for span in scope.spans]
        return Response(ExportTraceServiceResponse().SerializeToString(), media_type="application/x-protobuf")


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None


def _seen(span: Span, resource: dict[str, Any]) -> Seen:
    return Seen(
        name=span.name, kind=Span.SpanKind.Name(span.kind), status=span.status.StatusCode.Name(span.status.code),
        trace_id=span.trace_id.hex(), span_id=span.span_id.hex(), parent_id=span.parent_span_id.hex(),
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        attributes={pair.key: _value(pair.value) for pair in span.attributes}, resource=resource,
    )  # fmt: skip


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Serves a collector on loopback."""
    found = Collector()
    async with serving(Starlette(routes=[Route("/v1/traces", found.take, methods=["POST"])])) as port:
        found.url = f"http://127.0.0.1:{port}"
        yield found
