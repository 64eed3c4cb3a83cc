"""`grant_type=refresh_token`: rotation, the grace of a few seconds, and theft."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from audit.models import AuditRecord
from authserver.flows.end_tokens import end_families
from authserver.models import Consent, TokenFamily
from authserver.protocol.opaque import new_refresh_token
from authserver.protocol.token_response import open_response
from authserver.revoked import REVOKED
from authserver.tokens import InvalidTokenError, verify
from oauthflow.flows.mail.send_notices import send_notices
from tests.authserver.grants import RESOURCE, make_client, make_code, make_consent, nothing_remembered
from tests.authserver.token_calls import ask_token, code_form, refresh_form
from tests.requirements import requirement

__all__ = ["nothing_remembered"]


@pytest.fixture
def consent(alice: User) -> Consent:
    return make_consent(alice, make_client(), scope="mcp:access mcp:more")


@pytest.fixture
def first(consent: Consent) -> str:
    return str(ask_token(code_form(make_code(consent))).members["refresh_token"])


def refresh(token: str, **changes: str) -> dict[str, Any]:
    got = ask_token(refresh_form(token, **changes))
    assert got.status == 200, got
    return got.members


def _age(**difference: int) -> None:
    family = TokenFamily.objects.get()
    assert family.rotated_at is not None
    TokenFamily.objects.update(rotated_at=family.rotated_at - timedelta(**difference))


@requirement("T-10", "X-04", "AS07")
def test_each_use_gives_another_token_and_the_newest_is_good(first: str) -> None:
    tokens = [first]
    for _ in range(4):
        tokens.append(refresh(tokens[-1])["refresh_token"])
    assert len(set(tokens)) == 5
    assert TokenFamily.objects.get().generation == 5


@requirement("X-04", "AS07")
def test_the_token_before_gives_the_same_successor_again_for_ten_seconds(first: str) -> None:
    given = refresh(first)
    again = refresh(first)
    assert (again["refresh_token"], again["access_token"]) == (given["refresh_token"], given["access_token"])
    _age(seconds=9)
    assert refresh(first)["refresh_token"] == given["refresh_token"]
    assert refresh(given["refresh_token"])["refresh_token"] not in (first, given["refresh_token"])


@requirement("X-04", "AS07")
@pytest.mark.parametrize("how", ["after the window", "two generations old", "no window at all"])
def test_an_older_token_ends_the_family_and_is_recorded(first: str, how: str, settings: Any) -> None:
    newest = refresh(first)
    if how == "after the window":
        _age(seconds=11)
    elif how == "two generations old":
        newest = refresh(newest["refresh_token"])
    else:
        settings.AUTHSERVER = {"refresh_window_seconds": 0}
    assert verify(newest["access_token"], audience=RESOURCE)
    assert ask_token(refresh_form(first)).error == "invalid_grant"
    assert ask_token(refresh_form(newest["refresh_token"])).error == "invalid_grant"
    REVOKED._checked_at = float("-inf")
    with pytest.raises(InvalidTokenError):
        verify(newest["access_token"], audience=RESOURCE)
    recorded = AuditRecord.objects.get(event="refresh.reuse_detected")
    assert (recorded.client, recorded.reason) == ("program", "refresh_reused")
    assert first not in str(recorded.details)


@requirement("AS07")
def test_the_person_is_told_by_mail_that_a_program_was_stopped(
    first: str, alice: User, settings: Any, mailoutbox: list[Any]
) -> None:
    settings.EMAIL_ENABLED = True
    refresh(first)
    _age(seconds=11)
    ask_token(refresh_form(first))
    ask_token(refresh_form(first))
    send_notices(now=timezone.now())
    (letter,) = mailoutbox
    assert letter.to == [alice.email]
    assert "http://localhost:8000/connections/" in letter.body
    assert "used in two places" in letter.body
    assert first not in letter.body


@requirement("AS07")
def test_a_token_that_was_given_back_is_dead_also_inside_the_window(first: str) -> None:
    refresh(first)
    end_families(TokenFamily.objects.all(), reason="test", now=timezone.now())
    assert ask_token(refresh_form(first)).error == "invalid_grant"
    assert TokenFamily.objects.get().successor_sealed == ""


def test_an_invented_token_of_a_known_family_changes_nothing(first: str) -> None:
    family = TokenFamily.objects.get()
    invented = new_refresh_token(family.pk, marking_key="00" * 32).reveal()
    assert ask_token(refresh_form(invented)).error == "invalid_grant"
    assert refresh(first)


def test_the_successor_is_kept_under_the_presented_token_alone(first: str) -> None:
    given = refresh(first)
    family = TokenFamily.objects.get()
    assert given["refresh_token"] not in family.successor_sealed
    assert given["access_token"] not in family.successor_sealed
    opened = open_response(
        family.successor_sealed, presented=first, family_id=family.pk, issuer="http://localhost:8000"
    )
    assert opened is not None
    assert opened.refresh_token == given["refresh_token"]
    for presented, family_id, issuer in (
        (given["refresh_token"], family.pk, "http://localhost:8000"),
        (first, family.consent_id, "http://localhost:8000"),
        (first, family.pk, "http://staging"),
    ):
        assert open_response(family.successor_sealed, presented=presented, family_id=family_id, issuer=issuer) is None


@requirement("X-05", "AS11")
def test_scope_and_resource_are_never_widened(first: str) -> None:
    assert ask_token(refresh_form(first, scope="mcp:access mcp:everything")).error == "invalid_scope"
    assert ask_token(refresh_form(first, scope='"')).error == "invalid_scope"
    assert ask_token(refresh_form(first, resource="http://localhost:8000/api/v1")).error == "invalid_target"
    narrower = refresh(first, scope="mcp:access", resource=RESOURCE)
    assert narrower["scope"] == "mcp:access"
    # RFC 6749 §6: the refresh token itself keeps what was granted.
    assert refresh(narrower["refresh_token"])["scope"] == "mcp:access mcp:more"


def test_another_client_does_not_get_or_spoil_it(first: str) -> None:
    make_client("other")
    assert ask_token(refresh_form(first, client_id="other")).error == "invalid_grant"
    assert refresh(first)


def test_a_grant_ends_after_ninety_days_however_often_it_was_renewed(first: str) -> None:
    newest = refresh(first)["refresh_token"]
    family = TokenFamily.objects.get()
    assert family.expires_at - family.issued_at == timedelta(days=90)
    TokenFamily.objects.update(expires_at=timezone.now())
    assert ask_token(refresh_form(newest)).error == "invalid_grant"


def test_somebody_who_was_deactivated_gets_no_more_tokens(first: str, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert ask_token(refresh_form(first)).error == "invalid_grant"
    User.objects.filter(pk=alice.pk).update(is_active=True)
    assert refresh(first)
