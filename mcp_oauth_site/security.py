"""What browsers are told: content security policy, cookies, transport."""

from __future__ import annotations

from typing import Any

from csp.constants import NONE, SELF


def content_security_policy() -> dict[str, Any]:
    """Return the policy of every page: nothing inline, nothing from elsewhere, no framing.

    A page whose form ends in a redirect to an authorization server adds that origin to `form-action` for itself.
    Spec: RFC 9700 §4.16.
    """
    return {
        "DIRECTIVES": {
            "default-src": [NONE],
            "script-src": [SELF],
            "style-src": [SELF],
            "img-src": [SELF, "data:"],
            "font-src": [SELF],
            "connect-src": [SELF],
            "manifest-src": [SELF],
            "form-action": [SELF],
            "frame-ancestors": [NONE],
            "object-src": [NONE],
            "base-uri": [NONE],
        }
    }


def cookie_settings(*, https: bool) -> dict[str, Any]:
    """Return names and flags of the session and CSRF cookies.

    `__Host-` makes a browser refuse a cookie that another host or plain http tried to set. The session cookie is Lax
    and not Strict, because the callback is a navigation that comes from another site.
    """
    prefix = "__Host-" if https else ""
    return {
        "SESSION_COOKIE_NAME": f"{prefix}sessionid",
        "SESSION_COOKIE_SECURE": https,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_PATH": "/",
        "CSRF_COOKIE_NAME": f"{prefix}csrftoken",
        "CSRF_COOKIE_SECURE": https,
        "CSRF_COOKIE_HTTPONLY": True,
        "CSRF_COOKIE_SAMESITE": "Lax",
        "CSRF_COOKIE_PATH": "/",
    }


def transport_settings(*, https: bool) -> dict[str, Any]:
    """Return what makes browsers stay on https and keep addresses to themselves."""
    return {
        "SECURE_SSL_REDIRECT": https,
        "SECURE_REDIRECT_EXEMPT": [r"^healthz$", r"^readyz$", r"^metrics$"],
        "SECURE_HSTS_SECONDS": 365 * 24 * 60 * 60 if https else 0,
        # For this host alone: what else is below the domain, and what browsers ship, is not ours to decide.
        "SECURE_HSTS_INCLUDE_SUBDOMAINS": False,
        "SECURE_HSTS_PRELOAD": False,
        "SILENCED_SYSTEM_CHECKS": ["security.W005", "security.W021"],
        "SECURE_CONTENT_TYPE_NOSNIFF": True,
        "SECURE_REFERRER_POLICY": "same-origin",
        "SECURE_CROSS_ORIGIN_OPENER_POLICY": "same-origin",
        "X_FRAME_OPTIONS": "DENY",
    }
