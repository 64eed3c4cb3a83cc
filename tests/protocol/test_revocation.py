"""Revocation of tokens."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import pytest

from oauthflow.protocol.client_auth import ClientCredentials
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import ClientRefusedError, MalformedResponseError, TokenEndpointError
from oauthflow.protocol.messages import Response
from oauthflow.protocol.retry_after import ServerUnavailableError
from oauthflow.protocol.revocation import read_revocation_response, revocation_request
from oauthflow.protocol.secret import Secret

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("hint", ["access_token", "refresh_token"])
def test_the_request_carries_token_and_hint_and_authenticates(hint: Literal["access_token", "refresh_token"]) -> None:
    request = revocation_request(
        endpoint="https://as.example.com/revoke",
        token=Secret("marker-token"),
        hint=hint,
        client=ClientCredentials("client-1", client_secret=Secret("s"), auth_method="client_secret_post"),
        issuer="https://as.example.com",
        now=NOW,
    )
    assert (request.method, request.url) == ("POST", "https://as.example.com/revoke")
    assert request.form == {
        "token": "marker-token",
        "token_type_hint": hint,
        "client_id": "client-1",
        "client_secret": "s",
    }
    assert "marker" not in repr(request)


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>OK</html>", b'{"error":"invalid_token"}'])
@pytest.mark.parametrize("status", [200, 202, 204])
def test_an_accepted_revocation_is_accepted_whatever_its_body(status: int, body: bytes) -> None:
    assert read_revocation_response(Response(status, body=body)) is True


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_an_unavailable_server_is_asked_again_later(status: int) -> None:
    with pytest.raises(ServerUnavailableError) as unavailable:
        read_revocation_response(Response(status, headers={"retry-after": "30"}))
    assert unavailable.value.retry_after == 30


def test_a_refused_client_is_told_apart() -> None:
    with pytest.raises(ClientRefusedError):
        read_revocation_response(Response(401, headers=JSON, body=b'{"error":"invalid_client"}'))


def test_an_unsupported_token_type_is_told_apart_from_a_refusal() -> None:
    assert read_revocation_response(Response(400, headers=JSON, body=b'{"error":"unsupported_token_type"}')) is False
    with pytest.raises(TokenEndpointError) as refused:
        read_revocation_response(Response(400, headers=JSON, body=b'{"error":"invalid_request"}'))
    assert refused.value.code == Code.INVALID_REQUEST


@pytest.mark.parametrize("status", [302, 400, 403, 404])
def test_anything_else_is_malformed(status: int) -> None:
    with pytest.raises(MalformedResponseError):
        read_revocation_response(Response(status, headers={"content-type": "text/html"}, body=b"<html>"))
