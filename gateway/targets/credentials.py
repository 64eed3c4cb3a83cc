"""What a request to a server carries, made out of what is stored. T-02: a token goes to its own resource only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

from connections.models import Connection, McpServer, TokenSet
from connections.sealing import Ciphertext
from oauthflow.egress.bound_token import BoundToken
from oauthflow.egress.relay_client import RawHeader
from oauthflow.flows.access_token import due_at
from oauthflow.hot_path.questions import as_moment, as_uuid
from oauthflow.protocol.errors import SecretUnreadableError
from oauthflow.protocol.resource import resource_covers
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.signing_key import read_signing_key
from oauthflow.protocol.token_endpoint import DPOP

from .statements import StoredGrant, StoredServer

Headers: TypeAlias = tuple[RawHeader, ...]

_AUTHORIZATION: Final = b"Authorization"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What every request carries.

    Attributes:
        headers: Ready to be sent.
        access_token: Where it is one that can be renewed.
        bound: Where that token is bound to a key: each request carries a proof as well. RFC 9449.
        due_at: When the token should be renewed before it is used, aware UTC; None: never.
    """

    headers: Headers = field(repr=False)
    access_token: Secret | None = None
    bound: BoundToken | None = field(default=None, repr=False)
    due_at: datetime | None = None


def static_credentials(stored: StoredServer) -> Credentials:
    """Return what an administrator entered for everybody.

    Raises:
        SecretUnreadableError: It does not open.
    """
    if stored.auth_type == McpServer.AuthType.NONE:
        return Credentials(())
    sealed = Ciphertext(stored.static_credential_sealed)
    server = McpServer(id=as_uuid(stored.id), static_credential_sealed=sealed)
    credential = server.static_credential_sealed.reveal().reveal()
    if stored.auth_type == McpServer.AuthType.BEARER:
        return Credentials(((_AUTHORIZATION, b"Bearer " + credential.encode()),))
    return Credentials(((stored.header_name.encode(), credential.encode()),))


def granted_credentials(stored: StoredGrant) -> Credentials:
    """Open a person's or a shared access token.

    Raises:
        SecretUnreadableError: It, or the key that it is bound to, does not open: wrong key, or sealed for another place
            or generation.
    """
    connection_id, sealed = as_uuid(stored.connection_id), Ciphertext(stored.access_token_sealed)
    token_set = TokenSet(
        id=as_uuid(stored.id), connection_id=connection_id, generation=stored.generation, access_token_sealed=sealed
    )
    token = token_set.access_token_sealed.reveal()
    return Credentials(
        ((_AUTHORIZATION, f"{stored.token_type} {token.reveal()}".encode()),),
        token,
        _bound(token, stored) if stored.token_type == DPOP else None,
        due_at(
            obtained_at=as_moment(stored.obtained_at),
            expires_at=as_moment(stored.expires_at) if stored.expires_at else None,
        ),
    )


def is_for_this_server(stored: StoredGrant) -> bool:
    """Whether a token came from the server's own authorization server, and for the server as it is configured now."""
    if stored.approved_issuer not in ("", stored.issuer):
        return False
    accepted = ("", stored.accepted_resource)
    return stored.resource in accepted or resource_covers(stored.resource, url=stored.server_url)


def _bound(token: Secret, stored: StoredGrant) -> BoundToken:
    sealed = Ciphertext(stored.dpop_key_sealed)
    connection = Connection(id=as_uuid(stored.connection_id), dpop_key_sealed=sealed)
    if not connection.dpop_key_sealed:
        raise SecretUnreadableError("the key that the token is bound to is not there")
    return BoundToken(token, read_signing_key(connection.dpop_key_sealed.reveal()))
