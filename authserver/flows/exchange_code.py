"""`grant_type=authorization_code`: a code for the tokens of a family."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime

from audit.events import AuditEvent
from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.pkce import s256_challenge
from oauthflow.protocol.secret import Secret

from ..protocol.errors import InvalidGrantError, InvalidRequestError, InvalidTargetError
from ..protocol.opaque import hash_of_token, new_refresh_token, read_opaque
from ..protocol.token_response import TokenResponse
from ..statements import (
    StoredClient,
    StoredCode,
    StoredFamily,
    find_code,
    find_family,
    keep_first_refresh_token,
    use_code,
)
from .family_tokens import mint_for_family
from .reuse import CODE_REPLAYED, ReuseError


def exchange_code(form: Mapping[str, str], *, client: StoredClient, now: datetime) -> TokenResponse:
    """Redeem a code. A request that is wrong in any way leaves the code as it is.

    Args:
        form: Of `read_form`; `code`, `redirect_uri` and `code_verifier` are needed.
        client: Authenticated.
        now: Aware UTC.

    Raises:
        InvalidGrantError: Unknown, expired or another client's code, or a redirect URI or verifier that does not match.
        ReuseError: The code was used before; nothing is changed yet.
        InvalidTargetError: `resource` is not the one that was consented to.
        InvalidRequestError: A parameter is missing.

    Spec: RFC 6749 §4.1.3; RFC 7636 §4.5, §4.6; RFC 8707 §2.2. X-01, X-05, AS05, AS06.
    """
    text = _needed(form, "code")
    presented = read_opaque(text)
    code = find_code(presented.family_id) if presented else None
    family = find_family(presented.family_id) if presented and code else None
    if code is None or family is None or not hmac.compare_digest(code.code_hash, hash_of_token(text)):
        raise InvalidGrantError("The code is not known.")
    if family.client_id != client.id:
        raise InvalidGrantError("The code is not this client's.")
    if code.is_used:
        raise _replayed(family)
    _check_matches(form, code, family)
    if now >= code.expires_at or not family.is_standing:
        raise InvalidGrantError("The code has expired.")
    if not use_code(family.id, now=now):
        raise _replayed(family)
    refresh_token = _first_refresh_token(family, now=now) if family.is_refreshable else ""
    return mint_for_family(family, client=client, scope=family.scope, refresh_token=refresh_token, now=now)


def _check_matches(form: Mapping[str, str], code: StoredCode, family: StoredFamily) -> None:
    if _needed(form, "redirect_uri") != code.redirect_uri:
        raise InvalidGrantError("The redirect URI is not the one of the authorization request.")
    try:
        challenge = s256_challenge(Secret(_needed(form, "code_verifier")))
    except FlowError as error:
        raise InvalidGrantError("The code verifier is not 43 to 128 unreserved characters.") from error
    if not hmac.compare_digest(challenge, code.code_challenge):
        raise InvalidGrantError("The code verifier does not match.")
    if form.get("resource", family.resource) != family.resource:
        raise InvalidTargetError("The resource is not the one of the authorization request.")


def _first_refresh_token(family: StoredFamily, *, now: datetime) -> str:
    token = new_refresh_token(family.id, marking_key=family.marking_key).reveal()
    if not keep_first_refresh_token(family.id, token_hash=hash_of_token(token), now=now):
        raise InvalidGrantError("The code has expired.")
    return token


def _replayed(family: StoredFamily) -> ReuseError:
    return ReuseError(
        "The code was used before.",
        family_id=family.id,
        event=AuditEvent.CLIENT_GRANT_REVOKED,
        reason=CODE_REPLAYED,
    )


def _needed(form: Mapping[str, str], name: str) -> str:
    value = form.get(name)
    if not value:
        raise InvalidRequestError(f"The parameter {name} is missing.")
    return value
