"""A server behind the gateway, and what to reach it with."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from django.utils.crypto import salted_hmac

from connections.models import McpServer
from oauthflow.egress.proofs import note_nonce, proof_for
from oauthflow.hot_path.questions import as_uuid
from oauthflow.protocol.dpop import NONCE_HEADER, PROOF_HEADER, NonceAskedError
from oauthflow.protocol.errors import SecretUnreadableError
from oauthflow.protocol.grant_types import GrantType
from oauthflow.protocol.messages import Request, Response

from .credentials import Credentials, Headers, static_credentials
from .statements import StoredServer


@dataclass(frozen=True, slots=True)
class ServerRow:
    """A server that the gateway serves.

    Attributes:
        version: Another number after each change of what stands here; known to this process only.
        credentials: Of a server that does not use OAuth; None where they do not open, and for OAuth.
        trust_version: Of its `gateway.models.InboundTrust`; empty where it takes our tokens only.
        own_grant: Another text after its own credential was replaced, the same in all processes; empty for OAuth.
    """

    id: UUID
    slug: str
    name: str
    url: str
    auth_type: str
    transport: str
    status: str
    connection_policy: str
    grant_type: str
    timeout_seconds: int
    version: int
    credentials: Credentials | None = field(repr=False)
    trust_version: str = ""
    own_grant: str = field(default="", repr=False)

    @property
    def is_oauth(self) -> bool:
        """Whether each connection has a token of its own."""
        return self.auth_type == McpServer.AuthType.OAUTH

    @property
    def is_unattended(self) -> bool:
        """Whether nobody has to sign in to connect."""
        return self.is_oauth and GrantType(self.grant_type).is_unattended


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and what to reach it with.

    Attributes:
        server: As it is at this moment.
        credentials: For each request.
        connection_id: Whose access it is; None where the server's own credential, or none, serves everybody.
        generation: Of the token.
        label: Which of several connections was asked for; empty: whichever.
        connection: Its id as text; empty: none.
        grant: Another text after a disconnect, for another account there, and after the server's own credential was
            replaced; the same when the token is renewed.
    """

    server: ServerRow
    credentials: Credentials
    connection_id: UUID | None = None
    generation: int = 0
    label: str = ""
    grant: str = field(default="", repr=False)
    connection: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "connection", str(self.connection_id) if self.connection_id is not None else "")

    def headers_for(self, method: str, *, url: str = "") -> Headers:
        """Return the credentials of one request; with a fresh proof where the token is bound to a key. RFC 9449 §7.

        Args:
            method: Of the request.
            url: At this server; empty: its configured one.
        """
        bound = self.credentials.bound
        if bound is None:
            return self.credentials.headers
        proof = proof_for(bound.key, method=method, url=url or self.server.url, access_token=bound.access_token)
        return (*self.credentials.headers, (PROOF_HEADER.encode(), proof.encode()))

    def note_nonce(self, status: int, *, nonce: str, www_authenticate: str, url: str = "") -> bool:
        """Keep the nonce that an answer gives for the next proof.

        Args:
            status: Of the answer.
            nonce: Its `DPoP-Nonce`; empty: none.
            www_authenticate: Its header of that name; empty: none.
            url: As for `headers_for`.

        Returns:
            Whether the request was refused only for want of it, and may be sent again. RFC 9449 §9.
        """
        if self.credentials.bound is None or not nonce:
            return False
        answered = {NONCE_HEADER: nonce, "www-authenticate": www_authenticate}
        sent = Request("POST", url or self.server.url, dpop_key=self.credentials.bound.key)
        try:
            note_nonce(Response(status, url=sent.url, headers=answered), request=sent)
        except NonceAskedError:
            return True
        return False


def server_row(stored: StoredServer) -> ServerRow:
    """Return a stored server with Python's types."""
    credentials = _own_credentials(stored)
    return ServerRow(
        id=as_uuid(stored.id),
        slug=stored.slug,
        name=stored.name,
        url=stored.url,
        auth_type=stored.auth_type,
        transport=stored.transport,
        status=stored.status,
        connection_policy=stored.connection_policy,
        grant_type=stored.grant_type,
        timeout_seconds=stored.request_timeout_seconds,
        version=hash(stored),
        credentials=credentials,
        trust_version=stored.trust_version.replace("-", ""),  # PostgreSQL writes it with hyphens
        own_grant=_grant_of(credentials) if credentials is not None else "",
    )


def _grant_of(credentials: Credentials) -> str:
    """Name what an administrator entered. With a key, so that whoever reads the name cannot try out what it was."""
    return salted_hmac("gateway.own_grant", repr(credentials.headers), algorithm="sha256").hexdigest()


def _own_credentials(stored: StoredServer) -> Credentials | None:
    if stored.auth_type == McpServer.AuthType.OAUTH:
        return None
    try:
        return static_credentials(stored)
    except SecretUnreadableError:
        return None
