"""Resource identifiers: how ours is written, and whether a published one stands for a server's URL."""

from __future__ import annotations

from .errors import BlockedUrlError, InvalidRequestError
from .urls import parse_http_url


def canonical_resource(url: str) -> str:
    """Return the resource identifier of an MCP server that publishes none.

    Scheme and host become lower case, the scheme's own port and the slash of an empty path go. A slash after a
    path stays, because only the server knows whether it means something.

    Raises:
        InvalidRequestError: Not a usable http or https URL; a fragment counts as such.
        BlockedUrlError: The host is an address in disguise.

    Spec: RFC 8707 §2. A-07.
    """
    parsed = parse_http_url(url)
    if parsed.path == "/" and not parsed.query:
        return parsed.origin
    return parsed.url


def resource_covers(resource: str, *, url: str) -> bool:
    """Say whether a published resource identifier stands for a server at `url`: same origin, same path or a parent.

    Args:
        resource: As a protected-resource document has it; text that is no usable URL covers nothing.
        url: The MCP server's URL as configured.

    Raises:
        InvalidRequestError: `url` is not a usable URL.
        BlockedUrlError: The host of `url` is an address in disguise.

    Spec: RFC 9728 §3.3, §7.3. The RFC wants identity; MCP servers publish a parent too. D-14.
    """
    server = parse_http_url(url)
    try:
        published = parse_http_url(resource)
    except (InvalidRequestError, BlockedUrlError):
        return False
    if published.origin != server.origin:
        return False
    if published.query:
        return published.path == server.path and published.query == server.query
    segments = _segments(published.path)
    return _segments(server.path)[: len(segments)] == segments


def _segments(path: str) -> list[str]:
    return path.rstrip("/").split("/")
