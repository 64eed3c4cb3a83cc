"""EMAIL_URL as Django's settings for e-mail."""

from __future__ import annotations

import re
from email.utils import parseaddr
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote

from django.core.exceptions import ImproperlyConfigured

from .env import is_loopback, parts_of

_BACKENDS: Final = "django.core.mail.backends"
_PORTS: Final = {"smtp": 587, "smtps": 465}
_OPTIONS: Final = frozenset({"from", "starttls"})
_ADDRESS: Final = re.compile(r"[^@\s<>]+@[^@\s<>]+")
_TIMEOUT_SECONDS: Final = 10


def mail_settings(text: str, *, public_host: str) -> dict[str, Any]:
    """Return what `smtp://`, `smtps://` or `console:` asks for; nothing is sent where it is empty.

    Args:
        text: `smtp://user:password@host:587/?from=mcp@example.org`. `smtps` speaks TLS from the start, `smtp` changes
            to it (STARTTLS) unless the host is this machine or `starttls=off` says so.
        public_host: Of the site; the sender is `mcp-oauth@` it where no `from` is given.

    Raises:
        ImproperlyConfigured: It cannot be read, or would send a password in the clear.
    """
    parts = _split(text)
    if parts.scheme not in _PORTS:
        backend = "console" if parts.scheme == "console" else "dummy"
        return {
            "EMAIL_BACKEND": f"{_BACKENDS}.{backend}.EmailBackend",
            "EMAIL_ENABLED": bool(text),
            "DEFAULT_FROM_EMAIL": _sender(parts, public_host),
        }
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    starttls = parts.scheme == "smtp" and _options(parts).get("starttls", "" if is_loopback(host) else "on") == "on"
    if parts.password and not (starttls or parts.scheme == "smtps" or is_loopback(host)):
        raise ImproperlyConfigured("EMAIL_URL would send its password in the clear.")
    return {
        "EMAIL_BACKEND": f"{_BACKENDS}.smtp.EmailBackend",
        "EMAIL_ENABLED": True,
        "EMAIL_HOST": host,
        "EMAIL_PORT": port,
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": starttls,
        "EMAIL_USE_SSL": parts.scheme == "smtps",
        "EMAIL_TIMEOUT": _TIMEOUT_SECONDS,
        "DEFAULT_FROM_EMAIL": _sender(parts, public_host),
    }


def _split(text: str) -> SplitResult:
    parts = parts_of("EMAIL_URL", text)
    if text and parts.scheme not in {*_PORTS, "console"}:
        raise ImproperlyConfigured("EMAIL_URL must begin with smtp://, smtps:// or console:.")
    if parts.scheme in _PORTS and (not parts.hostname or parts.path not in {"", "/"} or parts.fragment):
        raise ImproperlyConfigured("EMAIL_URL must be like smtp://user:password@host:587.")
    return parts


def _options(parts: SplitResult) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if options.keys() - _OPTIONS or options.get("starttls", "on") not in {"on", "off"}:
        raise ImproperlyConfigured("EMAIL_URL knows the options from=ADDRESS and starttls=on or off.")
    return options


def _sender(parts: SplitResult, public_host: str) -> str:
    given = _options(parts).get("from")
    if given is None:
        return f"MCP OAuth Site <mcp-oauth@{public_host.partition(':')[0]}>"
    if not _ADDRESS.fullmatch(parseaddr(given)[1]) or not given.isprintable():
        raise ImproperlyConfigured("EMAIL_URL names no usable address in from=.")
    return given
