"""Answers that are ready to be sent."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from django.utils import timezone
from rest_framework.renderers import JSONRenderer

from audit.append import Entry
from audit.events import AuditEvent
from audit.record import entry
from connections.database_time import offset
from connections.models import TokenSet
from connections.sealing import Ciphertext
from oauthflow.flows.access_token import due_at
from oauthflow.serializers import ReleasedTokenSerializer

from .statements import Grant, StoredTokens


class Opened(NamedTuple):
    """The body of an answer, the audit record of it but for who asked, and when the token is due for a refresh."""

    body: bytes
    entry: Entry
    due_at: datetime | None

    def entry_for(self, grant: Grant, *, correlation_id: str) -> Entry:
        """Return the audit record of giving it to that caller."""
        event, _, _, connection, _, reason, _, details = self.entry
        client = grant.token_name[:200]
        return Entry(event, str(grant.user_id), grant.server_slug, connection, client, reason, correlation_id, details)


def opened(stored: StoredTokens) -> Opened:
    """Open a token and render its answer.

    Args:
        stored: With Python's types.

    Raises:
        SecretUnreadableError: It does not open: wrong key, or sealed for another place or generation.
    """
    token_set = TokenSet(**{**stored._asdict(), "access_token_sealed": Ciphertext(stored.access_token_sealed)})
    released = {name: getattr(stored, name) for name in ("token_type", "expires_at", "scope", "resource")}
    released["access_token"] = token_set.access_token_sealed.reveal().reveal()
    body = JSONRenderer().render(ReleasedTokenSerializer(released).data)
    said = entry(
        AuditEvent.TOKEN_RELEASED,
        connection=stored.connection_id,
        details={"scope": stored.scope, "expires_at": stored.expires_at},
    )
    return Opened(body, said, due_at(obtained_at=stored.obtained_at, expires_at=stored.expires_at))


def is_plain(kept: Opened) -> bool:
    """Whether the token may be given out as it is, without a refresh first."""
    return kept.due_at is None or timezone.now() + offset.value < kept.due_at
