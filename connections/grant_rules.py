"""What the ways to access without a person need, checked when a server is saved. No network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from django.conf import settings

from oauthflow.protocol.errors import NotConfiguredError, SecretUnreadableError
from oauthflow.protocol.grant_types import GrantType
from oauthflow.protocol.signing_key import read_signing_key
from oauthflow.protocol.unattended import require_assertion

if TYPE_CHECKING:
    from .models import McpServer

FILE: Final = "file:"
ENVIRONMENT: Final = "env:"
_SOURCE: Final = re.compile(r"file:/[^\0\r\n]+|env:[A-Za-z_][A-Za-z0-9_]*")


def grant_problems(server: McpServer) -> dict[str, str]:
    """Return what is missing or does not fit, by field; empty for a server that a person signs in to."""
    problems = _unreadable_secrets(server)
    if not server.is_unattended:
        return problems
    grant = GrantType(server.grant_type)
    if grant is not GrantType.JWT_BEARER:
        problems |= _client_problems(server)
    if grant is GrantType.TOKEN_EXCHANGE:
        problems |= _identity_provider_problems(server)
    if grant is GrantType.JWT_BEARER:
        problems |= _assertion_problems(server)
    return problems


def receivers_of(source: str) -> list[str]:
    """Return the addresses below which an assertion from there may be sent; none: the operator has not allowed it."""
    return [receiver for allowed, receiver in settings.ASSERTION_SOURCES if allowed == source]


def _client_problems(server: McpServer) -> dict[str, str]:
    if not server.client_id:
        return {"client_id": "This way to access needs a client that is registered at the service."}
    if server.token_endpoint_auth_method == server.AuthMethod.NONE:
        return {"token_endpoint_auth_method": "A client that acts for itself has to prove who it is."}
    has_own_key = server.token_endpoint_auth_method == server.AuthMethod.PRIVATE_KEY_JWT
    if not (server.client_secret_sealed or server.client_private_key_sealed or has_own_key):
        return {"client_id": "Enter the client's secret or its private key, or choose private_key_jwt."}
    return {}


def _identity_provider_problems(server: McpServer) -> dict[str, str]:
    provider = server.identity_provider
    if provider is None or provider.pk == server.pk:
        return {"identity_provider": "Choose the entry of the company's sign-in service."}
    if provider.auth_type != server.AuthType.OAUTH or provider.is_unattended:
        return {"identity_provider": "People have to sign in at that entry by OAuth (authorization code)."}
    return {}


def _assertion_problems(server: McpServer) -> dict[str, str]:
    source = server.assertion_source
    if not source:
        missing = "Say where the platform's JWT is, or enter one as the assertion."
        return {} if server.assertion_sealed else {"assertion_source": missing}
    if not _SOURCE.fullmatch(source):
        return {"assertion_source": "Write file:/path or env:NAME."}
    if not receivers_of(source):
        return {"assertion_source": "The operator has not allowed this source (ASSERTION_SOURCES)."}
    return {}


def _unreadable_secrets(server: McpServer) -> dict[str, str]:
    problems = {}
    try:
        if key := server.client_private_key_sealed.reveal():
            read_signing_key(key)
    except NotConfiguredError as error:
        problems["client_private_key"] = f"This cannot be used: {error.detail}."
    except SecretUnreadableError:
        pass  # an unreadable value is shown as such where it is; it does not forbid to change something else
    try:
        if assertion := server.assertion_sealed.reveal():
            require_assertion(assertion.reveal())
    except NotConfiguredError as error:
        problems["assertion"] = f"This cannot be used: {error.detail}."
    except SecretUnreadableError:
        pass
    return problems
