"""Redirect URIs: which may be registered, and when a request's equals a registered one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.urls import ParsedUrl, parse_http_url

from .errors import UnusableRedirectUriError

MOST_REDIRECT_URIS: Final = 10
LONGEST_REDIRECT_URI: Final = 2048

_LOOPBACK = re.compile(
    r"(?P<host>http://(?:127\.0\.0\.1|\[::1\]|localhost))(?::(?P<port>[1-9][0-9]{0,4}))?(?P<rest>(?:/.*)?)", re.DOTALL
)
_CHARACTERS = re.compile(r"(?:[A-Za-z0-9._~:/?\[\]@!$&'()+,;=-]|%[0-9A-Fa-f]{2})+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*(?=:)")
_REVERSE_DOMAIN = re.compile(r"[a-z][a-z0-9-]*(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+")
_LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})
# Schemes that a browser acts on by itself, whatever program a person has installed.
_NEVER: Final = frozenset(
    {"about", "blob", "data", "file", "filesystem", "ftp", "javascript", "mailto", "vbscript", "view-source", "ws"}
    | {"wss", "intent", "tel", "sms", "chrome", "moz-extension", "chrome-extension", "jar", "urn"}
)


def find_registered(requested: str, *, registered: Iterable[str]) -> str | None:
    """Return the registered redirect URI that a requested one equals, or None.

    Equal is every byte; only the port of a loopback address may differ, since a program on somebody's machine takes
    whichever is free.

    Spec: RFC 9700 §2.1, §4.1.3; RFC 8252 §7.3. A-17, P-09, X-03.
    """
    return next((uri for uri in registered if requested == uri or _same_but_port(requested, uri)), None)


def is_loopback(uri: str) -> bool:
    """Tell whether a redirect URI leads to the person's own machine."""
    return _LOOPBACK.fullmatch(uri) is not None


def shown_host(uri: str) -> str:
    """Return where a redirect URI leads, for a person: host and port, or the scheme of a program's own."""
    try:
        return parse_http_url(uri).authority
    except FlowError:
        return uri.partition(":")[0] + ":"


def redirect_origin(uri: str) -> str:
    """Return the source expression by which a Content-Security-Policy allows a form to end at a redirect URI."""
    try:
        url = parse_http_url(uri)
    except FlowError:
        return uri.partition(":")[0] + ":"
    # The policy's grammar has no IPv6 addresses.
    return f"{url.scheme}:" if ":" in url.host else url.origin


def check_redirect_uris(value: object, *, any_scheme: bool = False) -> tuple[str, ...]:
    """Check a list of redirect URIs that somebody wants to register.

    Args:
        value: What came; has to be 1 to 10 texts.
        any_scheme: As `check_redirect_uri`.

    Raises:
        UnusableRedirectUriError: It is anything else, or one of them is not usable.

    Spec: RFC 7591 §2; security notes AS02.
    """
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_REDIRECT_URIS:
        raise UnusableRedirectUriError(f"redirect_uris has to be a list of 1 to {MOST_REDIRECT_URIS} addresses")
    for uri in value:
        check_redirect_uri(uri, any_scheme=any_scheme)
    return tuple(value)


def check_redirect_uri(uri: object, *, any_scheme: bool = False) -> None:
    """Refuse a redirect URI that is not https, http on loopback, or a program's own scheme in reverse-domain form.

    Args:
        uri: At most 2,048 characters.
        any_scheme: Take a program's own scheme in any form; only an administrator can judge those.

    Raises:
        UnusableRedirectUriError: It is not, or holds a fragment, a user name, a wildcard or a disguised host.

    Spec: RFC 8252 §7.1, §7.3, §8.4; RFC 9700 §2.1; security notes AS02. A-18, X-10.
    """
    if not isinstance(uri, str) or not 1 <= len(uri) <= LONGEST_REDIRECT_URI:
        raise UnusableRedirectUriError(f"a redirect URI has to be a text of at most {LONGEST_REDIRECT_URI} characters")
    if not _CHARACTERS.fullmatch(uri):
        raise UnusableRedirectUriError("a redirect URI holds a fragment, a wildcard, or what a URL may not hold")
    scheme = _SCHEME.match(uri)
    if scheme is None:
        raise UnusableRedirectUriError("a redirect URI needs a scheme in lower case")
    if scheme[0] in ("https", "http"):
        _check_web(uri)
    else:
        _check_private_scheme(uri, scheme[0], any_scheme=any_scheme)


def _same_but_port(requested: str, registered: str) -> bool:
    asked, known = _LOOPBACK.fullmatch(requested), _LOOPBACK.fullmatch(registered)
    if asked is None or known is None or int(asked["port"] or 80) > 65535:
        return False
    return (asked["host"], asked["rest"]) == (known["host"], known["rest"])


def _check_web(uri: str) -> None:
    try:
        url = parse_http_url(uri)
    except FlowError as error:
        raise UnusableRedirectUriError("a redirect URI is not a plain address", detail=error.detail) from error
    if url.scheme == "http" and url.host not in _LOOPBACK_HOSTS:
        raise UnusableRedirectUriError("a redirect URI with http leads to another machine than the person's own")
    if not uri.partition("://")[2].startswith(_written(url)):
        raise UnusableRedirectUriError("the host of a redirect URI is not written in its plain form")
    if any(_mixes_scripts(label) for label in url.host.split(".")):
        raise UnusableRedirectUriError("the host of a redirect URI mixes alphabets")


def _written(url: ParsedUrl) -> str:
    return f"[{url.host}]" if ":" in url.host else url.host


def _mixes_scripts(label: str) -> bool:
    if not label.startswith("xn--"):
        return False
    try:
        text = label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return True
    if any(not (letter.isalnum() or letter == "-" or unicodedata.combining(letter)) for letter in text):
        return True
    scripts = {unicodedata.name(letter, "?").partition(" ")[0] for letter in text if letter.isalpha()}
    return "LATIN" in scripts and len(scripts) > 1


def _check_private_scheme(uri: str, scheme: str, *, any_scheme: bool) -> None:
    rest = uri[len(scheme) + 1 :]
    own = any_scheme and scheme not in _NEVER
    if not (own or _REVERSE_DOMAIN.fullmatch(scheme)):
        raise UnusableRedirectUriError("a program's own scheme has to be the reverse of a domain name it owns")
    if not rest.startswith("/") or "@" in rest:
        raise UnusableRedirectUriError("a redirect URI with a program's own scheme needs a path and no user name")
