"""The form of requests, and how clients prove who they are."""

from __future__ import annotations

import json
import time
from base64 import b64encode, urlsafe_b64encode
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from audit.models import AuditRecord
from authserver.models import McpClient
from tests.authserver.grants import SECRET, make_client, make_code, make_consent, nothing_remembered
from tests.authserver.token_calls import ask, ask_token, basic_header, code_form
from tests.requirements import requirement

__all__ = ["nothing_remembered"]
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_GOOD = b"grant_type=refresh_token&client_id=program&refresh_token=x"


@requirement("AS17")
@pytest.mark.parametrize(
    ("path", "body", "content_type"),
    [
        ("/oauth/token?grant_type=refresh_token", _GOOD, "application/x-www-form-urlencoded"),
        ("/oauth/token?x", _GOOD, "application/x-www-form-urlencoded"),
        ("/oauth/token", b'{"grant_type": "refresh_token"}', "application/json"),
        ("/oauth/token", _GOOD, "text/plain"),
        ("/oauth/token", _GOOD, "application/x-www-form-urlencoded; charset=utf-16"),
        ("/oauth/token", _GOOD, "multipart/form-data; boundary=x"),
        ("/oauth/token", _GOOD, ";;;"),
        ("/oauth/token", _GOOD + b"&client_id=program", "application/x-www-form-urlencoded"),
        ("/oauth/token", _GOOD + b"&resource=a&resource=b", "application/x-www-form-urlencoded"),
        ("/oauth/token", _GOOD + b"&scope=%00", "application/x-www-form-urlencoded"),
        ("/oauth/token", _GOOD + b"&scope=%ff", "application/x-www-form-urlencoded"),
        ("/oauth/token", _GOOD + b"&x=" + b"y" * 70_000, "application/x-www-form-urlencoded"),
        ("/oauth/token", b"&".join(b"p%d=1" % number for number in range(60)), "application/x-www-form-urlencoded"),
        ("/oauth/token", b"client_id=program", "application/x-www-form-urlencoded"),
        ("/oauth/token", b"grant_type=&client_id=program", "application/x-www-form-urlencoded"),
    ],
)
def test_a_request_of_another_form_is_refused(client_of: Any, path: str, body: bytes, content_type: str) -> None:
    client_of()
    got = ask(path, body, **{"Content-Type": content_type})
    assert (got.status, got.error) == (400, "invalid_request")
    assert got.headers["Cache-Control"] == "no-store"


@pytest.fixture
def client_of(db: None) -> Any:
    return make_client


@requirement("AS17")
@pytest.mark.parametrize("method", ["get", "put", "delete", "patch"])
def test_only_post_is_taken(db: None, method: str) -> None:
    response = getattr(Client(), method)("/oauth/token")
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


def test_a_browser_may_ask_first(db: None) -> None:
    response = Client().options("/oauth/token", headers={"Origin": "https://inspector.example"})
    assert response.status_code == 204
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "authorization" in response.headers["Access-Control-Allow-Headers"].lower()
    assert Client().options("/oauth/introspect", headers={"Origin": "https://a.example"}).status_code == 405


@requirement("AS16")
@pytest.mark.parametrize(
    "grant_type",
    [
        "password",
        "implicit",
        "urn:ietf:params:oauth:grant-type:device_code",
        "token",
        "refresh_token ",
        "AUTHORIZATION_CODE",
    ],
)
def test_a_grant_of_the_past_or_of_nowhere_is_not_supported(client_of: Any, grant_type: str) -> None:
    client_of(grant_types=[grant_type])
    assert ask_token({"grant_type": grant_type, "client_id": "program"}).error == "unsupported_grant_type"


def _ways(code: str, secret: str) -> dict[str, tuple[dict[str, str], dict[str, Any]]]:
    return {
        "none": (code_form(code), {}),
        "client_secret_post": (code_form(code, client_secret=secret), {}),
        "client_secret_basic": (code_form(code), {"basic": ("program", secret)}),
    }


@requirement("AS17")
@pytest.mark.parametrize("registered", ["none", "client_secret_post", "client_secret_basic"])
@pytest.mark.parametrize("used", ["none", "client_secret_post", "client_secret_basic"])
def test_a_client_authenticates_as_it_registered_and_in_no_other_way(alice: User, registered: str, used: str) -> None:
    code = make_code(make_consent(alice, make_client(method=registered)))
    form, more = _ways(code, SECRET)[used]
    got = ask_token(form, **more)
    assert got.status == (200 if registered == used else 401)
    if registered != used:
        assert got.error == "invalid_client"
        assert got.headers["WWW-Authenticate"].startswith("Basic ")
        assert ask_token(*_ways(code, SECRET)[registered][:1], **_ways(code, SECRET)[registered][1]).status == 200


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
@pytest.mark.parametrize("secret", ["wrong", SECRET + "x", SECRET[:-1], SECRET.upper()])
def test_a_wrong_secret_is_refused_and_recorded(alice: User, method: str, secret: str) -> None:
    code = make_code(make_consent(alice, make_client(method=method)))
    form, more = _ways(code, secret)[method]
    assert ask_token(form, **more).error == "invalid_client"
    recorded = AuditRecord.objects.get(event="authorization.failed")
    assert (recorded.client, recorded.reason) == ("program", "invalid_client")
    assert secret not in str(recorded.details)


def test_a_confidential_client_without_a_secret_is_nobody(alice: User) -> None:
    code = make_code(make_consent(alice, make_client(method="client_secret_post", client_secret_hash="")))
    for secret in ("", "x", "0" * 64):
        assert ask_token(code_form(code, client_secret=secret)).error == "invalid_client"


def test_an_unknown_client_is_refused_with_401_and_leaves_no_trace(db: None) -> None:
    got = ask_token(code_form("x", client_id="nobody"))
    assert (got.status, got.error) == (401, "invalid_client")
    assert not AuditRecord.objects.exists()


@requirement("AS17")
@pytest.mark.parametrize(
    "header",
    ["Basic", "Basic ", "Basic !!!", "Basic " + b64encode(b"no colon").decode(),
     "Basic " + b64encode(b"\xff:x").decode(),
     "Basic " + b64encode(b"a%00:b").decode(), "Basic " + b64encode(b"%ff:b").decode(), "Bearer x", "", "basic" * 5000,
     "Basic " + b64encode(b":secret").decode()],
)  # fmt: skip
def test_a_header_that_cannot_be_read_is_a_client_error(client_of: Any, header: str) -> None:
    client_of()
    got = ask("/oauth/token", b"grant_type=refresh_token&refresh_token=x", Authorization=header)
    assert (got.status, got.error) == (401, "invalid_client")


def test_two_ways_at_once_and_two_names_are_refused(client_of: Any) -> None:
    client_of(method="client_secret_basic")
    both = ask_token({"grant_type": "refresh_token", "client_secret": SECRET}, basic=("program", SECRET))
    names = ask_token({"grant_type": "refresh_token", "client_id": "other"}, basic=("program", SECRET))
    assert (both.error, names.error) == ("invalid_request", "invalid_request")


def test_names_and_secrets_with_special_characters_survive_the_header(alice: User) -> None:
    client = make_client("a:b c%d+é", method="client_secret_basic")
    code = make_code(make_consent(alice, client))
    assert ask_token(code_form(code, client_id=""), basic=(client.client_id, SECRET)).status == 200
    assert basic_header(client.client_id, SECRET).startswith("Basic ")


# ---- private_key_jwt

_KEY = ECKey.generate_key("P-256")


def _assertion(*, key: Any = _KEY, alg: str = "ES256", **changes: Any) -> str:
    claims = {
        "iss": "program", "sub": "program", "aud": "http://localhost:8000", "exp": int(time.time()) + 60, "jti": "one",
    }  # fmt: skip
    kept = {name: value for name, value in {**claims, **changes}.items() if value is not None}
    return jwt.encode({"alg": alg, "kid": "k"}, kept, key, algorithms=[alg])


def _with_assertion(code: str, assertion: str, **changes: str) -> Any:
    form = code_form(code, client_assertion_type=ASSERTION, client_assertion=assertion, client_id="")
    return ask_token({**form, **changes})


@pytest.fixture
def asserting(alice: User) -> McpClient:
    key = {**_KEY.as_dict(private=False), "kid": "k"}
    return make_client(method="private_key_jwt", jwks={"keys": [key]})


@pytest.mark.parametrize(
    "audience", ["http://localhost:8000", "http://localhost:8000/oauth/token", ["http://localhost:8000"]]
)
def test_a_client_proves_itself_by_its_key(asserting: McpClient, alice: User, audience: Any) -> None:
    code = make_code(make_consent(alice, asserting))
    assert _with_assertion(code, _assertion(aud=audience)).status == 200


@requirement("AS12")
def test_an_assertion_is_good_once(asserting: McpClient, alice: User) -> None:
    consent, assertion = make_consent(alice, asserting), _assertion()
    assert _with_assertion(make_code(consent), assertion).status == 200
    assert _with_assertion(make_code(consent), assertion).error == "invalid_client"
    assert _with_assertion(make_code(consent), _assertion(jti="two")).status == 200


@requirement("AS12")
@pytest.mark.parametrize(
    "changes",
    [
        {"key": ECKey.generate_key("P-256")}, {"aud": "https://elsewhere.example"}, {"aud": None}, {"iss": "other"},
        {"iss": None}, {"exp": None}, {"exp": int(time.time()) - 60}, {"exp": int(time.time()) + 86_400},
        {"exp": "9999999999"}, {"exp": True}, {"jti": None}, {"jti": 5}, {"nbf": int(time.time()) + 86_400},
        {"iat": int(time.time()) + 86_400}, {"key": OctKey.import_key("x" * 32), "alg": "HS256"},
    ],
)  # fmt: skip
def test_a_forged_assertion_is_refused(asserting: McpClient, alice: User, changes: dict[str, Any]) -> None:
    code = make_code(make_consent(alice, asserting))
    assert _with_assertion(code, _assertion(**changes)).error == "invalid_client"
    assert _with_assertion(code, _assertion()).status == 200


@pytest.mark.parametrize("assertion", ["x", "a.b.c", "..", "e30.e30.e30", "é", "x" * 9000, "e30.W10.AA"])
def test_an_assertion_that_is_none_is_a_client_error(asserting: McpClient, alice: User, assertion: str) -> None:
    got = _with_assertion(make_code(make_consent(alice, asserting)), assertion)
    assert (got.status, got.error) == (401, "invalid_client")


@pytest.mark.parametrize("name", ["\ud800", "pro\x00gram"])
def test_an_assertion_in_a_name_that_no_database_can_look_up_is_a_client_error(asserting: McpClient, name: str) -> None:
    parts = [
        urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "ES256"}, {"sub": name})
    ]
    got = _with_assertion("x", ".".join([*parts, "AAAA"]))
    assert (got.status, got.error) == (401, "invalid_client")


def test_an_assertion_of_another_kind_is_refused(asserting: McpClient, alice: User) -> None:
    got = _with_assertion("x", _assertion(), client_assertion_type="urn:example:saml")
    assert got.error == "invalid_request"
