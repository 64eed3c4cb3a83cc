"""The resources that tokens can be asked for: our gateway's servers, our REST API, and those of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from django.conf import settings

from connections.models import McpServer
from connections.models.api_token import ApiScope

from .models import ProtectedResource
from .statements import find_external_scopes, is_behind_gateway

GATEWAY_SCOPE: Final = "mcp:access"
"""The one scope of a server behind the gateway: use it as the person may."""

_GATEWAY_SCOPES: Final = {GATEWAY_SCOPE: "Use this server and its tools in your name"}
_API_SCOPES: Final = {
    ApiScope.SERVERS_READ.value: "See which servers you may use",
    ApiScope.SERVERS_WRITE.value: "Change servers, as far as you may",
    ApiScope.CONNECTIONS_READ.value: "See your connections",
    ApiScope.CONNECTIONS_WRITE.value: "Connect and disconnect in your name",
    ApiScope.TOKENS_RELEASE.value: "Take the access tokens of your connections",
    ApiScope.TOOLS_CALL.value: "Call tools of your servers",
    ApiScope.AUDIT_READ.value: "Read the audit record, as far as you may",
}
_API_DEFAULTS: Final = frozenset({ApiScope.SERVERS_READ.value, ApiScope.CONNECTIONS_READ.value})


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that our access tokens can be for.

    Attributes:
        uri: Its identifier, and the `aud` of its tokens, character by character.
        name: For people.
        scopes: Each scope that it knows, with what it means in words.
        server: The server behind the gateway, or None.
    """

    uri: str
    name: str
    scopes: Mapping[str, str]
    server: McpServer | None = None

    @property
    def default_scopes(self) -> frozenset[str]:
        """What a request means that names no scope: of our own interface to look only, of others all. RFC 6749 §3.3."""
        return _API_DEFAULTS if self.uri == api_resource() else frozenset(self.scopes)


def api_resource() -> str:
    """The audience of tokens for our own REST API; no gateway's, so neither is good at the other. AS11."""
    return f"{settings.PUBLIC_URL}/api/v1"


def gateway_resource(slug: str) -> str:
    """The audience of tokens for one server behind the gateway."""
    return f"{settings.PUBLIC_URL}/mcp/{slug}"


def scopes_of(uri: str) -> Mapping[str, str] | None:
    """Return the scopes of the resource of exactly that name, or None: what begins like one is none.

    Spec: RFC 8707 §2. X-05, AS11.
    """
    if uri == api_resource():
        return _API_SCOPES
    slug = _slug_of(uri)
    if slug is None:
        return find_external_scopes(uri)
    return _GATEWAY_SCOPES if is_behind_gateway(slug) else None


def find_resource(uri: str) -> Resource | None:
    """Return the resource of exactly that name, or None."""
    scopes = scopes_of(uri)
    if scopes is None:
        return None
    if uri == api_resource():
        return Resource(uri, "this site's programming interface", scopes)
    slug = _slug_of(uri)
    if slug is None:
        return Resource(uri, ProtectedResource.objects.get(resource=uri).name, scopes)
    server = McpServer.objects.get(slug=slug)
    return Resource(uri, server.name, scopes, server)


def _slug_of(uri: str) -> str | None:
    """The name of the server that an address of our gateway stands for; None for an address elsewhere."""
    slug = uri.removeprefix(gateway_resource(""))
    return slug if slug != uri else None
