"""Who may reach the gateway from a browser, and by which name. G-02; security notes G07."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from ..forwarding.headers import Headers
from ..messages.parameter_headers import TOKEN
from .answers import Answer, BadRequestError, FailedError, RawHeaders

METHODS: Final = b"GET, POST, DELETE"
_EXPOSED: Final = b"WWW-Authenticate, Mcp-Session-Id, Mcp-Protocol-Version, Retry-After, X-Request-ID"
_READABLE: Final = frozenset(
    {
        "accept", "authorization", "content-type", "last-event-id", "mcp-method", "mcp-name", "mcp-protocol-version",
        "mcp-session-id", "x-request-id",
    }
)  # fmt: skip


def require_host(headers: Headers) -> None:
    """Refuse a request that was not meant for us, which is what DNS rebinding sends.

    Raises:
        BadRequestError: No host, or none that can be read. RFC 9112 §3.2.
        FailedError: 421, the name is not ours. RFC 9110 §15.5.20.
    """
    ours = _is_ours(headers.get(b"host") or b"", tuple(settings.ALLOWED_HOSTS))
    if ours is None:
        raise BadRequestError("The request names no host.")
    if not ours:
        raise FailedError(421, "This is not the name of this site.")


def allowing(headers: Headers) -> RawHeaders:
    """Return the headers with which the page that asks may read the answer; none where no page asks.

    Cookies never count. Two origins are none here: `Headers.require_clear` refuses them.

    Raises:
        FailedError: 403, the origin is not allowed; `null` never is.
    """
    origins = headers.get_all(b"origin")
    if len(origins) != 1:
        return ()
    origin = origins[0]
    text = origin.decode("latin-1")
    if text != settings.PUBLIC_URL and text not in settings.CORS_ALLOWED_ORIGINS:
        raise FailedError(403, "Pages of this origin may not use this server.")
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"Origin"),
    )


def preflight_answer(headers: Headers) -> Answer:
    """Answer what a browser asks first; headers for arguments of tools are named by the tools. Fetch §3.3."""
    asked = (headers.get(b"access-control-request-headers") or b"").decode("latin-1").lower().split(",")
    allowed = [name for text in asked if _may_send(name := text.strip())]
    return Answer(
        204,
        headers=(
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", ", ".join(allowed or sorted(_READABLE)).encode("ascii")),
            (b"access-control-max-age", b"600"),
        ),
    )


def _may_send(name: str) -> bool:
    rest = name.removeprefix("mcp-param-")
    return name in _READABLE or (rest != name and TOKEN.fullmatch(rest) is not None)


@lru_cache(maxsize=64)
def _is_ours(host: bytes, allowed: tuple[str, ...]) -> bool | None:
    domain, _ = split_domain_port(host.decode("latin-1"))
    if not domain:
        return None
    return validate_host(domain, [*allowed] or ["localhost", "127.0.0.1", "[::1]"])
