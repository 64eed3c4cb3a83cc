"""System checks: keys that are missing, weak or used twice, and plain http in production."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from oauthflow.protocol.urls import is_loopback_host

_KEY_BYTES = 32
_FEWEST_DIFFERENT_BYTES = 16


@register(Tags.security)
def check_encryption_keys(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """connections.E001 to E004: the column keys exist, are random, and serve one purpose only."""
    keys: list[str] = list(getattr(settings, "FIELD_ENCRYPTION_KEY", None) or [])
    if not keys:
        return [Error("No key encrypts the stored secrets.", hint="Set FIELD_ENCRYPTION_KEY.", id="connections.E001")]
    problems: list[CheckMessage] = []
    raw = [_decoded(key) for key in keys]
    if any(len(key) != _KEY_BYTES for key in raw):
        hint = "FIELD_ENCRYPTION_KEY lists 32 random bytes each, in base64url."
        problems.append(Error("A key for stored secrets is not readable.", hint=hint, id="connections.E002"))
    elif any(len(set(key)) < _FEWEST_DIFFERENT_BYTES for key in raw):
        hint = "Make a new FIELD_ENCRYPTION_KEY; put it first and keep the old one behind it until the data is rotated."
        problems.append(Error("A key for stored secrets is not random.", hint=hint, id="connections.E003"))
    if _others() & {key for key in raw if key}:
        hint = "FIELD_ENCRYPTION_KEY, SECRET_KEY and AUDIT_KEYS each need keys of their own."
        problems.append(Error("One key serves two purposes.", hint=hint, id="connections.E004"))
    return problems


@register(Tags.security, deploy=True)
def check_public_url(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """connections.W001: the callback is reached by https. RFC 9700 §2.6."""
    parts = urlsplit(settings.PUBLIC_URL)
    if parts.scheme == "https" or is_loopback_host(parts.hostname or ""):
        return []
    hint = "Authorization codes travel through PUBLIC_URL; use https (RFC 9700 section 2.6)."
    return [Warning("PUBLIC_URL is plain http.", hint=hint, id="connections.W001")]


def _others() -> set[bytes]:
    texts = [str(settings.SECRET_KEY), *getattr(settings, "AUDIT_KEYS", [])]
    return {_decoded(text) or text.encode() for text in texts}


def _decoded(key: str) -> bytes:
    bare = key.rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
