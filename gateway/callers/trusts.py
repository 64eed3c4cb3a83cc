"""Whose tokens a server takes, as it is configured at this moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

from django.conf import settings

from authserver.resources import GATEWAY_SCOPE, gateway_resource
from gateway.models import InboundTrust
from gateway.targets.find import TARGETS
from oauthflow.newest import Newest
from oauthflow.protocol.scopes import parse_scope
from oauthflow.protocol.secret import Secret

if TYPE_CHECKING:
    from gateway.targets.find import ServerRow

Kind = InboundTrust.Kind
Person = InboundTrust.Person
_MOST_KNOWN: Final = 500


@dataclass(frozen=True, slots=True)
class Trust:
    """The rules of one server; see `gateway.models.InboundTrust`.

    Attributes:
        version: Of the row; empty where there is none.
        audience: Of tokens for this server, character by character.
        needed: All scopes that a call needs.
        broader: Each of them is enough instead.
    """

    audience: str
    version: str = ""
    kind: str = Kind.OWN
    allow_api_tokens: bool = False
    issuer: str = ""
    needed: frozenset[str] = frozenset({GATEWAY_SCOPE})
    broader: frozenset[str] = frozenset()
    person_by: str = Person.SUBJECT
    username_claim: str = ""
    jwks_uri: str = ""
    algorithms: frozenset[str] = frozenset()
    accept_plain_jwt: bool = False
    introspection_endpoint: str = ""
    client_id: str = ""
    client_secret: Secret = field(default=Secret(""), repr=False)
    cache_seconds: int = 0

    @property
    def is_external(self) -> bool:
        """Whether tokens come from somebody else."""
        return self.kind != Kind.OWN

    @property
    def authorization_server(self) -> str:
        """The issuer of the tokens. RFC 9728 §2. D-02."""
        return self.issuer or str(settings.PUBLIC_URL)


_KNOWN: Final[Newest[str, tuple[ServerRow, Trust]]] = Newest(most=_MOST_KNOWN)


async def trust_of(server: ServerRow) -> Trust:
    """Return the rules of a server; without a row of its own, the usual ones.

    Args:
        server: As the database has it now: what an administrator changes counts from the next call on.

    Raises:
        SecretUnreadableError: Our client secret at the issuer does not open.
    """
    known = _KNOWN.get(server.slug)
    if known is not None and (known[0] is server or known[0] == server):
        return known[1]
    audience = gateway_resource(server.slug)
    if not server.trust_version:
        trust = Trust(audience)
    else:
        trust = await TARGETS.threads.run(partial(_read, server.id, audience=audience))
    _KNOWN[server.slug] = (server, trust)
    return trust


def _read(server_id: UUID, *, audience: str) -> Trust:
    row = InboundTrust.objects.filter(pk=server_id).first()
    if row is None:
        return Trust(audience)
    if not row.is_external:
        return Trust(audience, version=row.version.hex, allow_api_tokens=row.allow_api_tokens)
    return Trust(
        row.audience or audience,
        version=row.version.hex,
        kind=row.kind,
        allow_api_tokens=row.allow_api_tokens,
        issuer=row.issuer,
        needed=parse_scope(row.scope),
        broader=parse_scope(row.broader_scope),
        person_by=row.person_by,
        username_claim=row.username_claim,
        jwks_uri=row.jwks_uri,
        algorithms=frozenset(row.algorithms),
        accept_plain_jwt=row.accept_plain_jwt,
        introspection_endpoint=row.introspection_endpoint,
        client_id=row.client_id,
        client_secret=row.client_secret_sealed.reveal(),
        cache_seconds=row.cache_seconds,
    )


def forget() -> None:
    """Know no rules; for tests."""
    _KNOWN.clear()
