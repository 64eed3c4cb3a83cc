"""Tell a resource whether a token that it was shown is good. RFC 7662."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from ..conf import issuer
from ..models import ProtectedResource, hash_of_secret
from ..protocol.client_proof import read_client_proof
from ..protocol.errors import InvalidClientError, InvalidRequestError, InvalidTokenError
from ..tokens import verify

INACTIVE: Final[Mapping[str, Any]] = {"active": False}
_NOBODYS_HASH: Final = "0" * 64


def introspect(form: Mapping[str, str], *, authorization: str | None) -> Mapping[str, Any]:
    """Return what the resource that asks may know about a token.

    Args:
        form: Of `read_form`; `token` is needed.
        authorization: The header, or None.

    Returns:
        `active: false` alone for every token that is not good, or not for who asks.

    Raises:
        InvalidClientError: Who asks is no resource, or did not prove to be it.
        InvalidRequestError: No token.

    Spec: RFC 7662 §2.1, §2.2, §4. X-07, AS13.
    """
    resource = _who_asks(form, authorization=authorization)
    if "token" not in form:
        raise InvalidRequestError("The parameter token is missing.")
    try:
        token = verify(form["token"], audience=resource.resource)
    except InvalidTokenError:
        return INACTIVE
    return {
        "active": True,
        "iss": issuer(),
        "sub": token.subject,
        "aud": token.audience,
        "client_id": token.client_id,
        "scope": " ".join(sorted(token.scopes)),
        "token_type": "Bearer",
        "exp": token.expires_at,
        "iat": token.issued_at,
        "jti": token.jti,
    }


def _who_asks(form: Mapping[str, str], *, authorization: str | None) -> ProtectedResource:
    proof = read_client_proof(form, authorization=authorization)
    named = _uuid(proof.client_id)
    found = ProtectedResource.objects.filter(pk=named, is_active=True).first() if named else None
    known_hash = found.secret_hash if found else ""
    is_right = hmac.compare_digest(known_hash or _NOBODYS_HASH, hash_of_secret(proof.proof)) and known_hash != ""
    if found is None or not is_right or not proof.method.startswith("client_secret"):
        raise InvalidClientError("Only a resource that is registered here may ask.")
    return found


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
