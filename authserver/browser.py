"""The browser in which a person decides: known by a secret of its session."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from django.http import HttpRequest

_KEY: Final = "authserver_browser"


def browser_hash(request: HttpRequest) -> str:
    """Return the hash of this session's secret, making one the first time. Signing out forgets it. P-08, AS10."""
    secret = request.session.get(_KEY)
    if not isinstance(secret, str):
        secret = request.session[_KEY] = secrets.token_urlsafe(32)
    return hashlib.sha256(secret.encode()).hexdigest()


def is_own_navigation(request: HttpRequest) -> bool:
    """Whether the person, or a program of theirs, opened the address; a browser that says nothing is a no. AS09.

    A page of ours does not count: none leads here but the sign-in, and whoever sent the browser to that, with this
    address as the way back, may have been another site.
    """
    return (
        request.headers.get("Sec-Fetch-Site") == "none"
        and request.headers.get("Sec-Fetch-Mode") == "navigate"
        and "prefetch" not in request.headers.get("Sec-Purpose", "")
    )
