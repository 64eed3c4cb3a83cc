"""From the address of an MCP server to its authorization server, for servers of every revision.

challenge of the server itself → protected-resource metadata (RFC 9728) → authorization-server metadata (RFC 8414,
OpenID Connect Discovery) → without any of it, the rules of MCP 2025-03-26.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from connections.models import McpServer, ServerDiscovery
from connections.profiles import profile_of
from connections.services import fitting_scope
from oauthflow.conf import configuration
from oauthflow.egress import Egress
from oauthflow.protocol.bearer import BearerChallenge, bearer_challenge
from oauthflow.protocol.codes import Code
from oauthflow.protocol.discovery import (
    authorization_server_urls,
    legacy_issuer,
    legacy_metadata,
    protected_resource_urls,
    read_authorization_server_metadata,
    read_protected_resource_metadata,
    require_pkce,
)
from oauthflow.protocol.dpop import SCHEME
from oauthflow.protocol.errors import (
    DiscoveryError,
    FlowError,
    IssuerMismatchError,
    MalformedResponseError,
    PkceNotSupportedError,
    ResponseTimeoutError,
)
from oauthflow.protocol.messages import Request, Response
from oauthflow.protocol.metadata import AuthorizationServerMetadata, ProtectedResourceMetadata
from oauthflow.protocol.retry_after import require_available
from oauthflow.protocol.urls import parse_http_url

from .keep_discovery import keep_discovery, keep_failure

_ACCEPT_JSON = {"Accept": "application/json", "MCP-Protocol-Version": "2025-11-25"}


@dataclass(frozen=True, slots=True)
class Discovered:
    """What a server asks for. Empty `resource`: it publishes none (RFC 9728). `asks_dpop`: bound tokens (RFC 9449)."""

    metadata: AuthorizationServerMetadata
    source_url: str
    resource: str
    scopes_supported: Sequence[str] | None
    challenge_scope: str | None
    is_legacy: bool
    resource_document: dict[str, object]
    asks_dpop: bool = False

    @property
    def issuer(self) -> str:
        """The authorization server's identifier, as its metadata spells it."""
        return self.metadata.issuer


def discover(
    server: McpServer, *, http: Egress, now: datetime, fresh: bool = False, challenge: BearerChallenge | None = None
) -> Discovered:
    """Find the authorization server of an MCP server, from the cache while it is fresh.

    Args:
        server: The configured server; endpoints set by hand need no discovery.
        http: The way out.
        now: Aware UTC.
        fresh: Ask again although the cache is fresh.
        challenge: A challenge that a client met; the cache is then not asked, so that a server's move is noticed.

    Raises:
        IssuerChangedError: The server names another authorization server than the one its connections use.
        DiscoveryError: No usable metadata; believed for `negative_cache_seconds`.
        FlowError: The network's and the guard's own errors.

    Spec: RFC 9728 §3, §5; RFC 8414 §3. D-04 to D-15.
    """
    if server.authorization_endpoint:
        return _configured_by_hand(server)
    kept = ServerDiscovery.objects.select_related("authorization_server").filter(server=server).first()
    if kept is not None and not fresh and challenge is None:
        if kept.is_fresh(now=now) and not kept.new_issuer:
            return _from_cache(kept, server=server)
        _refuse_while_failure_is_recent(kept, now=now)
    try:
        found = _ask(server, http=http, challenge=challenge, approved_issuer=kept.issuer if kept else "")
    except (DiscoveryError, MalformedResponseError) as error:
        keep_failure(server, error=error, now=now)
        raise
    keep_discovery(server, found, kept=kept, now=now)
    return found


def _configured_by_hand(server: McpServer) -> Discovered:
    metadata = AuthorizationServerMetadata.from_document(
        {
            "issuer": server.issuer,
            "authorization_endpoint": server.authorization_endpoint,
            "token_endpoint": server.token_endpoint,
            "code_challenge_methods_supported": ["S256"],
            **({"revocation_endpoint": server.revocation_endpoint} if server.revocation_endpoint else {}),
        }
    )
    return Discovered(metadata, "", "", None, None, False, {})


def _from_cache(kept: ServerDiscovery, *, server: McpServer) -> Discovered:
    if kept.authorization_server is None:
        raise DiscoveryError("the cache names no authorization server")
    metadata = kept.authorization_server.metadata
    if not server.is_unattended:
        require_pkce(metadata, assume_s256=server.assume_pkce)
    return Discovered(
        metadata=metadata,
        source_url=kept.authorization_server.source_url,
        resource=kept.resource,
        scopes_supported=kept.scopes_supported,
        challenge_scope=kept.challenge_scope or None,
        is_legacy=kept.is_legacy,
        resource_document=kept.resource_document,
        asks_dpop=kept.asks_dpop,
    )


def _refuse_while_failure_is_recent(kept: ServerDiscovery, *, now: datetime) -> None:
    believed = timedelta(seconds=configuration().negative_cache_seconds)
    if kept.failed_at is not None and kept.failed_at + believed > now:
        raise DiscoveryError(f"failed a moment ago: {kept.failure_detail}", code=Code(kept.failure_code))


def _ask(server: McpServer, *, http: Egress, challenge: BearerChallenge | None, approved_issuer: str) -> Discovered:
    asked_to_sign_in = challenge is not None
    if challenge is None or not challenge.resource_metadata:
        # Also where a client reports a challenge: what is found counts for everybody, so the server itself is asked.
        challenge, asked_now = _probe(server, http=http)
        asked_to_sign_in = asked_to_sign_in or asked_now
    resource = _protected_resource(server, http=http, challenge=challenge)
    if resource is None:
        return _legacy(server, http=http, challenge=challenge, asked_to_sign_in=asked_to_sign_in)
    issuers = [server.issuer] if server.issuer else list(resource.authorization_servers)
    issuers.sort(key=lambda issuer: issuer != approved_issuer)
    metadata, source_url = _first_usable(server, issuers, http=http)
    return Discovered(
        metadata=metadata,
        source_url=source_url,
        resource=resource.resource,
        scopes_supported=resource.scopes_supported,
        challenge_scope=_challenge_scope(challenge),
        is_legacy=False,
        resource_document=dict(resource.document),
        asks_dpop=_asks_dpop(challenge, resource),
    )


def _probe(server: McpServer, *, http: Egress) -> tuple[BearerChallenge | None, bool]:
    """Ask without a token, for something that really needs one: `initialize` is open at some servers."""
    version = "2026-07-28"
    meta = {"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}}
    request = Request(
        "POST",
        server.url,
        headers={
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": version,
            "Mcp-Method": "tools/list",
        },
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}},
    )
    try:
        response = http.send(request, step="server")
    except (ResponseTimeoutError, MalformedResponseError):
        return None, False
    challenge = bearer_challenge(response.headers.get("www-authenticate", ""))
    http.trace.verdict("asks to sign in" if response.status == 401 else "answers without asking to sign in")
    return challenge, response.status == 401


def _protected_resource(
    server: McpServer, *, http: Egress, challenge: BearerChallenge | None
) -> ProtectedResourceMetadata | None:
    accept = server.resource if server.resource_mode == McpServer.ResourceMode.CUSTOM else ""
    malformed: MalformedResponseError | None = None
    for url in protected_resource_urls(server.url, challenge_url=challenge.resource_metadata if challenge else None):
        response = _get(url, http=http, step="protected-resource metadata")
        if response is None:
            continue
        try:
            found = read_protected_resource_metadata(
                response, server_url=server.url, accept_resource=accept, issuer_known=bool(server.issuer)
            )
        except MalformedResponseError as error:
            http.trace.verdict(error.detail)
            malformed = error
            continue
        http.trace.verdict(f"for {found.resource}")
        return found
    if malformed is not None:
        raise malformed
    return None


def _legacy(
    server: McpServer, *, http: Egress, challenge: BearerChallenge | None, asked_to_sign_in: bool
) -> Discovered:
    """The rules of MCP 2025-03-26: metadata at the origin, else fixed paths there."""
    issuer = server.issuer or legacy_issuer(server.url)
    scope = _challenge_scope(challenge)
    try:
        metadata, source_url = _metadata_of(server, issuer, http=http)
    except (IssuerMismatchError, PkceNotSupportedError):
        raise
    except DiscoveryError as error:
        if server.issuer or not asked_to_sign_in:
            raise DiscoveryError(
                f"{error.detail}; the server {'asks' if asked_to_sign_in else 'does not ask'} to sign in"
            ) from error
        metadata, source_url = legacy_metadata(server.url), ""
    return Discovered(metadata, source_url, "", None, scope, True, {})


def _challenge_scope(challenge: BearerChallenge | None) -> str | None:
    return fitting_scope(challenge.scope) if challenge and challenge.scope else None


def _asks_dpop(challenge: BearerChallenge | None, resource: ProtectedResourceMetadata) -> bool:
    """RFC 9449 §7.1, RFC 9728 §2."""
    challenged = challenge is not None and challenge.scheme == SCHEME
    return challenged or resource.document.get("dpop_bound_access_tokens_required") is True


def _first_usable(
    server: McpServer, issuers: Sequence[str], *, http: Egress
) -> tuple[AuthorizationServerMetadata, str]:
    problem: FlowError = DiscoveryError("the server names no authorization server")
    for issuer in issuers:
        try:
            return _metadata_of(server, issuer, http=http)
        except DiscoveryError as error:
            problem = error
    raise problem


def _metadata_of(server: McpServer, issuer: str, *, http: Egress) -> tuple[AuthorizationServerMetadata, str]:
    problem: FlowError | None = None
    urls = authorization_server_urls(issuer)
    accepted = _second_spelling(server, issuer)
    for url in urls:
        response = _get(url, http=http, step="authorization-server metadata")
        if response is None:
            continue
        try:
            found = read_authorization_server_metadata(response, issuer=issuer, accepted_issuer=accepted)
            if not server.is_unattended:
                require_pkce(found, assume_s256=server.assume_pkce)
        except (DiscoveryError, MalformedResponseError) as error:
            http.trace.verdict(error.detail)
            problem = problem or error
            continue
        http.trace.verdict("usable")
        return found, url
    raise problem or DiscoveryError(f"{issuer} publishes no metadata at any of its well-known addresses")


def _second_spelling(server: McpServer, issuer: str) -> str:
    """The other issuer that the metadata may name; not at an origin that only the MCP server vouches for. D-12, U12."""
    accepted = server.accepted_issuer or profile_of(server.profile).accepted_issuer
    if not accepted or issuer == server.issuer:
        return accepted
    return accepted if parse_http_url(accepted).origin == parse_http_url(issuer).origin else ""


def _get(url: str, *, http: Egress, step: str) -> Response | None:
    """GET a document; None where there is none. A server that is down is not a server without metadata."""
    response = http.send(Request("GET", url, headers=_ACCEPT_JSON), step=step)
    require_available(response, now=None)
    if response.status != 200:
        http.trace.verdict("not here")
        return None
    return response
