"""Programs that use us as their authorization server, and what people allowed them."""

from .consent import Consent, fingerprint_of
from .mcp_client import McpClient, hash_of_secret, new_client_secret
from .pending_authorization import PendingAuthorization

__all__ = [
    "Consent",
    "McpClient",
    "PendingAuthorization",
    "fingerprint_of",
    "hash_of_secret",
    "new_client_secret",
]
