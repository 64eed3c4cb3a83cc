"""What we publish about a server behind the gateway. RFC 9728."""

from __future__ import annotations

from typing import Final

from django.conf import settings

from authserver.resources import gateway_resource

from ..callers.trusts import trust_of
from ..targets.find import ServerRow
from .answers import Answer, FailedError, json_answer
from .paths import METADATA_PREFIX

_KEPT: Final = (b"cache-control", b"public, max-age=300")

ANY_PAGE: Final = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"Retry-After, X-Request-ID"),
)
"""For every answer at this address, refusals too: it holds no secret, and nobody has to say who asks. X-11."""
METADATA_PREFLIGHT: Final = Answer(
    204,
    headers=(
        (b"access-control-allow-methods", b"GET"),
        (b"access-control-allow-headers", b"Authorization, Content-Type, MCP-Protocol-Version, X-Request-ID"),
        (b"access-control-max-age", b"600"),
    ),
)


def metadata_url(slug: str) -> str:
    """Where a client finds it: the well-known name goes before the path. RFC 9728 §3.1."""
    return f"{settings.PUBLIC_URL}{METADATA_PREFIX}{slug}"


async def metadata_answer(server: ServerRow, *, method: str) -> Answer:
    """Answer with the document. `resource` is character by character the address that clients use.

    Raises:
        FailedError: 405, only GET and HEAD read it.

    Spec: RFC 9728 §2, §3.2. D-01, D-02, S-11, S-13, X-08.
    """
    if method not in ("GET", "HEAD"):
        raise FailedError(405, "Use GET.", headers=((b"allow", b"GET"),))
    trust = await trust_of(server)
    document = {
        "resource": gateway_resource(server.slug),
        "authorization_servers": [trust.authorization_server],
        "scopes_supported": sorted(trust.needed),
        "bearer_methods_supported": ["header"],
        "resource_name": server.name,
    }
    return json_answer(document, headers=(_KEPT,))
