"""`grant_type=client_credentials`: a token for a program that an administrator allows to act by itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from ..conf import authserver_configuration
from ..models import McpClient
from ..protocol.errors import InvalidScopeError, InvalidTargetError, UnauthorizedClientError
from ..protocol.granted_scope import narrowed_scope
from ..protocol.token_response import TokenResponse
from ..resources import scopes_of
from ..statements import StoredClient, find_service_resources
from ..tokens import mint_access_token, new_jti

_RANDOM_BYTES: Final = 16


def grant_client_credentials(form: Mapping[str, str], *, client: StoredClient, now: datetime) -> TokenResponse:
    """Issue an access token to a service account; never a refresh token. RFC 6749 §4.4.3.

    Args:
        form: Of `read_form`; `resource` may be left out where the account has just one.
        client: Authenticated.
        now: Aware UTC.

    Raises:
        UnauthorizedClientError: No service account, or a client without a secret, or one that registered itself.
        InvalidTargetError: No resource of the account, or none of ours.
        InvalidScopeError: More than the resource and the client have, or nothing is left.

    Spec: RFC 6749 §4.4; RFC 8707 §2; RFC 9068 §2.2. X-05, AS16.
    """
    resources = find_service_resources(client.id)
    is_public = client.auth_method == McpClient.AuthMethod.NONE
    if resources is None or is_public or client.kind != McpClient.Kind.PRE_REGISTERED:
        raise UnauthorizedClientError("The client is no service account.")
    uri = form.get("resource") or (resources[0] if len(resources) == 1 else "")
    known = scopes_of(uri) if uri in resources else None
    if known is None:
        raise InvalidTargetError("The resource is not one that the client may ask for.")
    allowed = set(known) & set(client.scope.split()) if client.scope else set(known)
    scope = narrowed_scope(form.get("scope"), granted=allowed)
    if not scope:
        raise InvalidScopeError("Nothing is left that the client could be granted.")
    issued_at, seconds = int(now.timestamp()), authserver_configuration().access_token_seconds
    access_token = mint_access_token(
        subject=client.client_id,
        client_id=client.client_id,
        audience=uri,
        scope=scope,
        jti=new_jti(client.id, os.urandom(_RANDOM_BYTES)),
        issued_at=issued_at,
        seconds=seconds,
    )
    return TokenResponse(access_token, issued_at + seconds, scope)
