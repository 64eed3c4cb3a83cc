"""Whom tokens of another issuer stand for here, and what they may do."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth.models import User

from connections.models import IdentityProvider
from gateway.callers import people
from gateway.callers.external_tokens import EXTERNAL_TOKENS
from gateway.callers.issuer_requests import REQUESTS
from gateway.endpoint.challenges import InsufficientScopeError, InvalidTokenError
from gateway.models import InboundTrust
from tests.authserver.grants import notes, nothing_remembered
from tests.requirements import requirement

from .calling import bearer, is_still_good, nothing_known
from .external_issuer import SUBJECT, ExternalIssuer, asked, issuer, known_as, trust

__all__ = ["asked", "issuer", "notes", "nothing_known", "nothing_remembered", "trust"]
pytestmark = pytest.mark.django_db(transaction=True)


# ---- Whom a token stands for


@requirement("AS19")
def test_people_are_known_by_issuer_and_subject_and_by_nothing_else(
    trust: InboundTrust, issuer: ExternalIssuer, alice: User, bob: User
) -> None:
    known_as(bob, SUBJECT, issuer="https://other.example", slug="other")
    alike: dict[str, Any] = {"email": bob.email, "email_verified": True, "preferred_username": "bob"}
    assert bearer(issuer.token(**alike)).user_id == alice.pk
    for subject in ("nobody", SUBJECT.upper() + " ", "alice", "user:x"):
        with pytest.raises(InvalidTokenError):
            bearer(issuer.token(sub=subject, **alike))
    people.forget()
    IdentityProvider.objects.filter(slug="company").update(is_active=False)
    with pytest.raises(InvalidTokenError):
        bearer(issuer.token())


def test_an_address_counts_only_where_both_sides_have_verified_it(
    trust: InboundTrust, issuer: ExternalIssuer, bob: User
) -> None:
    trust.person_by = "verified_email"
    trust.save()
    good: dict[str, Any] = {"sub": "anybody", "email": "Bob@Example.com", "email_verified": True}
    assert bearer(issuer.token(**good)).user_id == bob.pk
    wrong: list[dict[str, Any]] = [
        {"email_verified": False}, {"email_verified": None}, {"email_verified": "true"}, {"email_verified": 1},
        {"email": None}, {"email": ""}, {"email": ["bob@example.com"]}, {"email": "nobody@example.com"},
    ]  # fmt: skip
    for changes in wrong:
        with pytest.raises(InvalidTokenError):
            bearer(issuer.token(**{**good, **changes}))
    typed = EmailAddress.objects.create(user=bob, email="bob@example.com", verified=False)
    people.forget()
    with pytest.raises(InvalidTokenError):
        bearer(issuer.token(**good))
    typed.verified = True
    typed.save()
    people.forget()
    assert bearer(issuer.token(**good)).user_id == bob.pk
    User.objects.create_user("bob2", email="BOB@example.com", is_active=False)
    people.forget()
    with pytest.raises(InvalidTokenError):
        bearer(issuer.token(**good))


def test_a_claim_with_the_user_name_counts_where_it_is_exactly_that(
    trust: InboundTrust, issuer: ExternalIssuer, bob: User
) -> None:
    trust.person_by, trust.username_claim = "username", "uid"
    trust.save()
    assert bearer(issuer.token(uid="bob")).user_id == bob.pk
    for uid in ("Bob", "bob ", "", None, ["bob"], 1, True):
        with pytest.raises(InvalidTokenError):
            bearer(issuer.token(uid=uid))


@requirement("S-10")
def test_scopes_are_those_of_the_issuer_and_none_implies_another_by_its_spelling(
    trust: InboundTrust, issuer: ExternalIssuer
) -> None:
    trust.scope, trust.broader_scope = "notes:read notes:list", "notes:admin"
    trust.save()
    assert bearer(issuer.token(scope="notes:read notes:list x")).client_id == "editor"
    assert bearer(issuer.token(scope="notes:admin")).client_id == "editor"
    for scope in ("notes:read", "notes", "mcp:access", "notes:*", ""):
        with pytest.raises(InsufficientScopeError) as refused:
            bearer(issuer.token(scope=scope))
        assert refused.value.scopes == {"notes:read", "notes:list"}


def test_a_stream_ends_with_the_token_the_person_and_the_trust(
    asked: InboundTrust, issuer: ExternalIssuer, alice: User
) -> None:
    issuer.answers["opaque"] = issuer.claims(active=True)
    caller = bearer("opaque")
    assert is_still_good(caller)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert not is_still_good(caller)
    User.objects.filter(pk=alice.pk).update(is_active=True)
    assert is_still_good(caller)
    EXTERNAL_TOKENS.forget()
    issuer.status = 500
    assert not is_still_good(caller)
    issuer.status, issuer.answers = 200, {}
    REQUESTS.forget()
    assert not is_still_good(caller)
