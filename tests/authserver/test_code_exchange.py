"""`grant_type=authorization_code`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from audit.models import AuditRecord
from authserver.flows.end_tokens import end_families
from authserver.models import AuthorizationCode, Consent, McpClient, TokenFamily
from authserver.revoked import REVOKED
from authserver.tokens import InvalidTokenError, verify
from tests.authserver.grants import RESOURCE, make_client, make_code, make_consent, nothing_remembered
from tests.authserver.token_calls import ask_token, code_form, refresh_form
from tests.requirements import requirement

__all__ = ["nothing_remembered"]


@pytest.fixture
def consent(alice: User) -> Consent:
    return make_consent(alice, make_client())


@requirement("X-01", "X-02", "X-05")
def test_a_code_becomes_tokens_for_its_resource(consent: Consent, alice: User) -> None:
    got = ask_token(code_form(make_code(consent), resource=RESOURCE))
    assert got.status == 200
    assert got.members.keys() == {"access_token", "token_type", "expires_in", "scope", "refresh_token"}
    assert (got.members["token_type"], got.members["expires_in"], got.members["scope"]) == ("Bearer", 900, "mcp:access")
    assert verify(got.members["access_token"], audience=RESOURCE).user_id == alice.pk
    assert (got.headers["Cache-Control"], got.headers["Content-Type"]) == ("no-store", "application/json")
    assert got.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in got.headers


def test_neither_code_nor_refresh_token_is_kept(consent: Consent) -> None:
    code = make_code(consent)
    refresh_token = ask_token(code_form(code)).members["refresh_token"]
    rows = f"{TokenFamily.objects.values().get()} {AuthorizationCode.objects.values().get()}"
    assert code not in rows
    assert refresh_token not in rows


def test_a_client_without_the_refresh_grant_gets_no_refresh_token(alice: User) -> None:
    client = make_client(grant_types=["authorization_code"])
    assert "refresh_token" not in ask_token(code_form(make_code(make_consent(alice, client)))).members


@requirement("X-01", "AS06")
def test_a_code_that_comes_again_ends_all_that_it_gave(consent: Consent) -> None:
    code = make_code(consent)
    given = ask_token(code_form(code)).members
    REVOKED._checked_at = float("-inf")
    assert verify(given["access_token"], audience=RESOURCE)
    assert ask_token(code_form(code)).error == "invalid_grant"
    REVOKED._checked_at = float("-inf")
    with pytest.raises(InvalidTokenError):
        verify(given["access_token"], audience=RESOURCE)
    assert ask_token(refresh_form(given["refresh_token"])).error == "invalid_grant"
    recorded = AuditRecord.objects.get(event="client_grant.revoked")
    assert (recorded.reason, recorded.client) == ("code_replayed", "program")


_WRONG: list[tuple[str, dict[str, str], str]] = [
    ("another verifier", {"code_verifier": "w" * 43}, "invalid_grant"),
    ("a verifier of 42", {"code_verifier": "v" * 42}, "invalid_grant"),
    ("a verifier of 129", {"code_verifier": "v" * 129}, "invalid_grant"),
    ("a verifier with a star", {"code_verifier": "v" * 42 + "*"}, "invalid_grant"),
    ("no verifier", {"code_verifier": ""}, "invalid_request"),
    ("another redirect URI", {"redirect_uri": "http://127.0.0.1:33418/callback/"}, "invalid_grant"),
    ("another port", {"redirect_uri": "http://127.0.0.1:33419/callback"}, "invalid_grant"),
    ("no redirect URI", {"redirect_uri": ""}, "invalid_request"),
    ("another resource", {"resource": f"{RESOURCE}/"}, "invalid_target"),
    ("an unknown resource", {"resource": "https://elsewhere.example/"}, "invalid_target"),
    ("another client", {"client_id": "other"}, "invalid_grant"),
]


@requirement("AS05", "AS06", "X-01", "X-05")
@pytest.mark.parametrize(("changes", "error"), [entry[1:] for entry in _WRONG], ids=[entry[0] for entry in _WRONG])
def test_a_request_that_does_not_match_leaves_the_code_to_who_has_it(
    consent: Consent, changes: dict[str, str], error: str
) -> None:
    make_client("other")
    code = make_code(consent)
    assert ask_token(code_form(code, **changes)).error == error
    assert ask_token(code_form(code)).status == 200


@requirement("X-01", "AS06")
def test_a_code_is_good_for_a_minute(consent: Consent) -> None:
    assert ask_token(code_form(make_code(consent, now=timezone.now() - timedelta(seconds=61)))).error == "invalid_grant"
    assert ask_token(code_form(make_code(consent, now=timezone.now() - timedelta(seconds=55)))).status == 200


@pytest.mark.parametrize(
    "change",
    ["person deactivated", "family ended", "client blocked", "client ended", "client expired", "grant dropped"],
)
def test_what_was_taken_away_since_is_not_given(consent: Consent, alice: User, change: str) -> None:
    code, now = make_code(consent), timezone.now()
    client = McpClient.objects.filter(pk=consent.client_id)
    expected = "invalid_client" if change.startswith("client") else "invalid_grant"
    if change == "person deactivated":
        User.objects.filter(pk=alice.pk).update(is_active=False)
    elif change == "family ended":
        end_families(TokenFamily.objects.all(), reason="test", now=now)
    elif change == "grant dropped":
        client.update(grant_types=["refresh_token"])
        expected = "unauthorized_client"
    else:
        column = {"client blocked": "blocked_at", "client ended": "ended_at", "client expired": "expires_at"}[change]
        client.update(**{column: now})
    assert ask_token(code_form(code)).error == expected


@pytest.mark.parametrize("text", ["x", "AAAA", "é", "A" * 64, "A" * 10_000, "..", "0" * 86])
def test_an_invented_code_is_refused(consent: Consent, text: str) -> None:
    assert ask_token(code_form(text)).error == "invalid_grant"


def test_a_code_has_one_spelling_and_its_family_alone_is_worth_nothing(consent: Consent) -> None:
    code = make_code(consent)
    for other in (code + "=", code[:22] + "A" * 42, code.swapcase()):
        assert ask_token(code_form(other)).error == "invalid_grant"
    assert ask_token(code_form(code)).status == 200


def test_using_a_code_is_noted_with_client_and_consent(consent: Consent) -> None:
    ask_token(code_form(make_code(consent)))
    consent.refresh_from_db()
    assert consent.last_used_at is not None
    assert McpClient.objects.get().last_used_at is not None


def test_a_refusal_is_recorded_once_a_minute_and_never_with_what_was_sent(consent: Consent, settings: Any) -> None:
    for _ in range(3):
        ask_token(code_form("invented-code"))
    recorded = AuditRecord.objects.get(event="authorization.failed")
    assert (recorded.client, recorded.reason) == ("program", "invalid_grant")
    assert "invented-code" not in str(recorded.details)


@requirement("AS06")
def test_a_code_that_comes_again_after_its_minute_and_with_nothing_right_ends_it_all_the_same(consent: Consent) -> None:
    code = make_code(consent)
    ask_token(code_form(code))
    AuthorizationCode.objects.update(expires_at=timezone.now() - timedelta(hours=1))
    assert ask_token(code_form(code, code_verifier="w" * 43)).error == "invalid_grant"
    assert TokenFamily.objects.get().ended_reason == "code_replayed"
