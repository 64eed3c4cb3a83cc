"""Token requests and authorization URLs: what requests-oauthlib may do, and what it may not."""

from __future__ import annotations

import base64
import json
import logging
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from pytest_django import Settings

from oauthflow.egress import NOISY_LOGGERS, Egress, Limits
from oauthflow.protocol.errors import (
    BlockedUrlError,
    GrantRefusedError,
    MalformedResponseError,
    ResponseTimeoutError,
    TransportError,
)
from oauthflow.protocol.messages import Request, Response
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.token_endpoint import TokenResponse, read_token_response
from oauthflow.protocol.trace import Trace
from tests.requirements import requirement

from .loopback import http_response, serving

NOW = datetime(2026, 11, 21, tzinfo=UTC)
GRANTED = {"access_token": "access-1", "token_type": "Bearer", "expires_in": 60, "refresh_token": "r-2", "scope": "a"}
CODE_FORM = {
    "grant_type": "authorization_code",
    "code": "code with spaces + & ü",
    "redirect_uri": "https://site.example/callback",
    "code_verifier": "v" * 43,
    "resource": "https://mcp.example/mcp",
    "client_id": "client",
}
REFRESH_FORM = {"grant_type": "refresh_token", "refresh_token": "r-1", "resource": "https://mcp.example/mcp"}
BASIC = {"Authorization": "Basic " + base64.b64encode(b"client:s%3Acret").decode()}


def read(response: Response) -> TokenResponse:
    return read_token_response(response, requested_scope="a b", received_at=NOW)


def granted(**changes: object) -> bytes:
    return http_response(json.dumps(GRANTED | changes).encode())


@pytest.mark.parametrize(("form", "headers"), [(CODE_FORM, {}), (REFRESH_FORM, BASIC), (REFRESH_FORM, {})])
def test_a_token_request_goes_out_exactly_as_it_was_made(
    form: dict[str, str], headers: dict[str, str], settings: Settings
) -> None:
    trace = Trace()
    with serving(granted()) as server:
        settings.EGRESS_ALLOW = ("127.0.0.1",)
        tokens = Egress(trace=trace).redeem(
            Request("POST", f"{server.url}/token", headers=headers, form=form), read=read, step="token"
        )
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert dict(parse_qsl(body.decode(), strict_parsing=True)) == form
    assert (b"Authorization" in head) == bool(headers)
    assert (tokens.access_token.reveal(), tokens.scope, tokens.expires_at) == (
        "access-1",
        "a",
        NOW + timedelta(seconds=60),
    )
    assert tokens.refresh_token is not None
    assert [(step.step, step.status) for step in trace.steps] == [("token", 200)]


@pytest.mark.parametrize("form", [CODE_FORM, REFRESH_FORM])
@pytest.mark.parametrize(
    "changes", [{"scope": "other"}, {"expires_in": "soon"}, {"expires_in": None}, {"expires_at": "x"}, {"error": ""}]
)
def test_what_our_reader_accepts_the_library_cannot_refuse(
    form: dict[str, str], changes: dict[str, object], settings: Settings
) -> None:
    lenient = TokenResponse(Secret("access-1"), "Bearer", None, None, "")
    with serving(granted(**changes)) as server:
        settings.EGRESS_ALLOW = ("127.0.0.1",)
        tokens = Egress().redeem(Request("POST", server.url, form=form), read=lambda response: lenient)
    assert tokens is lenient


@pytest.mark.parametrize("form", [CODE_FORM, REFRESH_FORM])
def test_the_verdict_of_the_reader_is_raised(form: dict[str, str], settings: Settings) -> None:
    trace = Trace()
    with serving(http_response(b'{"error": "invalid_grant"}', status="400 Bad Request")) as server:
        settings.EGRESS_ALLOW = ("127.0.0.1",)
        with pytest.raises(GrantRefusedError):
            Egress(trace=trace).redeem(Request("POST", server.url, form=form), read=read, step="token")
    assert len(server.requests) == 1
    assert [step.status for step in trace.steps] == [400]


@requirement("U-04")
@pytest.mark.parametrize("status", ["301 x", "302 x", "303 x", "307 x", "308 x"])
@pytest.mark.parametrize("form", [CODE_FORM, REFRESH_FORM])
def test_a_redirect_from_the_token_endpoint_carries_nothing_on(
    status: str, form: dict[str, str], settings: Settings
) -> None:
    with serving(granted()) as other:
        elsewhere = http_response(status=status, headers=(f"Location: {other.url}/token",))
        with serving(elsewhere) as server:
            settings.EGRESS_ALLOW = ("127.0.0.1",)
            with pytest.raises(MalformedResponseError):
                Egress().redeem(Request("POST", server.url, form=form), read=read)
    assert len(server.requests) == 1
    assert other.requests == []


def test_a_token_answer_is_bounded_and_awaited_once(settings: Settings) -> None:
    limits = Limits(1000, first_byte_seconds=0.1, total_seconds=0.2)
    request = Request("POST", "", form=REFRESH_FORM)
    for script, error in (
        (granted(padding="x" * 1000), MalformedResponseError),
        (b"", TransportError),
        (lambda connection: connection.recv(1), ResponseTimeoutError),
    ):
        with serving(script) as server:
            settings.EGRESS_ALLOW = ("127.0.0.1",)
            with pytest.raises(error):
                Egress().redeem(Request("POST", server.url, form=request.form), read=read, limits=limits)
        assert len(server.requests) == 1


@requirement("U-02")
def test_plain_http_stays_closed_after_it_was_allowed_elsewhere(settings: Settings) -> None:
    with serving(granted()) as server:
        settings.EGRESS_ALLOW = (f"127.0.0.1:{server.port}",)
        Egress().redeem(Request("POST", server.url, form=CODE_FORM), read=read)
    for url in ("http://as.example/token", "http://127.0.0.1:9/token"):
        with pytest.raises(BlockedUrlError):
            Egress().redeem(Request("POST", url, form=CODE_FORM), read=read)
        with pytest.raises(BlockedUrlError):
            Egress().authorization_url(url, parameters={"client_id": "c", "state": "s"})


def test_the_named_loggers_at_info_write_no_secret(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in NOISY_LOGGERS:
        caplog.set_level(logging.INFO, logger=name)
    with serving(granted()) as server:
        settings.EGRESS_ALLOW = ("127.0.0.1",)
        Egress().redeem(Request("POST", server.url, headers=BASIC, form=REFRESH_FORM), read=read)
        Egress().authorization_url(f"{server.url}/authorize", parameters={"client_id": "c", "state": "state-1"})
    assert not any(
        secret in caplog.text for secret in ("access-1", "r-1", "r-2", "state-1", BASIC["Authorization"][6:])
    )


def test_the_parameters_of_an_authorization_request_are_in_the_query_once() -> None:
    parameters = {
        "response_type": "code",
        "client_id": "https://site.example/oauth/client-metadata.json",
        "redirect_uri": "https://site.example/api/v1/oauth/callback",
        "state": "state-1",
        "code_challenge": "c" * 43,
        "code_challenge_method": "S256",
        "scope": "read write",
        "resource": "https://mcp.example/mcp?a=b&c",
        "access_type": "offline",
        "url": "a name that the library uses itself",
    }
    url = Egress().authorization_url("https://as.example/authorize?tenant=one", parameters=parameters)
    assert url.startswith("https://as.example/authorize?tenant=one&")
    assert parse_qs(urlsplit(url).query, strict_parsing=True) == {
        name: [value] for name, value in (parameters | {"tenant": "one"}).items()
    }


def test_no_scope_and_no_empty_parameter_is_sent() -> None:
    url = Egress().authorization_url(
        "https://as.example/authorize", parameters={"client_id": "c", "state": "s", "scope": "", "resource": ""}
    )
    assert set(parse_qs(urlsplit(url).query, keep_blank_values=True)) == {"response_type", "client_id", "state"}


@pytest.mark.parametrize(
    "endpoint",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "http://as.example/a",
        "https://10.0.0.1/a",
        "https://a/$(id)",
        "custom:x",
    ],
)
def test_a_browser_is_not_sent_to_what_is_no_public_https_page(endpoint: str) -> None:
    with pytest.raises(BlockedUrlError):
        Egress().authorization_url(endpoint, parameters={"client_id": "c", "state": "s"})
