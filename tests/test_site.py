"""What every answer carries, what other origins may read, and what operators are told."""

from __future__ import annotations

import logging

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import path

from audit.masking import masked
from connections.models import KeyCanary
from mcp_oauth_site.canary import key_canary_opens, require_key_canary
from mcp_oauth_site.logs import describe_exception, keep_allowed_fields
from mcp_oauth_site.observability.heartbeat import note_beat


def test_every_page_forbids_inline_code_and_framing(client: Client) -> None:
    for address in ("/healthz", "/nowhere", "/api/v1/nowhere"):
        headers = client.get(address).headers
        policy = headers["Content-Security-Policy"]
        for directive in ("frame-ancestors 'none'", "object-src 'none'", "base-uri 'none'", "script-src 'self'"):
            assert directive in policy
        assert "unsafe" not in policy
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_request_id_is_taken_over_when_it_is_plain(client: Client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "abcdef-123456"}).headers["X-Request-ID"] == "abcdef-123456"


@pytest.mark.parametrize("given", ["short", "a b c d e f g h", "x" * 65, "abcdefgh\tb"])
def test_a_strange_request_id_is_replaced(given: str, client: Client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"] != given


@override_settings(CORS_ALLOWED_ORIGINS=("https://app.example",))
@pytest.mark.parametrize(
    ("address", "origin", "allowed"),
    [
        ("/api/v1/nowhere", "https://app.example", "https://app.example"),
        ("/api/v1/nowhere", "https://app.example.evil", None),
        ("/api/v1/nowhere", "null", None),
        ("/api/v1/oauth/callback", "https://app.example", None),
        ("/accounts/login/", "https://app.example", None),
        ("/admin/login/", "https://app.example", None),
        ("/oauth/client-metadata.json", "https://anybody.example", "*"),
    ],
)
@pytest.mark.django_db
def test_other_origins_read_only_what_is_meant_for_them(
    address: str, origin: str, allowed: str | None, client: Client
) -> None:
    for answer in (
        client.get(address, headers={"Origin": origin}),
        client.options(address, headers={"Origin": origin, "Access-Control-Request-Method": "POST"}),
    ):
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed
        assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_missing_api_address_is_answered_in_json(client: Client) -> None:
    answer = client.get("/api/v1/nowhere")
    assert answer.status_code == 404
    assert set(answer.json()) == {"error", "message", "retryable", "requires_reauthorization", "correlation_id"}


def _fail(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("database password hunter2")


urlpatterns = [path("fail", _fail), path("api/fail", _fail)]
handler500 = "mcp_oauth_site.pages.server_error"


@override_settings(ROOT_URLCONF=__name__)
@pytest.mark.parametrize("address", ["/fail", "/api/fail"])
def test_a_fault_of_ours_says_nothing_of_its_cause(address: str) -> None:
    answer = Client(raise_request_exception=False).get(address)
    assert answer.status_code == 500
    assert b"hunter2" not in answer.content
    assert b"Traceback" not in answer.content


def test_a_form_without_proof_is_refused(db: None) -> None:
    answer = Client(enforce_csrf_checks=True).post("/accounts/login/", {"login": "alice", "password": "x"})
    assert answer.status_code == 403


def test_the_session_id_changes_at_sign_in(client: Client, alice: object) -> None:
    client.cookies["sessionid"] = "chosen-by-somebody-else-0123456789"
    client.post("/accounts/login/", {"login": "alice", "password": "correct horse battery"})
    assert client.cookies["sessionid"].value != "chosen-by-somebody-else-0123456789"


def test_liveness_touches_nothing(client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.django_db
def test_readiness_names_its_parts(client: Client) -> None:
    note_beat()
    answer = client.get("/readyz")
    parts = ("database", "migrations", "keys", "cache", "broker", "beat")
    assert answer.json() == {"status": "ok", "parts": dict.fromkeys(parts, "ok")}


@pytest.mark.django_db
def test_keys_that_do_not_fit_the_database_are_noticed(client: Client) -> None:
    require_key_canary()
    assert key_canary_opens()
    KeyCanary.objects.update(canary_sealed="")
    assert not key_canary_opens()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["parts"]["keys"]) == (503, "failed")


@pytest.mark.parametrize(
    "text",
    [
        "GET https://as.example/cb?code=SECRET&state=SECRET",
        "Authorization: Bearer SECRET",
        "{'access_token': 'SECRET', 'x': 1}",
        "refresh_token=SECRET",
        "client_secret: SECRET",
        "got eyJhbGciOiJFUzI1NiJ9SECRET0123456789",
    ],
)
def test_what_looks_like_a_secret_is_masked_in_messages(text: str) -> None:
    assert "SECRET" not in masked(text)


def test_control_characters_cannot_forge_log_lines() -> None:
    assert masked("a\r\nb\x1b[31m") == "a\\x0d\\x0ab\\x1b[31m"


def test_fields_outside_the_list_are_dropped() -> None:
    kept = keep_allowed_fields(logging.getLogger(), "info", {"event": "x", "refresh_token": "SECRET", "status": 200})
    assert kept == {"event": "x", "status": 200}


def test_an_exception_is_told_by_type_and_place() -> None:
    try:
        raise ValueError("token=SECRET")
    except ValueError as error:
        told = describe_exception(logging.getLogger(), "error", {"exc_info": error})["exception"]
    assert told.startswith("ValueError: token=***")
    assert "test_site.py:" in told


def test_the_caller_s_own_forwarding_headers_are_not_believed(rf: RequestFactory) -> None:
    request = rf.get("/", headers={"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"})
    assert not request.is_secure()
    assert request.get_host() == "testserver"


@pytest.mark.parametrize("address", ["/connections/?a=%00", "/api/v1/servers?status=%00", "/admin/?x__exact=%00"])
def test_a_nul_in_a_query_is_a_bad_request(db: None, address: str) -> None:
    answer = Client().get(address)
    assert answer.status_code == 400
