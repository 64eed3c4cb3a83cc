"""How tokens for a server are obtained: with a person, or without one."""

from __future__ import annotations

from enum import StrEnum

JWT_BEARER_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"


class GrantType(StrEnum):
    """The first grant on the way to an access token.

    `token_exchange` is enterprise-managed authorization: an identity assertion of the company's own sign-in service is
    exchanged for an authorization grant (ID-JAG), which then goes to the server's authorization server. `jwt_bearer` is
    workload identity federation: the platform's JWT goes there directly.
    """

    AUTHORIZATION_CODE = "authorization_code"
    CLIENT_CREDENTIALS = "client_credentials"
    TOKEN_EXCHANGE = "token_exchange"
    JWT_BEARER = "jwt_bearer"

    @property
    def is_unattended(self) -> bool:
        """Whether nobody has to sign in."""
        return self is not GrantType.AUTHORIZATION_CODE
