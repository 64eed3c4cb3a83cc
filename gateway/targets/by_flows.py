"""What is not plain: through the flows that also serve REST. They block, so they belong into threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.contrib.auth.models import User
from django.utils import timezone

from connections.models import Connection, McpServer, TokenSet
from connections.services import connection_for, require_reauthorization
from oauthflow.flows.request_headers import prepare_request
from oauthflow.protocol.secret import Secret

from .credentials import Credentials
from .statements import grant_of

FRESH_REFUSED: Final = "fresh_token_refused"


@dataclass(frozen=True, slots=True)
class FoundAccess:
    """What the flows gave out."""

    connection_id: UUID
    generation: int
    grant: str
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose access to what.

    Attributes:
        server_id: Of a server that uses OAuth and that the person may use.
        user_id: Of the person.
        connection_id: That was chosen for them; None where there is none, which is then made.
        label: Of the connection that is made.
        refused: An access token that the server has just refused.
    """

    server_id: UUID
    user_id: int
    connection_id: UUID | None
    label: str
    refused: Secret | None = None


def connection_of(asked: Asked) -> Connection:
    """Return the connection, making it where there is none.

    Raises:
        InvalidRequestError: It would be a shared one, which this person does not manage.
    """
    if asked.connection_id is not None:
        return Connection.objects.select_related("server").get(pk=asked.connection_id)
    user, server = User.objects.get(pk=asked.user_id), McpServer.objects.get(pk=asked.server_id)
    return connection_for(user, server, label=asked.label, actor=user)


def find_access(asked: Asked) -> FoundAccess:
    """Get a usable token, renewing it or, where nobody has to sign in, asking for the first one.

    Raises:
        FlowError: As `oauthflow.flows.request_headers.prepare_request` and `connection_of`.
    """
    connection = connection_of(asked)
    # Before the token: a renewal in between then makes this one older than it is, and nobody renews it for nothing.
    before = connection.token_set
    prepared = prepare_request(connection, now=timezone.now(), refused=asked.refused)
    headers = tuple((name.encode(), value.reveal().encode()) for name, value in prepared.headers.items())
    credentials = Credentials(headers, prepared.access_token, prepared.dpop)
    return FoundAccess(connection.pk, before.generation if before else 0, _grant(connection, before), credentials)


def _grant(connection: Connection, before: TokenSet | None) -> str:
    kept = before or connection.token_set
    return grant_of(kept.pk, issuer=kept.issuer, subject=connection.upstream_subject) if kept else ""


def give_up(connection_id: UUID, *, generation: int) -> bool:
    """Mark that even a token that was renewed a moment ago is refused.

    Args:
        connection_id: Of the person, or shared.
        generation: Of that token.

    Returns:
        Whether it was marked; not where newer tokens are stored by now.
    """
    connection = Connection.objects.select_related("server").get(pk=connection_id)
    return require_reauthorization(connection, reason=FRESH_REFUSED, generation=generation)
