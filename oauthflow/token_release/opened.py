"""Answers that are ready to be sent, each kept under the very row that it was made of."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.utils import timezone
from rest_framework.renderers import JSONRenderer

from audit.append import Entry
from audit.events import AuditEvent
from audit.record import entry
from connections.database_time import offset
from connections.models import TokenSet
from connections.sealing import Ciphertext
from oauthflow.conf import configuration
from oauthflow.serializers import ReleasedTokenSerializer

from .statements import Grant, StoredTokens

SIZE: Final = 500
"""How many opened tokens are held in memory at most."""


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


class OpenedTokens:
    """The most recently used, one for each connection.

    The row is asked for on every call and compared as a whole: a token that was refreshed, given up or tampered with
    is not found here, and of one connection there is never more than the newest.
    """

    def __init__(self, *, size: int = SIZE) -> None:
        self._size = size
        self._kept: OrderedDict[Any, tuple[StoredTokens, Opened]] = OrderedDict()

    def get(self, stored: StoredTokens) -> Opened | None:
        """Return what was made of exactly this row."""
        found = self._kept.get(stored.connection_id)
        if found is None or found[0] != stored:
            return None
        self._kept.move_to_end(stored.connection_id)
        return found[1]

    def keep(self, stored: StoredTokens, opened: Opened) -> None:
        """Keep it in place of whatever there was for this connection."""
        self._kept[stored.connection_id] = (stored, opened)
        self._kept.move_to_end(stored.connection_id)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)


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


def due_at(*, obtained_at: datetime, expires_at: datetime | None) -> datetime | None:
    """Return the moment from which `oauthflow.flows.access_token.is_due` holds, or None for never."""
    if expires_at is None:
        return None
    life = expires_at - obtained_at
    if life < timedelta(seconds=configuration().short_life_seconds):
        return expires_at - life / 2
    return expires_at - timedelta(seconds=configuration().refresh_margin_seconds)


def is_plain(kept: Opened) -> bool:
    """Whether the token may be given out as it is, without a refresh first."""
    return kept.due_at is None or timezone.now() + offset.value < kept.due_at
