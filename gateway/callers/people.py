"""Which of our people a token of another issuer stands for. In doubt: nobody."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import Final

from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import User

from connections.models import IdentityProvider
from gateway.targets.find import TARGETS
from oauthflow.newest import Newest

from .claims import ExternalToken
from .trusts import Person, Trust

_KNOWN_SECONDS: Final = 15.0
_MOST_KNOWN: Final = 10_000
_OPENID: Final = (IdentityProvider.Kind.OPENID_CONNECT, IdentityProvider.Kind.GOOGLE)

_KNOWN: Final[Newest[tuple[str, str], tuple[int | None, float]]] = Newest(most=_MOST_KNOWN)
"""By the version of the rules and the name in the token: who it is, and until when that holds (monotonic clock)."""


async def person_of(token: ExternalToken, *, trust: Trust) -> int | None:
    """Return the id of the one person whom a token names, active or not; None for nobody.

    Args:
        token: Good, and of the issuer of `trust`.
        trust: Says what people are known by.

    Spec: RFC 9700 §4.15; OpenID Connect Core §5.7: of what an issuer says, only its subject stays the same. AS19.
    """
    name = _name_in(token, trust=trust)
    if not name:
        return None
    place = (trust.version, name)
    person, until = _KNOWN.get(place, (None, 0.0))
    if time.monotonic() >= until:
        until = time.monotonic() + _KNOWN_SECONDS
        person = await TARGETS.threads.run(partial(_find, name, trust=trust))
        _KNOWN[place] = (person, until)
    return person


def forget() -> None:
    """Know nobody; for tests."""
    _KNOWN.clear()


def _name_in(token: ExternalToken, *, trust: Trust) -> str:
    """An address that the issuer has not verified is nobody's. OpenID Connect Core §5.1."""
    if trust.person_by == Person.SUBJECT:
        return token.subject
    if trust.person_by == Person.VERIFIED_EMAIL:
        said = token.claims.get("email") if token.claims.get("email_verified") is True else ""
    else:
        said = token.claims.get(trust.username_claim)
    return said if isinstance(said, str) else ""


def _find(name: str, *, trust: Trust) -> int | None:
    if trust.person_by == Person.SUBJECT:
        return _by_subject(name, issuer=trust.issuer)
    return _by_email(name) if trust.person_by == Person.VERIFIED_EMAIL else _by_username(name)


def _by_subject(subject: str, *, issuer: str) -> int | None:
    """Whoever signed in here through a provider that is this issuer."""
    providers = IdentityProvider.objects.filter(issuer=issuer, is_active=True, kind__in=_OPENID).values("slug")
    accounts = SocialAccount.objects.filter(provider__in=providers, uid=subject)
    return _only(pk for pk, uid in accounts.values_list("user_id", "uid") if uid == subject)


def _by_email(email: str) -> int | None:
    """Nobody at all where somebody has typed the address in here without proving that it is theirs."""
    people = User.objects.filter(email__iexact=email)
    if EmailAddress.objects.filter(email__iexact=email, verified=False).exists():
        return None
    return _only(people.values_list("pk", flat=True))


def _by_username(username: str) -> int | None:
    people = User.objects.filter(username=username).values_list("pk", "username")
    return _only(pk for pk, name in people if name == username)  # some databases compare without case


def _only(found: Iterable[int]) -> int | None:
    ids = set(found)
    return ids.pop() if len(ids) == 1 else None
