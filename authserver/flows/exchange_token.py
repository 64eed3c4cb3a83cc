"""`grant_type=urn:ietf:params:oauth:grant-type:token-exchange`: a caller's token of ours for their upstream token.

For trusted back ends: an administrator says which one, for tokens of which resource, and for which server.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

from django.contrib.auth import get_user_model

from audit.events import AuditEvent
from audit.record import record
from connections.models import Connection, McpServer
from connections.models.api_token import ApiScope
from connections.services import default_connection
from oauthflow.flows.access_token import usable_access_token
from oauthflow.protocol.errors import AuthorizationRequiredError, FlowError

from ..models import ExchangePolicy, McpClient
from ..protocol.errors import (
    InvalidGrantError,
    InvalidRequestError,
    InvalidTargetError,
    InvalidTokenError,
    TemporarilyUnavailableError,
    UnauthorizedClientError,
)
from ..resources import api_resource, gateway_resource
from ..statements import StoredClient
from ..tokens import VerifiedToken, verify

if TYPE_CHECKING:
    from django.contrib.auth.models import User

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:access_token"


def exchange_token(form: Mapping[str, str], *, client: StoredClient, now: datetime) -> dict[str, object]:
    """Give a back end the upstream access token of the person whose token it presents.

    May refresh upstream first, so no transaction may be open.

    Args:
        form: Of `read_form`: `subject_token`, `subject_token_type`, and the server by `resource` or `audience`.
        client: Authenticated, and not by a mere name.
        now: Aware UTC.

    Returns:
        The members of the answer. RFC 8693 §2.2.1.

    Raises:
        UnauthorizedClientError: A public client.
        InvalidTargetError: No policy allows this client that server.
        InvalidRequestError: The subject token is not good, or of another kind. RFC 8693 §2.2.2.
        InvalidGrantError: The person may not use the server, has to sign in there first, or allowed too little.
        TemporarilyUnavailableError: The upstream cannot be reached at the moment.

    Spec: RFC 8693 §2.1, §2.2, §5.
    """
    if client.auth_method == McpClient.AuthMethod.NONE:
        raise UnauthorizedClientError("A client that proves nothing exchanges no tokens.")
    _check_form(form)
    server, subject = _allowed(form, client=client)
    if subject.audience == api_resource() and ApiScope.TOKENS_RELEASE not in subject.scopes:
        raise InvalidGrantError("The person did not allow that upstream tokens are given out.")
    user = get_user_model().objects.filter(pk=subject.user_id, is_active=True).first() if subject.user_id else None
    connection = _connection_of(user, server) if user else None
    if connection is None:
        raise InvalidGrantError("The person has no connection to this server.")
    try:
        token = usable_access_token(connection, now=now)
    except AuthorizationRequiredError as error:
        raise InvalidGrantError("The person has to sign in at the server first.") from error
    except FlowError as error:
        raise TemporarilyUnavailableError("The upstream token is not to be had at the moment.") from error
    record(
        AuditEvent.TOKEN_RELEASED,
        actor=user,
        server=server.slug,
        connection=connection,
        client=client.client_id,
        reason="token_exchange",
        details={"scope": token.scope, "expires_at": token.expires_at, "resource": subject.audience},
    )
    members: dict[str, object] = {
        "access_token": token.access_token.reveal(),
        "issued_token_type": ACCESS_TOKEN_TYPE,
        "token_type": token.token_type,
        "scope": token.scope,
    }
    if token.expires_at is not None:
        members["expires_in"] = max(0, int((token.expires_at - now).total_seconds()))
    return members


def _check_form(form: Mapping[str, str]) -> None:
    if form.get("subject_token_type") != ACCESS_TOKEN_TYPE or not form.get("subject_token"):
        raise InvalidRequestError("subject_token has to be an access token of ours.")
    if form.get("requested_token_type", ACCESS_TOKEN_TYPE) != ACCESS_TOKEN_TYPE or "actor_token" in form:
        raise InvalidRequestError("Only access tokens are given, and to nobody's deputy.")
    if ("resource" in form) == ("audience" in form):
        raise InvalidRequestError("Name the server, by resource or by audience.")


def _allowed(form: Mapping[str, str], *, client: StoredClient) -> tuple[McpServer, VerifiedToken]:
    """Find the server by its address here or upstream, or by its short name, among those that the client may name."""
    policies = ExchangePolicy.objects.filter(client_id=client.id).select_related("server")
    named = form.get("resource") or form.get("audience")
    fitting = [
        policy
        for policy in policies
        if named
        in (policy.server.slug if "audience" in form else policy.server.url, gateway_resource(policy.server.slug))
    ]
    if not fitting:
        raise InvalidTargetError("The client may not have tokens of this server.")
    for policy in fitting:
        try:
            return policy.server, verify(form["subject_token"], audience=policy.subject_resource)
        except InvalidTokenError:
            continue
    raise InvalidRequestError("subject_token is not good, or not for this client.")


def _connection_of(user: User, server: McpServer) -> Connection | None:
    if not McpServer.objects.usable_by(user).filter(pk=server.pk).exists():
        return None
    return default_connection(user, server)
