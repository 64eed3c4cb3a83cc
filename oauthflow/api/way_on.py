"""The answer to an operation that needs a person first: 409 with the link by which the person gets on."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rest_framework.response import Response

from connections.models import Connection
from oauthflow.error_responses import rest_response
from oauthflow.flows.call_tools import ScopeRequiredError
from oauthflow.flows.start_authorization import waiting_authorization
from oauthflow.protocol.errors import AuthorizationRequiredError

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def authorization_required(
    error: AuthorizationRequiredError, *, connection: Connection, user: User, now: datetime
) -> Response:
    """Start an authorization that this user may finish, and answer with its link.

    A shared connection that the user does not manage gets no link: an administrator has to reconnect it.

    Raises:
        FlowError: Nothing could be started at the moment; the caller learns that instead.
    """
    if connection.is_shared and not user.has_perm("connections.manage_shared_connection"):
        return rest_response(error)
    challenge = error.challenge if isinstance(error, ScopeRequiredError) else None
    return rest_response(error, started=waiting_authorization(connection, user=user, now=now, challenge=challenge))
