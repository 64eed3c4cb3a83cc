"""Whether tokens of a server are bound to a key of the connection. RFC 9449."""

from __future__ import annotations

from dataclasses import replace

from connections.dpop_keys import dpop_key
from connections.models import Connection, McpServer
from oauthflow.protocol.dpop import require_our_algorithm
from oauthflow.protocol.messages import Request
from oauthflow.protocol.token_endpoint import BEARER, DPOP, Binding

from .discover import Discovered

_Choice = McpServer.DpopBinding


def wanted_token_type(server: McpServer, found: Discovered) -> str:
    """Return the type to ask for: `DPoP` where the server wants it or an administrator does, else `Bearer`.

    Raises:
        DiscoveryError: The authorization server takes proofs by other algorithms only.
    """
    choice = server.dpop_bound_access_tokens
    if choice == _Choice.ALWAYS or (choice == _Choice.AUTO and found.asks_dpop):
        require_our_algorithm(found.metadata.dpop_signing_algs)
        return DPOP
    return BEARER


def bound(request: Request, connection: Connection, *, token_type: str) -> Request:
    """Return a token request with the key that it is to be proved with, where its tokens are bound.

    Raises:
        SecretUnreadableError: The stored key does not open.
    """
    return replace(request, dpop_key=dpop_key(connection)) if token_type == DPOP else request


def binding(server: McpServer, *, token_type: str) -> Binding:
    """Return what to accept in answer to a request for tokens of this type."""
    if token_type != DPOP:
        return "none"
    return "needed" if server.dpop_bound_access_tokens == _Choice.ALWAYS else "taken"
