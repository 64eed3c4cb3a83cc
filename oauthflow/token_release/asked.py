"""Recognises the plain call: what is the least bit unusual is left to the view."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from connections.models.api_token import PREFIX, hash_api_token

_PATH: Final = re.compile(r"/api/v1/connections/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/token")
_CREDENTIAL: Final = re.compile(rb"Bearer (" + PREFIX.encode() + rb"[\w-]{1,200})", re.ASCII)
_ACCEPTED: Final = frozenset({b"", b"*/*", b"application/json", b"application/json, text/plain, */*"})
_EMPTY: Final = frozenset({b"", b"0"})
# Headers that the answer depends on, and headers with which a call is not plain.
_READ: Final = frozenset(
    {b"host", b"authorization", b"accept", b"content-type", b"content-length", b"x-request-id"}
)  # fmt: skip
_UNUSUAL: Final = frozenset({b"cookie", b"origin", b"transfer-encoding", b"content-encoding", b"expect"})


class Asked(NamedTuple):
    """A plain call. `has_body` says that a body of two bytes, `{}`, is announced."""

    connection_id: str
    token_hash: str
    request_id: str
    has_body: bool


def plain_call(scope: Mapping[str, Any]) -> Asked | None:
    """Return what is asked for, or None where the view has to look."""
    path = _PATH.fullmatch(scope["path"])
    if path is None or scope["method"] != "POST" or scope["query_string"] or scope.get("root_path"):
        return None
    if settings.SECURE_SSL_REDIRECT and scope["scheme"] != "https":
        return None
    headers = _headers(scope["headers"])
    if headers is None or headers.get(b"accept", b"") not in _ACCEPTED or not _is_our_host(headers.get(b"host", b"")):
        return None
    credential = _CREDENTIAL.fullmatch(headers.get(b"authorization", b""))
    length = headers.get(b"content-length", b"")
    has_body = length == b"2"
    if credential is None or not (has_body or length in _EMPTY):
        return None
    if headers.get(b"content-type", b"application/json") != b"application/json":
        return None
    return Asked(
        connection_id=path[1],
        token_hash=hash_api_token(credential[1].decode("ascii")),
        request_id=headers.get(b"x-request-id", b"").decode("latin-1"),
        has_body=has_body,
    )


def _headers(sent: Any) -> dict[bytes, bytes] | None:
    """Return the headers that matter; None if one is repeated or makes the call unusual."""
    found: dict[bytes, bytes] = {}
    for name, value in sent:
        if name in _READ:
            if name in found:
                return None
            found[name] = value
        elif name in _UNUSUAL:
            return None
    return found


def _is_our_host(host: bytes) -> bool:
    return _is_allowed(host, tuple(settings.ALLOWED_HOSTS))


@lru_cache(maxsize=64)
def _is_allowed(host: bytes, allowed: tuple[str, ...]) -> bool:
    domain, _ = split_domain_port(host.decode("latin-1"))
    return bool(domain) and validate_host(domain, allowed)
