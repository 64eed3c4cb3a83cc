"""Proof Key for Code Exchange with S256, and the unguessable `state`. RFC 7636; RFC 6749 §10.12."""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import urlsafe_b64encode

from .errors import InvalidRequestError
from .secret import Secret

CODE_CHALLENGE_METHOD = "S256"
_VERIFIER_RANDOM_BYTES = 48
_STATE_RANDOM_BYTES = 32
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")


def new_code_verifier() -> Secret:
    """Make a code verifier of 64 characters from 384 random bits.

    Spec: RFC 7636 §4.1, §7.1. A-02.
    """
    return Secret(secrets.token_urlsafe(_VERIFIER_RANDOM_BYTES))


def s256_challenge(code_verifier: Secret) -> str:
    """Derive the S256 code challenge, 43 characters of unpadded base64url.

    Raises:
        InvalidRequestError: The verifier is not 43 to 128 unreserved characters.

    Spec: RFC 7636 §4.1, §4.2. A-03.
    """
    text = code_verifier.reveal()
    if not _VERIFIER.fullmatch(text):
        raise InvalidRequestError("code_verifier is not 43 to 128 unreserved characters")
    digest = hashlib.sha256(text.encode("ascii")).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def new_state() -> Secret:
    """Make a `state` of 43 characters from 256 random bits.

    Spec: RFC 6749 §10.12, RFC 9700 §4.7. A-09.
    """
    return Secret(secrets.token_urlsafe(_STATE_RANDOM_BYTES))
