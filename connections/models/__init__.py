"""What is configured, who is connected, and the secrets."""

from .api_token import ApiToken
from .authorization_server import AuthorizationServer, ServerDiscovery
from .client_registration import ClientRegistration
from .connection import NOT_RENEWABLE, Connection, TokenSet
from .flow_trace import FlowTrace
from .identity_provider import IdentityProvider
from .key_canary import KeyCanary
from .key_fingerprint import KeyFingerprint
from .mcp_server import McpServer
from .revocation import Revocation

__all__ = [
    "NOT_RENEWABLE",
    "ApiToken",
    "AuthorizationServer",
    "ClientRegistration",
    "Connection",
    "FlowTrace",
    "IdentityProvider",
    "KeyCanary",
    "KeyFingerprint",
    "McpServer",
    "Revocation",
    "ServerDiscovery",
    "TokenSet",
]
