"""Refusals go into the record: one for each client, person, code and minute, so that nobody fills it by asking."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from audit.events import AuditEvent
from audit.record import record
from oauthflow.newest import Newest

from ..flows.authenticate_client import UnprovedClientError
from ..models import McpClient
from ..protocol.errors import InteractionRequiredError, OAuthError
from ..statements import StoredClient

if TYPE_CHECKING:
    from django.contrib.auth.models import User

_EVERY: Final = timedelta(minutes=1)
_REMEMBERED: Final = 1000
_recorded: Newest[tuple[str, str, str, int | None], datetime] = Newest(most=_REMEMBERED)


def record_refusal(error: OAuthError, *, client: StoredClient | None, grant_type: str, now: datetime) -> None:
    """Record that a client of ours, or somebody in its name, was refused; strangers leave no trace in the record."""
    client_id = client.client_id if client else error.client_id if isinstance(error, UnprovedClientError) else ""
    _record(error, client_id, now=now, kind="token_request", trigger=grant_type[:80])


def record_refused_question(error: OAuthError, *, client: McpClient | None, user: User | None, now: datetime) -> None:
    """Record that what a client of ours, or somebody in its name, wanted a person to be asked was refused.

    Not where the client itself wanted no page: that is an answer.
    """
    if client is not None and not isinstance(error, InteractionRequiredError):
        _record(error, client.client_id, now=now, actor=user, kind="authorization_request")


def _record(
    error: OAuthError, client_id: str, *, now: datetime, kind: str, actor: User | None = None, **details: str
) -> None:
    key = (client_id, error.error, kind, actor.pk if actor else None)
    if not client_id or (key in _recorded and now - _recorded[key] < _EVERY):
        return
    record(
        AuditEvent.AUTHORIZATION_FAILED,
        actor=actor,
        client=client_id,
        reason=error.error,
        details={"kind": kind, **details, "code": error.error},
    )
    _recorded[key] = now


def forget() -> None:
    """Record the next refusal of everybody."""
    _recorded.clear()
