"""The one parser for URLs: what it returns is what is dialled. Where two parsers could disagree, it refuses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from .codes import Code
from .errors import BlockedUrlError, InvalidRequestError

MAX_URL_CHARACTERS: Final = 4096
MAX_RETURN_TO_CHARACTERS: Final = 1024
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_URL = re.compile(r"(?P<scheme>[A-Za-z]+)://(?P<authority>[^/?]+)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?", re.DOTALL)
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[1-9][0-9]{0,4}))?")
# The characters of RFC 3986 §2, percent only before two hex digits, and no "#".
_CHARACTERS = re.compile(r"(?:[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DOT_SEGMENTS: Final = (b".", b"..")


@dataclass(frozen=True, slots=True)
class ParsedUrl:
    """An http or https URL in the parts that are dialled.

    Attributes:
        scheme: `http` or `https`.
        host: Lower case name, dotted quad, or IPv6 address in its shortest form without brackets.
        port: Always set; the scheme's own where the URL names none.
        path: As written; empty or beginning with `/`; no dot segments.
        query: As written, without the `?`; empty where there is none.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def authority(self) -> str:
        """Host, in brackets where it is IPv6, and the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme and authority, without a slash at the end. RFC 6454 §6.2."""
        return f"{self.scheme}://{self.authority}"

    @property
    def target(self) -> str:
        """Path and query as an HTTP request line has them. RFC 9112 §3.2.1."""
        return (self.path or "/") + (f"?{self.query}" if self.query else "")

    @property
    def url(self) -> str:
        """The URL put together again from its parts."""
        return self.origin + self.path + (f"?{self.query}" if self.query else "")


def parse_http_url(text: str) -> ParsedUrl:
    """Take an absolute http or https URL apart.

    Args:
        text: At most 4,096 ASCII characters; hosts beyond ASCII in their `xn--` form.

    Raises:
        InvalidRequestError: Not such a URL: another scheme, user name, fragment, backslash, white space, control
            character, dot segment, template or shell syntax, or a host or port that is not canonical.
        BlockedUrlError: The host is an address in disguise: integer, hexadecimal, octal, short, or zoned.

    Spec: RFC 3986 §3; RFC 9110 §4.2. U-02, U-03, A-21.
    """
    if len(text) > MAX_URL_CHARACTERS:
        raise InvalidRequestError("the URL is too long")
    match = _URL.fullmatch(text) if _CHARACTERS.fullmatch(text) and "$(" not in text else None
    if match is None:
        raise InvalidRequestError("not an absolute URL, or it holds characters that a URL may not hold")
    scheme = match["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        raise InvalidRequestError("the scheme is neither https nor http")
    host, port = _split_authority(match["authority"])
    path = match["path"] or ""
    if not _is_plain_path(path):
        raise InvalidRequestError("the path holds dot segments, a backslash or control characters")
    return ParsedUrl(scheme, _canonical_host(host), port or DEFAULT_PORTS[scheme], path, match["query"] or "")


def is_below(text: str, *, base: str) -> bool:
    """Say whether a URL is another one or lies below it: the same origin, and whole segments of its path.

    Raises:
        InvalidRequestError: One of them is not usable; as `parse_http_url`.
    """
    url, top = parse_http_url(text), parse_http_url(base)
    return url.origin == top.origin and f"{url.path}/".startswith(f"{top.path.rstrip('/')}/")


def is_loopback_host(host: str) -> bool:
    """Say whether a host, with or without brackets, is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    bare = host.removeprefix("[").removesuffix("]").lower()
    if bare == "localhost":
        return True
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return False
    return address.is_loopback if address.version == 4 else address == ipaddress.IPv6Address("::1")


def validate_return_to(text: str, *, prefixes: Sequence[str] = ("/",)) -> str:
    """Check the path on this site to which a browser returns after a flow, and give it back unchanged.

    Args:
        text: A path with an optional query; at most 1,024 ASCII characters.
        prefixes: Paths below which it must lie; each ends in `/`.

    Raises:
        InvalidRequestError: With the code `invalid_return_to`: anything that some browser may read as another site.

    Spec: RFC 9700 §4.11.
    """
    path, _, query = text.partition("?")
    plain = (
        len(text) <= MAX_RETURN_TO_CHARACTERS
        and text.startswith("/")
        and _CHARACTERS.fullmatch(text) is not None
        and _is_plain_path(path)
        and not _has_control_or_backslash(unquote_to_bytes(query))
        and b"//" not in unquote_to_bytes(path)
        and any(path.startswith(prefix) for prefix in prefixes)
    )
    if not plain:
        raise InvalidRequestError("the return address is not a plain path of this site", code=Code.INVALID_RETURN_TO)
    return text


def _split_authority(authority: str) -> tuple[str, int | None]:
    if "@" in authority:
        raise InvalidRequestError("the URL holds a user name")
    match = _AUTHORITY.fullmatch(authority)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and port > 65535):
        raise InvalidRequestError("the host or the port of the URL is not canonical")
    return match["host"], port


def _canonical_host(host: str) -> str:
    if "%" in host:
        raise BlockedUrlError("the host holds a percent sign")
    if host.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise InvalidRequestError("the host is not an IPv6 address") from None
    name = host.lower()
    labels = name.split(".")
    # The rule of the URL standard: a numeric last label makes the whole host an address, however it is spelled.
    if _NUMBER.fullmatch(labels[-1]):
        return _dotted_quad(name)
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidRequestError("the host is not a name of letters, digits and hyphens")
    return name


def _dotted_quad(name: str) -> str:
    try:
        return str(ipaddress.IPv4Address(name))
    except ValueError:
        raise BlockedUrlError("the host is an address that is not a canonical dotted quad") from None


def _is_plain_path(path: str) -> bool:
    decoded = unquote_to_bytes(path)
    return not _has_control_or_backslash(decoded) and not any(part in _DOT_SEGMENTS for part in decoded.split(b"/"))


def _has_control_or_backslash(decoded: bytes) -> bool:
    return any(byte < 0x20 or byte in (0x5C, 0x7F) for byte in decoded)
