from __future__ import annotations

import httpx2
import pytest

from .people import Person
from .programs import CALLBACK, Program


@pytest.fixture
def preregistered(program: Program) -> Program:
    return Program(program.http, program.issuer, program.resource)


def test_the_preregistered_client_posts_its_secret(preregistered: Program, person: Person):
    assert "refresh_token" in preregistered.redeem(person.allow(preregistered.authorization_url())["code"]).json()


def test_the_preregistered_client_sends_its_secret_by_basic(preregistered: Program, person: Person):
    code = person.allow(preregistered.authorization_url())["code"]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": preregistered.redirect_uri,
        "code_verifier": preregistered.verifier,
    }
    credentials = ("mcp-test-client", "mcp-test-secret")
    assert preregistered.http.post(f"{preregistered.issuer}/token", data=form, auth=credentials).status_code == 200


@pytest.mark.parametrize("secret", ["", "wrong"])
def test_a_missing_or_wrong_secret_is_invalid_client(preregistered: Program, secret: str):
    preregistered.client_secret = secret
    refused = preregistered.refresh("whatever")
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert refused.headers["WWW-Authenticate"].startswith("Basic")


def test_a_registration_can_be_deleted_with_its_token_and_takes_its_grants_along(program: Program, person: Person):
    token = program.redeem(person.allow(program.authorization_url())["code"]).json()["access_token"]
    uri = program.registration["registration_client_uri"]
    bearer = {"Authorization": f"Bearer {program.registration['registration_access_token']}"}
    assert program.http.delete(uri, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert program.is_active(token)
    assert program.http.delete(uri, headers=bearer).status_code == 204
    assert not program.is_active(token)
    assert program.refresh("whatever").json()["error"] == "invalid_client"
    assert program.http.delete(uri, headers=bearer).status_code == 401


def test_a_confidential_client_gets_a_secret_that_works(program: Program):
    response = program.http.post(f"{program.issuer}/register", json={"redirect_uris": [CALLBACK]})
    registration = response.json()
    assert registration["token_endpoint_auth_method"] == "client_secret_basic"
    assert registration["client_secret_expires_at"] == 0
    form = {"grant_type": "refresh_token", "refresh_token": "whatever"}
    credentials = (registration["client_id"], registration["client_secret"])
    refused = program.http.post(f"{program.issuer}/token", data=form, auth=credentials)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ([], "invalid_client_metadata"),
        ({}, "invalid_redirect_uri"),
        ({"redirect_uris": ["http://example.com/callback"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://user@example.com/"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://example.com/#here"]}, "invalid_redirect_uri"),
        ({"redirect_uris": [CALLBACK], "grant_types": ["implicit"]}, "invalid_client_metadata"),
        ({"redirect_uris": [CALLBACK], "response_types": ["token"]}, "invalid_client_metadata"),
        ({"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "tls"}, "invalid_client_metadata"),
        ({"redirect_uris": [CALLBACK], "grant_types": "authorization_code"}, "invalid_client_metadata"),
    ],
)
def test_metadata_that_cannot_work_is_refused(issuer: str, metadata, code):
    refused = httpx2.post(f"{issuer}/register", json=metadata)
    assert (refused.status_code, refused.json()["error"]) == (400, code)


def test_a_browser_program_may_register_and_ask_for_tokens(issuer: str):
    preflight = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "Content-Type",
    }
    for endpoint in ("register", "token", "revoke"):
        answer = httpx2.request("OPTIONS", f"{issuer}/{endpoint}", headers=preflight)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    login = httpx2.request("OPTIONS", f"{issuer}/login", headers=preflight)
    assert "Access-Control-Allow-Origin" not in login.headers


def test_a_parameter_that_comes_twice_and_a_body_too_large_are_refused(issuer: str):
    twice = httpx2.post(f"{issuer}/token", data={"client_id": ["mcp-test-client", "nobody"]})
    assert (twice.status_code, twice.json()["error"]) == (400, "invalid_request")
    assert httpx2.post(f"{issuer}/register", content=b" " * 70_000).status_code == 413
