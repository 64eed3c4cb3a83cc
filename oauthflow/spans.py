"""Spans for OpenTelemetry. Without its exporter (the extra `otel`) they cost next to nothing and go nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from .protocol.errors import FlowError

_TRACER: Final = trace.get_tracer("mcp_oauth_site")


@contextmanager
def span(name: str, *, outgoing: bool = False, **attributes: AttributeValue) -> Iterator[trace.Span]:
    """Run a block inside a span. A `FlowError` leaves its code there, any other error its type, neither a message.

    Args:
        name: A few words of ours; nothing that came from elsewhere.
        outgoing: Whether it is a request to another server.
        attributes: Dots in their names are written `__`; never a secret, a query or a person.
    """
    named = {key.replace("__", "."): value for key, value in attributes.items()}
    kind = SpanKind.CLIENT if outgoing else SpanKind.INTERNAL
    with _TRACER.start_as_current_span(
        name, kind=kind, attributes=named, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except Exception as error:
            current.set_status(Status(StatusCode.ERROR))
            told = str(error.code) if isinstance(error, FlowError) else type(error).__name__
            current.set_attribute("error.type", told)
            raise
