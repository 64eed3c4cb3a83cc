"""Whose account a grant is for, as the ID Token of a token response says it. OpenID Connect Core §2, §3.1.3.7."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

from .errors import MalformedResponseError
from .json_documents import parse_json_object

LONGEST_SUBJECT: Final = 255
"""Characters; OpenID Connect Core §2 allows no more."""

_LONGEST_TOKEN: Final = 65_536
_PART: Final = re.compile(r"[A-Za-z0-9_-]+")


def read_subject(id_token: object, *, issuer: str, client_id: str) -> str:
    """Return the `sub` of an ID Token that came directly from the issuer's token endpoint, or an empty text.

    Empty means unknown: there is no ID Token, or something about it is off. That never stops a flow, because we did
    not ask for one. The signature is not checked: the token endpoint's TLS vouches for the token, as §3.1.3.7 (6)
    allows. Nothing that people can change or pass on, like `email` or `preferred_username`, is looked at. S15.

    Args:
        id_token: The member of the token response, whatever it is.
        issuer: Whose token endpoint answered; `iss` has to equal it byte for byte.
        client_id: Ours at that issuer; `aud` has to name it.

    Spec: OpenID Connect Core §2, §3.1.3.7 (2), (3), (6).
    """
    claims = _claims(id_token)
    if claims is None or claims.get("iss") != issuer or not _is_for(client_id, claims):
        return ""
    subject = claims.get("sub")
    return subject if isinstance(subject, str) and len(subject) <= LONGEST_SUBJECT else ""


def _is_for(client_id: str, claims: dict[str, Any]) -> bool:
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    # Issued to another client, it does not speak of who signed in for us.
    return client_id in named and claims.get("azp", client_id) == client_id


def _claims(id_token: object) -> dict[str, Any] | None:
    """Read the payload of a signed JWT in its compact form; None for anything else. RFC 7515 §7.1, RFC 7519 §3."""
    if not isinstance(id_token, str) or len(id_token) > _LONGEST_TOKEN:
        return None
    parts = id_token.split(".")
    if len(parts) != 3 or not all(_PART.fullmatch(part) for part in parts):
        return None
    try:
        header, claims = (parse_json_object(_decoded(part)) for part in parts[:2])
    except (MalformedResponseError, binascii.Error):
        return None
    # RFC 7515 §4.1.11: we understand no extension that would change what the payload means.
    return None if "crit" in header else claims


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
