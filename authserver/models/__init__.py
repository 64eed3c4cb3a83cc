"""Programs that use us as their authorization server, what people allowed them, and what was issued to them."""

from .consent import Consent, fingerprint_of
from .mcp_client import McpClient, hash_of_secret, new_client_secret
from .pending_authorization import PendingAuthorization
from .protected_resource import ExchangePolicy, ProtectedResource, ServiceAccount
from .registration_token import RegistrationToken
from .request_count import RequestCount
from .revocation import Revocation, RevocationEpoch, UsedAssertion
from .token_family import AuthorizationCode, Subject, TokenFamily

__all__ = [
    "AuthorizationCode",
    "Consent",
    "ExchangePolicy",
    "McpClient",
    "PendingAuthorization",
    "ProtectedResource",
    "RegistrationToken",
    "RequestCount",
    "Revocation",
    "RevocationEpoch",
    "ServiceAccount",
    "Subject",
    "TokenFamily",
    "UsedAssertion",
    "fingerprint_of",
    "hash_of_secret",
    "new_client_secret",
]
