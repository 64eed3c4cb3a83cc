"""Sends spans to the OpenTelemetry collector that OTEL_EXPORTER_OTLP_ENDPOINT names; needs the extra `otel`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.http import HttpRequest
from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_TRACER: Final = trace.get_tracer("mcp_oauth_site")
_CALLER: Final = TraceContextTextMapPropagator()


class RequestSpan(NamedTuple):
    """The span of a request that is being answered, and what to put back afterwards."""

    span: trace.Span
    token: Any


@cache
def send_spans() -> None:
    """Begin to send spans where the environment says so; once in a process."""
    if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        # The extra may be absent, so that nothing of it is imported before somebody asks for it.
        sdk = import_module("opentelemetry.sdk.trace")
        export = import_module("opentelemetry.sdk.trace.export")
        otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        resource = import_module("opentelemetry.sdk.resources").Resource.create({"service.name": "mcp-oauth-site"})
        provider = sdk.TracerProvider(resource=resource)
        provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
        trace.set_tracer_provider(provider)


def begin_request_span(request: HttpRequest) -> RequestSpan | None:
    """Begin the span of a request, below the caller's if that sent one; None where no spans are sent."""
    if not settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        return None
    sent = {"traceparent": request.headers.get("traceparent", "")}
    span = _TRACER.start_span("request", context=_CALLER.extract(sent), kind=SpanKind.SERVER)
    return RequestSpan(span, context.attach(trace.set_span_in_context(span)))


def end_request_span(begun: RequestSpan | None, *, method: str, route: str, status: int, request_id: str) -> None:
    """End it. It names the route, never the address, which may hold a code."""
    if begun is None:
        return
    context.detach(begun.token)
    begun.span.update_name(f"{method} {route or 'none'}")
    begun.span.set_attributes(
        {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            "correlation_id": request_id,
        }
    )
    if status >= 500:
        begun.span.set_status(Status(StatusCode.ERROR))
    begun.span.end()
