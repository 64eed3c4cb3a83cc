"""The token of a request: in the Authorization header, once, and nowhere else. RFC 6750 §2, §3.1."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl

from gateway.endpoint.challenges import InvalidRequestError, NoTokenError

LONGEST_TOKEN: Final = 16_384
"""Characters; more is no token of anybody's."""

_B64TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_TOKEN_IN_QUERY: Final = "access_token"


def bearer_token(authorization: Sequence[bytes]) -> str:
    """Return the token that a request carries.

    Args:
        authorization: All values of the Authorization header.

    Raises:
        NoTokenError: There is no such header, or one of another scheme: the caller does not know what is asked for.
        InvalidRequestError: Several headers, or one that is no `Bearer` and one token.

    Spec: RFC 6750 §2.1, §3.1. T-01, T-07, G04.
    """
    if not authorization:
        raise NoTokenError
    if len(authorization) > 1:
        raise InvalidRequestError("The Authorization header stands there more than once.")
    scheme, _, token = authorization[0].partition(b" ")
    if scheme.lower() != b"bearer":
        raise NoTokenError
    if len(token) > LONGEST_TOKEN or not _B64TOKEN.fullmatch(token):
        raise InvalidRequestError("The Authorization header is not Bearer and one token.")
    return token.decode("ascii")


def refuse_token_in_query(query: bytes) -> None:
    """Refuse a token in the address, which ends up in logs and histories.

    Raises:
        InvalidRequestError: There is one.

    Spec: RFC 6750 §2.3; OAuth 2.1 §5.2.1. T-01, L08.
    """
    if any(name == _TOKEN_IN_QUERY for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)):
        raise InvalidRequestError("An access token goes into the Authorization header, not into the address.")
