"""Proofs of possession, and when one more is wanted. RFC 9449."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from oauthflow.protocol.dpop import asks_for_nonce, dpop_proof, given_nonce, proof_url, require_our_algorithm
from oauthflow.protocol.errors import DiscoveryError
from oauthflow.protocol.messages import Response
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.signing_key import SigningKey
from tests.fakes.internet import Call
from tests.fakes.proofs import read_proof

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
JSON = {"content-type": "application/json"}


def response(status: int, *, body: object = None, **headers: str) -> Response:
    named = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Response(status, headers=named, body=json.dumps(body or {}).encode())


def test_a_proof_holds_for_its_request_and_names_the_key() -> None:
    key = SigningKey.new()
    proof = dpop_proof(key, method="POST", url="https://as.example/token?x=1#y", now=NOW, nonce="n-1")
    found = read_proof(Call("POST", "https://as.example/token?x=1", {"DPoP": proof}, ""))
    assert found.jkt == key.thumbprint
    assert found.claims["nonce"] == "n-1"
    assert found.claims["iat"] == int(NOW.timestamp())


def test_a_proof_for_a_resource_names_the_token() -> None:
    proof = dpop_proof(
        SigningKey.new(), method="GET", url="https://mcp.example/mcp", now=NOW, access_token=Secret("at-1")
    )
    headers = {"DPoP": proof, "Authorization": "DPoP at-1"}
    assert "nonce" not in read_proof(Call("GET", "https://mcp.example/mcp", headers, "")).claims


def test_no_two_proofs_are_alike() -> None:
    key = SigningKey.new()
    assert len({dpop_proof(key, method="GET", url="https://a.example/", now=NOW) for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("https://a.example/x?y=1", "https://a.example/x"),
        ("https://a.example/x#z", "https://a.example/x"),
        ("https://a.example/x", "https://a.example/x"),
    ],
)
def test_a_proof_names_neither_query_nor_fragment(url: str, named: str) -> None:
    assert proof_url(url) == named


@pytest.mark.parametrize(("value", "nonce"), [("abc-1", "abc-1"), ("", ""), ('a"b', ""), ("a b", ""), ("x" * 1025, "")])
def test_only_a_nonce_that_the_rfc_allows_is_taken(value: str, nonce: str) -> None:
    assert given_nonce(response(200, dpop_nonce=value)) == nonce


@pytest.mark.parametrize(
    ("answer", "asks"),
    [
        (response(400, body={"error": "use_dpop_nonce"}, dpop_nonce="n"), True),
        (response(401, body={"error": "use_dpop_nonce"}, dpop_nonce="n"), True),
        (response(401, www_authenticate='DPoP error="use_dpop_nonce"', dpop_nonce="n"), True),
        (response(401, www_authenticate='Bearer, DPoP error="use_dpop_nonce"', dpop_nonce="n"), True),
        (response(401, www_authenticate='Bearer error="use_dpop_nonce"', dpop_nonce="n"), False),
        (response(401, www_authenticate='DPoP error="invalid_token"', dpop_nonce="n"), False),
        (response(400, body={"error": "use_dpop_nonce"}), False),
        (response(400, body={"error": "invalid_grant"}, dpop_nonce="n"), False),
        (response(200, body={"error": "use_dpop_nonce"}, dpop_nonce="n"), False),
        (Response(400, headers={**JSON, "dpop-nonce": "n"}, body=b"<html>"), False),
    ],
)
def test_a_request_is_repeated_only_where_a_nonce_is_asked_for_and_given(answer: Response, asks: bool) -> None:
    assert asks_for_nonce(answer) is asks


def test_a_service_whose_list_lacks_our_algorithm_is_refused_and_a_silent_one_is_tried() -> None:
    require_our_algorithm(None)
    require_our_algorithm(("RS256", "ES256"))
    for listed in (("RS256",), ()):
        with pytest.raises(DiscoveryError):
            require_our_algorithm(listed)
