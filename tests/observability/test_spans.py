"""Spans tell what was done and how it ended, and never what was secret in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, override_settings
from opentelemetry.trace import StatusCode

from mcp_oauth_site.env import Environment
from mcp_oauth_site.observability import span_settings, spans
from oauthflow import spans as flow_spans
from oauthflow.protocol.errors import BlockedUrlError


class Recorded:
    """A span that remembers."""

    def __init__(self, name: str, attributes: dict[str, Any]) -> None:
        self.name, self.attributes, self.status, self.ended = name, dict(attributes), None, False

    def set_attribute(self, name: str, value: object) -> None:
        self.attributes[name] = value

    def set_attributes(self, attributes: dict[str, Any]) -> None:
        self.attributes |= attributes

    def set_status(self, status: Any) -> None:
        self.status = status

    def update_name(self, name: str) -> None:
        self.name = name

    def end(self) -> None:
        self.ended = True


class Tracer:
    """Makes such spans."""

    def __init__(self) -> None:
        self.spans: list[Recorded] = []

    def start_span(self, name: str, **kwargs: Any) -> Recorded:
        self.spans.append(Recorded(name, kwargs.get("attributes") or {}))
        return self.spans[-1]

    @contextmanager
    def start_as_current_span(self, name: str, **kwargs: Any) -> Iterator[Recorded]:
        assert kwargs["record_exception"] is kwargs["set_status_on_exception"] is False
        recorded = self.start_span(name, **kwargs)
        yield recorded
        recorded.end()


def test_a_flow_that_failed_leaves_its_code_and_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = Tracer()
    monkeypatch.setattr(flow_spans, "_TRACER", tracer)
    with pytest.raises(BlockedUrlError), flow_spans.span("flow: check", mcp__server="notes"):
        raise BlockedUrlError("https://10.0.0.1/?token=hunter2")
    (recorded,) = tracer.spans
    assert recorded.attributes == {"mcp.server": "notes", "error.type": "egress_blocked"}
    assert recorded.status.status_code is StatusCode.ERROR


@pytest.mark.django_db
def test_a_request_is_named_by_its_route(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = Tracer()
    monkeypatch.setattr(spans, "_TRACER", tracer)
    with override_settings(OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4318"):
        client.get("/api/v1/oauth/callback?code=hunter2&state=hunter2")
    (recorded,) = tracer.spans
    assert recorded.name == "GET api/v1/oauth/callback"
    assert recorded.ended
    assert "hunter2" not in str(recorded.__dict__)


def test_without_an_address_no_span_is_begun(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = Tracer()
    monkeypatch.setattr(spans, "_TRACER", tracer)
    client.get("/healthz")
    assert tracer.spans == []


@pytest.mark.parametrize("address", ["localhost:4318", "ftp://localhost", "http://user:hunter2@localhost:4318"])
def test_an_unreadable_address_stops_the_start(address: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="^OTEL_EXPORTER_OTLP_ENDPOINT ") as refused:
        span_settings.spans_endpoint(Environment({"OTEL_EXPORTER_OTLP_ENDPOINT": address}))
    assert "hunter2" not in str(refused.value)


def test_absent_packages_are_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_settings, "find_spec", lambda name: None)
    with pytest.raises(ImproperlyConfigured, match="requirements-otel.lock"):
        span_settings.spans_endpoint(Environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}))
