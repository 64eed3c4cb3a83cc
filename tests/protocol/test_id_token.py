"""Whom an ID Token names. Security note S15."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauthflow.protocol.id_token import read_subject
from oauthflow.protocol.messages import Response
from oauthflow.protocol.token_endpoint import TokenResponse, read_token_response

ISSUER = "https://as.example"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CLAIMS = {"iss": ISSUER, "sub": "account-1", "aud": "client-1", "exp": 1795262400, "iat": 1795258800}


def part(content: object) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def jwt(claims: object, *, header: object = None) -> str:
    return f"{part({'alg': 'RS256'} if header is None else header)}.{part(claims)}.{part(b'signature')}"


def subject(id_token: object) -> str:
    return read_subject(id_token, issuer=ISSUER, client_id="client-1")


def granted(**members: Any) -> TokenResponse:
    body = json.dumps({"access_token": "at", "token_type": "Bearer", **members}).encode()
    response = Response(200, headers={"content-type": "application/json"}, body=body)
    return read_token_response(response, requested_scope="", received_at=NOW, issuer=ISSUER, client_id="client-1")


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"aud": ["client-1"]},
        {"aud": ["other", "client-1"], "azp": "client-1"},
        {"email": "somebody@example.com", "preferred_username": "somebody"},
    ],
)
def test_the_subject_of_a_token_for_us_is_read(changed: dict[str, object]) -> None:
    assert subject(jwt(CLAIMS | changed)) == "account-1"


def test_subjects_are_told_apart_by_case_and_space_and_kept_up_to_their_full_length() -> None:
    for named in ("Account-1", " account-1", "a" * 255):
        assert subject(jwt(CLAIMS | {"sub": named})) == named


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://as.example/"},
        {"iss": "https://AS.example"},
        {"iss": "https://other.example"},
        {"iss": [ISSUER]},
        {"aud": "other"},
        {"aud": []},
        {"aud": "client-10"},
        {"aud": {"client-1": True}},
        {"aud": [["client-1"]]},
        {"aud": None},
        {"azp": "other"},
        {"azp": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": None},
        {"sub": ["account-1"]},
        {"sub": "a" * 256},
        {"sub": "account\0"},
    ],
)
def test_a_token_of_or_for_somebody_else_names_nobody(changed: dict[str, object]) -> None:
    assert subject(jwt(CLAIMS | changed)) == ""


@pytest.mark.parametrize("missing", ["iss", "sub", "aud"])
def test_a_token_that_lacks_a_claim_names_nobody(missing: str) -> None:
    assert subject(jwt({name: value for name, value in CLAIMS.items() if name != missing})) == ""


@pytest.mark.parametrize(
    "id_token",
    [
        None,
        7,
        {},
        "",
        "...",
        part(CLAIMS),
        f"{part({})}.{part(CLAIMS)}",
        f"{part({})}.{part(CLAIMS)}.",
        f"{jwt(CLAIMS)}.{part(b'x')}.{part(b'x')}",
        f" {jwt(CLAIMS)}",
        f"{jwt(CLAIMS)}\n",
        f"{part({})}.{part(CLAIMS)}=.{part(b'x')}",
        f"{part({})}.A.{part(b'x')}",
        f"{part({})}.ünïcode.{part(b'x')}",
        jwt([CLAIMS]),
        jwt(b"\xff"),
        jwt(json.dumps(CLAIMS).encode()[:-1] + b', "sub": "account-2"}'),
        jwt(json.dumps(CLAIMS).encode()[:-1] + b', "n": NaN}'),
        jwt(b'{"a":' * 30 + b"{}" + b"}" * 30),
        jwt(CLAIMS, header=[]),
        jwt(CLAIMS, header=b"no json"),
        jwt(CLAIMS, header={"alg": "RS256", "crit": ["b64"], "b64": False}),
        jwt(CLAIMS | {"more": "x" * 70_000}),
    ],
)
def test_what_is_no_signed_jwt_with_strict_json_inside_names_nobody(id_token: object) -> None:
    assert subject(id_token) == ""


@given(st.text() | st.lists(st.text(alphabet="ab-_=.\n"), max_size=5).map(".".join))
def test_no_text_makes_the_reader_fail(id_token: str) -> None:
    assert subject(id_token) == ""


def test_a_token_response_carries_the_subject_and_nothing_else_of_the_token() -> None:
    token = jwt(CLAIMS)
    tokens = granted(id_token=token)
    assert tokens.subject == "account-1"
    assert token not in repr([getattr(tokens, name) for name in TokenResponse.__slots__])


@pytest.mark.parametrize("id_token", [None, "garbage", 7, [], jwt(CLAIMS | {"aud": "other"})])
def test_tokens_beside_an_id_token_that_is_off_stay_usable(id_token: object) -> None:
    tokens = granted(id_token=id_token)
    assert (tokens.access_token.reveal(), tokens.subject) == ("at", "")


def test_without_an_issuer_an_id_token_is_not_looked_at() -> None:
    body = json.dumps({"access_token": "at", "token_type": "Bearer", "id_token": jwt(CLAIMS | {"iss": ""})}).encode()
    response = Response(200, headers={"content-type": "application/json"}, body=body)
    assert read_token_response(response, requested_scope="", received_at=NOW).subject == ""
