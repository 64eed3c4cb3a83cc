"""What is counted, who may read it, and what never becomes a label."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import transaction
from django.test import Client, override_settings
from django.urls import resolve
from django.utils import timezone
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY
from pytest_django import DjangoAssertNumQueries, DjangoCaptureOnCommitCallbacks

from audit.events import AuditEvent
from audit.record import record
from connections.models import Connection, McpServer, TokenSet
from gateway.calls.outcome import AnswerEnd
from gateway.calls.record import NotedCall
from gateway.models import Outcome
from gateway.signals import CALLS_NOTED
from mcp_oauth_site.observability import listener, metrics, state
from mcp_oauth_site.observability.folders import claim_folder
from mcp_oauth_site.observability.heartbeat import note_beat
from oauthflow.egress.signals import outcome_of, tell_request_done
from oauthflow.models import Notice
from oauthflow.protocol.errors import (
    BlockedUrlError,
    MalformedResponseError,
    ResponseTimeoutError,
    TransportError,
)
from oauthflow.protocol.secret import Secret
from tests.product import free_port

TOKEN = "Zq3-7vKx_m2LpRt9WcYbNd4HsJf6GaTe"
LOCAL = {"host": "localhost:8000"}


def _value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("token", "public_host", "sent", "status"),
    [
        ("", "localhost:8000", {}, 200),
        ("", "localhost:8000", {"x-forwarded-for": "203.0.113.9"}, 404),
        ("", "localhost:8000", {"forwarded": "for=203.0.113.9"}, 404),
        ("", "mcp.example.com", {}, 404),
        ("", "mcp.example.com", {"authorization": f"Bearer {TOKEN}"}, 404),
        (TOKEN, "mcp.example.com", {}, 401),
        (TOKEN, "localhost:8000", {}, 401),
        (TOKEN, "mcp.example.com", {"authorization": "Bearer "}, 401),
        (TOKEN, "mcp.example.com", {"authorization": f"Bearer {TOKEN}x"}, 401),
        (TOKEN, "mcp.example.com", {"authorization": f"Bearer {TOKEN}", "x-forwarded-for": "203.0.113.9"}, 200),
    ],
)
def test_metrics_are_read_with_the_token_or_on_a_laptop(
    token: str, public_host: str, sent: dict[str, str], status: int, client: Client
) -> None:
    with override_settings(METRICS_TOKEN=Secret(token), PUBLIC_HOST=public_host):
        answer = client.get("/metrics", headers={**LOCAL, **sent})
    assert answer.status_code == status
    assert (b"mcp_oauth_" in answer.content) == (status == 200)


@pytest.mark.parametrize("peer", ["203.0.113.9", "", "10.0.0.1"])
def test_nobody_from_elsewhere_reads_the_metrics_of_a_laptop(peer: str, client: Client) -> None:
    assert client.get("/metrics", REMOTE_ADDR=peer, headers=LOCAL).status_code == 404


def test_a_name_that_was_rebound_to_this_machine_reads_nothing(client: Client) -> None:
    assert client.get("/metrics", headers={"host": "testserver"}).status_code == 404


@pytest.mark.django_db
def test_a_request_is_counted_by_its_route_and_status(client: Client) -> None:
    labels = {"method": "GET", "route": "healthz", "status": "200"}
    before = _value("mcp_oauth_http_requests_total", **labels)
    client.get("/healthz?secret=in-an-address")
    assert _value("mcp_oauth_http_requests_total", **labels) == before + 1
    answer = client.get("/metrics", headers=LOCAL)
    assert answer.headers["Content-Type"] == CONTENT_TYPE_LATEST
    assert b"in-an-address" not in answer.content


def test_what_matches_no_route_makes_one_label(client: Client) -> None:
    labels = {"method": "other", "route": "none", "status": "404"}
    before = _value("mcp_oauth_http_requests_total", **labels)
    client.generic("BREW", "/somebody/looks/for/a/hole")
    assert _value("mcp_oauth_http_requests_total", **labels) == before + 1


def test_releases_with_and_without_django_are_counted_under_one_route() -> None:
    found = resolve("/api/v1/connections/12345678-1234-1234-1234-123456789012/token")
    assert found.route == metrics.RELEASE_ROUTE


@pytest.mark.django_db
def test_refreshes_are_counted_by_outcome_and_host_of_the_issuer(
    alice: User, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    refreshed = {"outcome": "refreshed", "issuer": "as.example"}
    refused = {"outcome": "client_refused", "issuer": "as.example"}
    before = _value("mcp_oauth_refreshes_total", **refreshed), _value("mcp_oauth_refreshes_total", **refused)
    details = {"issuer": "https://as.example/tenant/alice"}
    with django_capture_on_commit_callbacks(execute=True):
        left = {**details, "seconds_left": 400}
        record(AuditEvent.TOKEN_REFRESHED, actor=alice, server="notes", connection=UUID(int=1), details=left)
        record(AuditEvent.TOKEN_REFRESH_FAILED, connection=UUID(int=1), reason="invalid_client", details=details)
        record(AuditEvent.TOKEN_REFRESH_FAILED, reason="invalid_client", details=details)  # the alert about it
    assert _value("mcp_oauth_refreshes_total", **refreshed) == before[0] + 1
    assert _value("mcp_oauth_refreshes_total", **refused) == before[1] + 1
    assert _value("mcp_oauth_refresh_seconds_left_bucket", le="900.0") >= 1


@pytest.mark.django_db
def test_a_reason_in_words_is_no_label(django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        record(AuditEvent.AUTHORIZATION_FAILED, reason="because alice@example.com said so")
        record(AuditEvent.AUTHORIZATION_FAILED, reason="access_denied")
    codes = {sample.labels["code"] for family in metrics.AUTHORIZATIONS.collect() for sample in family.samples}
    assert {"other", "access_denied"} <= codes
    assert not any("alice" in code for code in codes)


def test_calls_through_the_gateway_are_counted_without_people_and_tools() -> None:
    call = NotedCall(
        UUID(int=1), "notes", 7, "program", "tools/call", "secret_tool", 100, "abc", AnswerEnd(),
        outcome=Outcome.FORBIDDEN, response_bytes=50, milliseconds=40,
    )  # fmt: skip
    odd = replace(call, method="other", outcome=Outcome.OK)
    labels = {"server": "notes", "outcome": "forbidden", "method": "tools/call"}
    before = _value("mcp_oauth_gateway_calls_total", **labels)
    CALLS_NOTED.send(sender=None, calls=[call, odd])
    assert _value("mcp_oauth_gateway_calls_total", **labels) == before + 1
    assert _value("mcp_oauth_gateway_calls_total", **{**labels, "outcome": "ok", "method": "other"}) >= 1
    assert _value("mcp_oauth_gateway_call_seconds_bucket", server="notes", le="0.05") >= 2
    assert _value("mcp_oauth_gateway_bytes_total", server="notes", direction="response") >= 100
    shown = str([sample for family in metrics.GATEWAY_CALLS.collect() for sample in family.samples])
    assert not any(word in shown for word in ("secret_tool", "program"))


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_not_counted() -> None:
    before = _value("mcp_oauth_token_releases_total")
    with transaction.atomic():
        record(AuditEvent.TOKEN_RELEASED)
        transaction.set_rollback(True)
    assert _value("mcp_oauth_token_releases_total") == before
    record(AuditEvent.TOKEN_RELEASED)
    assert _value("mcp_oauth_token_releases_total") == before + 1


@pytest.mark.parametrize(
    ("status", "error", "outcome"),
    [
        (200, None, "2xx"),
        (400, TransportError("judged"), "4xx"),
        (None, BlockedUrlError("private"), "blocked"),
        (None, ResponseTimeoutError("slow"), "timeout"),
        (None, TransportError("refused"), "unreachable"),
        (None, MalformedResponseError("garbage"), "malformed"),
        (None, KeyboardInterrupt(), "abandoned"),
    ],
)
def test_requests_to_other_servers_are_counted_by_outcome(
    status: int | None, error: BaseException | None, outcome: str
) -> None:
    assert outcome_of(status=status, error=error) == outcome
    before = _value("mcp_oauth_egress_requests_total", step="token", outcome=outcome)
    tell_request_done("token", status=status, error=error, seconds=0.1)
    assert _value("mcp_oauth_egress_requests_total", step="token", outcome=outcome) == before + 1


def test_more_issuers_than_fit_a_dashboard_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_issuers", set())
    labels = {metrics.issuer_label(f"https://as{number}.example/") for number in range(300)}
    assert len(labels) == 201
    assert metrics.issuer_label("https://as1.example/") == "as1.example"
    assert metrics.issuer_label("http://[broken") == "other"


@pytest.mark.django_db
def test_the_state_says_what_is_due_and_how_late(alice: User) -> None:
    now = timezone.now()
    server = McpServer.objects.create(name="Notes", slug="notes", url="https://notes.example/mcp")
    connection = Connection.objects.create(server=server, user=alice, status=Connection.Status.ACTIVE)
    TokenSet.objects.create(
        connection=connection, access_token_sealed=Secret("a"), refresh_token_sealed=Secret("r"), obtained_at=now,
        expires_at=now + timedelta(seconds=300), refresh_due_at=now - timedelta(seconds=60), issuer="https://as.example",
        token_endpoint="https://as.example/token", client_id="us", auth_method="none",
    )  # fmt: skip
    note_beat()
    numbers = {sample.name: sample.value for family in state.StateCollector().collect() for sample in family.samples}
    assert numbers["mcp_oauth_refreshes_due"] == 1
    assert numbers["mcp_oauth_refresh_queue_age_seconds"] == pytest.approx(60, abs=5)
    assert numbers["mcp_oauth_soonest_expiry_seconds"] == pytest.approx(300, abs=5)
    assert numbers["mcp_oauth_beat_age_seconds"] == pytest.approx(0, abs=5)
    assert numbers["mcp_oauth_state_readable"] == 1
    cache.clear()


@pytest.mark.django_db
def test_what_waits_to_be_sent_is_told_with_how_late_it_is(alice: User) -> None:
    now = timezone.now()
    for due in (now - timedelta(seconds=90), now + timedelta(hours=1), None):
        Notice.objects.create(
            user=alice, subject="notes", event_type="token.expiring_soon", message="It ends.", created_at=now,
            next_attempt_at=due, give_up_at=now + timedelta(days=1),
        )  # fmt: skip
    told = {
        (sample.name, sample.labels.get("outbox")): sample.value
        for family in state.StateCollector().collect()
        for sample in family.samples
    }
    assert told["mcp_oauth_outbox_waiting", "mail"] == 2
    assert told["mcp_oauth_outbox_late_seconds", "mail"] == pytest.approx(90, abs=60)
    assert [told["mcp_oauth_outbox_waiting", name] for name in ("revocations", "webhooks")] == [0, 0]


@pytest.mark.django_db
def test_no_label_could_name_a_person() -> None:
    ours = [family for family in REGISTRY.collect() if family.name.startswith("mcp_oauth_")]
    families = [*ours, *state.StateCollector().collect()]
    labels = {name for family in families for sample in family.samples for name in sample.labels}
    assert len(families) > 10
    assert labels <= {
        "code",
        "direction",
        "event",
        "grant_type",
        "issuer",
        "le",
        "method",
        "outbox",
        "outcome",
        "route",
        "server",
        "status",
        "step",
    }


@pytest.mark.django_db
def test_the_state_is_read_once_for_many_who_ask(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    collector = state.StateCollector()
    collector.collect()
    with django_assert_num_queries(0):
        collector.collect()


def test_a_folder_of_another_living_process_is_left_alone(tmp_path: Path) -> None:
    first = claim_folder(tmp_path, role="worker")
    (first / "counter_1.db").touch()
    assert claim_folder(tmp_path, role="worker") != first
    assert (first / "counter_1.db").exists()


def test_a_worker_tells_health_and_metrics_on_a_port_of_its_own(tmp_path: Path) -> None:
    port, running = free_port(), [False]
    listener.listen("127.0.0.1", port, folder=str(tmp_path), is_healthy=lambda: running[0])

    def ask(path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert ask("/healthz") == 503
    running[0] = True
    assert (ask("/healthz"), ask("/metrics"), ask("/admin/")) == (200, 200, 404)
    with override_settings(METRICS_TOKEN=Secret(TOKEN)):
        assert ask("/metrics") == 401


def test_answers_of_the_token_endpoint_are_counted_by_grant_and_outcome(db: None) -> None:
    def counted() -> float:
        labels = {"grant_type": "refresh_token", "outcome": "invalid_client"}
        return REGISTRY.get_sample_value("mcp_oauth_token_requests_total", labels) or 0.0

    before = counted()
    form = "grant_type=refresh_token&client_id=nobody&refresh_token=x"
    Client().post("/oauth/token", form, content_type="application/x-www-form-urlencoded")
    assert counted() == before + 1
