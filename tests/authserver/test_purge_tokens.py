"""What is over goes; what still says something stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from authserver.flows.purge_tokens import purge_tokens
from authserver.models import AuthorizationCode, Consent, Revocation, TokenFamily, UsedAssertion
from tests.authserver.grants import make_client, make_code, make_consent, nothing_remembered
from tests.authserver.token_calls import ask_token, code_form, refresh_form

__all__ = ["nothing_remembered"]


@pytest.fixture
def consent(alice: User) -> Consent:
    return make_consent(alice, make_client())


def test_a_grant_that_is_used_stays_and_its_code_goes_after_a_day(consent: Consent) -> None:
    now = timezone.now()
    token = ask_token(code_form(make_code(consent))).members["refresh_token"]
    token = ask_token(refresh_form(token)).members["refresh_token"]
    assert purge_tokens(now=now + timedelta(hours=23)) == 0
    assert TokenFamily.objects.get().successor_sealed == ""
    assert purge_tokens(now=now + timedelta(hours=25)) == 1
    assert not AuthorizationCode.objects.exists()
    assert ask_token(refresh_form(token)).status == 200


def test_a_code_that_nobody_redeemed_goes_with_its_family(consent: Consent) -> None:
    make_code(consent)
    purge_tokens(now=timezone.now() + timedelta(hours=25))
    assert not TokenFamily.objects.exists()


def test_a_grant_of_a_program_that_never_refreshes_is_known_as_long_as_its_code(alice: User) -> None:
    ask_token(code_form(make_code(make_consent(alice, make_client(grant_types=["authorization_code"])))))
    purge_tokens(now=timezone.now() + timedelta(hours=25))
    assert TokenFamily.objects.exists()


def test_ended_grants_go_after_a_month(consent: Consent) -> None:
    now = timezone.now()
    ask_token(code_form(make_code(consent)))
    TokenFamily.objects.update(ended_at=now)
    purge_tokens(now=now + timedelta(days=29))
    assert TokenFamily.objects.exists()
    purge_tokens(now=now + timedelta(days=31))
    assert not TokenFamily.objects.exists()


def test_the_answer_of_a_refresh_is_kept_while_it_may_be_given_again(consent: Consent) -> None:
    token = ask_token(code_form(make_code(consent))).members["refresh_token"]
    ask_token(refresh_form(token))
    purge_tokens(now=timezone.now() + timedelta(minutes=4))
    assert TokenFamily.objects.get().successor_sealed
    purge_tokens(now=timezone.now() + timedelta(minutes=6))
    assert not TokenFamily.objects.get().successor_sealed


def test_revocations_and_assertions_go_when_nothing_of_theirs_can_be_good(db: None) -> None:
    now = timezone.now()
    for value, until in (("over", now), ("not yet", now + timedelta(minutes=2))):
        Revocation.objects.create(value=value, until=until, issued_until=until)
        UsedAssertion.objects.create(id_hash=value, expires_at=until)
    assert purge_tokens(now=now + timedelta(minutes=1)) == 2
    assert (Revocation.objects.get().value, UsedAssertion.objects.get().id_hash) == ("not yet", "not yet")
