"""A person consented: make the code that the client redeems for tokens."""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.db import transaction

from oauthflow.protocol.secret import Secret

from ..conf import authserver_configuration
from ..models import AuthorizationCode, Consent, Subject, TokenFamily
from ..protocol.opaque import hash_of_token, new_code, new_marking_key

if TYPE_CHECKING:
    from django.contrib.auth.models import User

SUBJECT_PREFIX: Final = "user:"
"""No client id begins like this, so that no token of a program is taken for a person's. AS19."""


def issue_authorization_code(
    consent: Consent, *, redirect_uri: str, code_challenge: str, now: datetime, browser_hash: str = ""
) -> Secret:
    """Make a code of `code_seconds`, in the caller's transaction or in its own. Everything was checked before.

    Args:
        consent: Says who may redeem it, whom the tokens are for, the one audience, and the scopes. The tokens can be
            refreshed if `refresh_token` is among the client's grant types.
        redirect_uri: As the authorization request had it; the token request has to repeat it.
        code_challenge: S256, 43 characters.
        now: Aware UTC.
        browser_hash: Of the browser session that consented.

    Returns:
        The code, 64 characters, which is kept nowhere.

    Spec: RFC 6749 §4.1.2; RFC 7636 §4.4; RFC 8707 §2. X-01, AS06.
    """
    configuration = authserver_configuration()
    family_id = uuid.uuid4()
    code = new_code(family_id)
    with transaction.atomic():
        family = TokenFamily.objects.create(
            id=family_id,
            client=consent.client,
            user=consent.user,
            consent=consent,
            subject=subject_of(consent.user),
            resource=consent.resource,
            scope=consent.scope,
            is_refreshable="refresh_token" in consent.client.grant_types,
            issued_at=now,
            expires_at=now + timedelta(days=configuration.family_days),
            marking_key=new_marking_key(),
        )
        AuthorizationCode.objects.create(
            family=family,
            code_hash=hash_of_token(code.reveal()),
            redirect_uri=redirect_uri,
            code_challenge=code_challenge,
            browser_hash=browser_hash,
            expires_at=now + timedelta(seconds=configuration.code_seconds),
        )
    return code


def subject_of(user: User) -> str:
    """Return what a person is called in our tokens, choosing it at the first time. V10.3; AS19."""
    chosen = f"{SUBJECT_PREFIX}{secrets.token_urlsafe(24)}"
    return Subject.objects.get_or_create(user=user, defaults={"sub": chosen})[0].sub
