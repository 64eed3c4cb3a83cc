"""Where metadata is looked for, in which order, and when a document counts."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl

from .errors import (
    DiscoveryError,
    InvalidRequestError,
    IssuerMismatchError,
    PkceNotSupportedError,
    ResourceMismatchError,
)
from .json_documents import read_json_object
from .messages import Response
from .metadata import AuthorizationServerMetadata, ProtectedResourceMetadata
from .resource import resource_covers
from .urls import ParsedUrl, is_loopback_host, parse_http_url

_PROTECTED_RESOURCE: Final = "/.well-known/oauth-protected-resource"
_OAUTH: Final = "/.well-known/oauth-authorization-server"
_OPENID: Final = "/.well-known/openid-configuration"
_S256: Final = "S256"
_ENDPOINTS: Final = (
    "authorization_endpoint",
    "token_endpoint",
    "registration_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
)
# Preset in an endpoint's query, any of these would speak in our name.
_OAUTH_PARAMETERS: Final = frozenset(
    {
        "access_token",
        "assertion",
        "audience",
        "client_assertion",
        "client_assertion_type",
        "client_id",
        "client_secret",
        "code",
        "code_challenge",
        "code_challenge_method",
        "code_verifier",
        "error",
        "grant_type",
        "id_token_hint",
        "iss",
        "nonce",
        "password",
        "redirect_uri",
        "refresh_token",
        "request",
        "request_uri",
        "resource",
        "response_mode",
        "response_type",
        "scope",
        "state",
        "token",
        "token_type_hint",
        "username",
    }
)


def protected_resource_urls(server_url: str, *, challenge_url: str | None) -> list[str]:
    """List where the document of an MCP server may be, to be asked in this order until one answers with 200.

    Args:
        server_url: The MCP server's URL as configured.
        challenge_url: `resource_metadata` of its challenge, not checked; it goes first, as received.

    Raises:
        InvalidRequestError: `server_url` is not a usable URL.
        BlockedUrlError: Its host is an address in disguise.

    Spec: RFC 9728 §3.1, §5.1. D-04, D-05, D-13.
    """
    server = parse_http_url(server_url)
    path = "" if server.path == "/" else server.path
    query = f"?{server.query}" if server.query else ""
    well_known = server.origin + _PROTECTED_RESOURCE
    # The RFC keeps a slash at the end of a path; many servers answer only without it.
    urls = [well_known + path + query, well_known + path.rstrip("/") + query, well_known]
    return list(dict.fromkeys([challenge_url, *urls] if challenge_url else urls))


def read_protected_resource_metadata(
    response: Response, *, server_url: str, accept_resource: str = "", issuer_known: bool = False
) -> ProtectedResourceMetadata:
    """Check the document of an MCP server.

    Args:
        response: Complete response to a GET of one of `protected_resource_urls`.
        server_url: The MCP server's URL as configured.
        accept_resource: A resource that an administrator accepts although it does not fit; compared exactly.
        issuer_known: The issuer is configured, so that a document without authorization servers is of use.

    Raises:
        DiscoveryError: Not status 200, no `resource`, or no authorization server named.
        ResourceMismatchError: The document is for another resource.
        MalformedResponseError: Not a JSON object with members of the right types.

    Spec: RFC 9728 §3.2, §3.3. D-04, D-14.
    """
    metadata = ProtectedResourceMetadata.from_document(_document(response))
    accepted = bool(accept_resource) and metadata.resource == accept_resource
    if not accepted and not resource_covers(metadata.resource, url=server_url):
        raise ResourceMismatchError("the document's resource does not stand for the server's URL")
    if not metadata.authorization_servers and not issuer_known:
        raise DiscoveryError("the document names no authorization server")
    return metadata


def authorization_server_urls(issuer: str) -> list[str]:
    """List where the document of an issuer may be, to be asked in this order until one answers with 200.

    Raises:
        DiscoveryError: The issuer is not a usable URL, or has a query.
        BlockedUrlError: Its host is an address in disguise.

    Spec: RFC 8414 §3.1; OpenID Connect Discovery 1.0 §4. D-09, D-10, D-11, D-13.
    """
    try:
        parsed = parse_http_url(issuer)
    except InvalidRequestError as error:
        raise DiscoveryError(f"the issuer is not usable: {error.detail}") from None
    if parsed.query:
        raise DiscoveryError("the issuer has a query")
    path = parsed.path.rstrip("/")
    if not path:
        return [parsed.origin + _OAUTH, parsed.origin + _OPENID]
    return [parsed.origin + _OAUTH + path, parsed.origin + _OPENID + path, parsed.origin + path + _OPENID]


def read_authorization_server_metadata(
    response: Response, *, issuer: str, accepted_issuer: str = ""
) -> AuthorizationServerMetadata:
    """Check the document of an authorization server.

    Args:
        response: Complete response to a GET of one of `authorization_server_urls`.
        issuer: The identifier from which that address was made, character by character.
        accepted_issuer: A second spelling that an administrator or a profile accepts; compared exactly.

    Raises:
        DiscoveryError: Not status 200, a required member is missing, or an endpoint is not usable: neither https
            nor loopback though the issuer is https, or OAuth parameters in its query.
        IssuerMismatchError: The document is of another issuer.
        BlockedUrlError: The host of an endpoint is an address in disguise.
        MalformedResponseError: Not a JSON object with members of the right types.

    Spec: RFC 8414 §3.2, §3.3; RFC 6749 §3.1. D-09, D-12, A-21.
    """
    metadata = AuthorizationServerMetadata.from_document(_document(response))
    if metadata.issuer != issuer and (not accepted_issuer or metadata.issuer != accepted_issuer):
        raise IssuerMismatchError("the document names another issuer than the one asked for")
    for name in _ENDPOINTS:
        endpoint = getattr(metadata, name)
        if endpoint:
            _check_endpoint(name, endpoint, issuer_is_https=issuer.lower().startswith("https:"))
    return metadata


def require_pkce(metadata: AuthorizationServerMetadata, *, assume_s256: bool) -> None:
    """Refuse a server that offers no sign-in for people, or does not promise PKCE with S256.

    Args:
        metadata: Of the authorization server.
        assume_s256: An administrator vouches for a server that says nothing; a list without S256 stays refused.

    Raises:
        DiscoveryError: There is no authorization endpoint.
        PkceNotSupportedError: S256 is not promised.

    Spec: RFC 7636 §4.2; RFC 8414 §2. A-03, A-04.
    """
    if not metadata.authorization_endpoint:
        raise DiscoveryError("the authorization server has no grant for people (grant_types_supported)")
    methods = metadata.code_challenge_methods_supported
    if methods is None:
        if not assume_s256:
            raise PkceNotSupportedError("the metadata has no code_challenge_methods_supported")
    elif _S256 not in methods:
        raise PkceNotSupportedError("code_challenge_methods_supported does not list S256")


def legacy_issuer(server_url: str) -> str:
    """Return the issuer of a server of revision 2025-03-26, which is its own authorization server: its origin.

    Raises:
        InvalidRequestError: Not a usable URL.
        BlockedUrlError: The host is an address in disguise.

    Spec: MCP 2025-03-26 authorization, metadata discovery.
    """
    return parse_http_url(server_url).origin


def legacy_metadata(server_url: str) -> AuthorizationServerMetadata:
    """Return what revision 2025-03-26 assumes of a server that publishes nothing at all; S256 is just used.

    Raises:
        InvalidRequestError: Not a usable URL.
        BlockedUrlError: The host is an address in disguise.

    Spec: MCP 2025-03-26 authorization, fallbacks for servers without metadata.
    """
    origin = legacy_issuer(server_url)
    return AuthorizationServerMetadata.from_document(
        {
            "issuer": origin,
            "authorization_endpoint": f"{origin}/authorize",
            "token_endpoint": f"{origin}/token",
            "registration_endpoint": f"{origin}/register",
            "code_challenge_methods_supported": [_S256],
        }
    )


def _document(response: Response) -> dict[str, Any]:
    if response.status != 200:
        raise DiscoveryError(f"status {response.status}")
    return read_json_object(response)


def _check_endpoint(name: str, endpoint: str, *, issuer_is_https: bool) -> None:
    """Whether plain http may be contacted at all is decided where connections are opened."""
    try:
        parsed = parse_http_url(endpoint)
    except InvalidRequestError as error:
        raise DiscoveryError(f"{name} is not usable: {error.detail}") from None
    if parsed.scheme != "https" and issuer_is_https and not is_loopback_host(parsed.host):
        raise DiscoveryError(f"{name} is not https")
    if _parameter_names(parsed) & _OAUTH_PARAMETERS:
        raise DiscoveryError(f"{name} presets an OAuth parameter in its query")


def _parameter_names(parsed: ParsedUrl) -> set[str]:
    pairs = parse_qsl(parsed.query.replace(";", "&"), keep_blank_values=True)
    return {name.strip().lower() for name, _ in pairs}
