"""Give out and take back personal API tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import InvalidRequestError
from oauthflow.protocol.secret import Secret

from .models import ApiToken
from .models.api_token import ApiScope, hash_api_token, new_api_token

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@dataclass(frozen=True, slots=True)
class IssuedApiToken:
    """A new token: its row, and the text that is shown this once and kept nowhere."""

    row: ApiToken
    token: Secret


def issue_api_token(
    user: User, *, scopes: Iterable[str], name: str, now: datetime, lifetime: timedelta | None = None
) -> IssuedApiToken:
    """Make a personal API token.

    Args:
        user: Whose rights it carries; must be active.
        scopes: Values of `ApiScope`, at least one.
        name: What the user will recognise it by; at most 80 characters are kept.
        now: Aware UTC; the lifetime counts from here.
        lifetime: None for a token that lives until it is revoked.

    Raises:
        InvalidRequestError: No scope or an unknown one (code `invalid_scope`), an inactive user, or no lifetime left.
    """
    wanted = set(scopes)
    if not wanted or (unknown := wanted - set(ApiScope.values)):
        named = ", ".join(sorted(unknown)) if wanted else "none"
        raise InvalidRequestError(f"these are not API scopes: {named}", code=Code.INVALID_SCOPE)
    if not user.is_active:
        raise InvalidRequestError("an inactive user gets no API token")
    if lifetime is not None and lifetime <= timedelta(0):
        raise InvalidRequestError("the lifetime has to be longer than nothing")
    token = new_api_token()
    row = ApiToken.objects.create(
        user=user,
        name=name[:80],
        token_hash=hash_api_token(token.reveal()),
        scopes=sorted(wanted),
        expires_at=None if lifetime is None else now + lifetime,
    )
    return IssuedApiToken(row=row, token=token)


def revoke_api_token(token: ApiToken, *, now: datetime) -> None:
    """End a token at once; ending it again changes nothing."""
    ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=now)
    token.refresh_from_db()
