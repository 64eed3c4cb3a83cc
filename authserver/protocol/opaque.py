"""Authorization codes and refresh tokens: opaque to everybody else, and kept here as hashes only.

Both name the family they belong to (16 bytes) and hold 256 random bits. A refresh token also ends in a mark that only
we could make for that family: a token that is no longer good but carries it was really issued, and whoever presents
one that is older than the last two holds a copy. So that nothing has to be kept of used tokens.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from typing import Final, NamedTuple
from uuid import UUID

from oauthflow.protocol.secret import Secret

_FAMILY_BYTES: Final = 16
_RANDOM_BYTES: Final = 32
_MARK_BYTES: Final = 16


class OpaqueToken(NamedTuple):
    """A presented code or refresh token, taken apart; nothing about it is proved yet."""

    family_id: UUID
    random: bytes
    mark: bytes


def new_marking_key() -> str:
    """Make the key of a family's marks, 256 random bits in hex. Who reads it could end the family, and no more."""
    return secrets.token_hex(_RANDOM_BYTES)


def new_code(family_id: UUID) -> Secret:
    """Make an authorization code of 64 characters. RFC 6749 §10.10."""
    return Secret(_text(family_id.bytes + secrets.token_bytes(_RANDOM_BYTES)))


def new_refresh_token(family_id: UUID, *, marking_key: str) -> Secret:
    """Make a refresh token of 86 characters. RFC 6749 §10.10."""
    random = secrets.token_bytes(_RANDOM_BYTES)
    return Secret(_text(family_id.bytes + random + _mark(family_id, random, marking_key)))


def read_opaque(text: str) -> OpaqueToken | None:
    """Take a code or refresh token apart; None for a text that cannot be one."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4)) if len(text) <= 100 else b""
    except (Error, ValueError):
        return None
    if len(raw) not in (_FAMILY_BYTES + _RANDOM_BYTES, _FAMILY_BYTES + _RANDOM_BYTES + _MARK_BYTES):
        return None
    # Base64 has several spellings of the same bytes; a token has one.
    if _text(raw) != text:
        return None
    end = _FAMILY_BYTES + _RANDOM_BYTES
    return OpaqueToken(UUID(bytes=raw[:_FAMILY_BYTES]), raw[_FAMILY_BYTES:end], raw[end:])


def was_issued(token: OpaqueToken, *, marking_key: str) -> bool:
    """Whether a refresh token was made by us for this family, at whatever time."""
    return hmac.compare_digest(token.mark, _mark(token.family_id, token.random, marking_key))


def hash_of_token(text: str) -> str:
    """Return the SHA-256 in hex. A slow hash buys nothing for 256 random bits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _mark(family_id: UUID, random: bytes, marking_key: str) -> bytes:
    return hmac.digest(bytes.fromhex(marking_key), family_id.bytes + random, "sha256")[:_MARK_BYTES]


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
