"""Refusals go into the record: one for each client, code and minute, so that nobody fills it by asking."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final

from audit.events import AuditEvent
from audit.record import record

from ..flows.authenticate_client import UnprovedClientError
from ..protocol.errors import OAuthError
from ..statements import StoredClient

_EVERY: Final = timedelta(minutes=1)
_REMEMBERED: Final = 1000
_recorded: OrderedDict[tuple[str, str], datetime] = OrderedDict()


def record_refusal(error: OAuthError, *, client: StoredClient | None, grant_type: str, now: datetime) -> None:
    """Record that a client of ours, or somebody in its name, was refused; strangers leave no trace in the record."""
    client_id = client.client_id if client else error.client_id if isinstance(error, UnprovedClientError) else ""
    if not client_id:
        return
    key = (client_id, error.error)
    if key in _recorded and now - _recorded[key] < _EVERY:
        return
    record(
        AuditEvent.AUTHORIZATION_FAILED,
        client=client_id,
        reason=error.error,
        details={"kind": "token_request", "trigger": grant_type[:80], "code": error.error},
    )
    _recorded[key] = now
    _recorded.move_to_end(key)
    if len(_recorded) > _REMEMBERED:
        _recorded.popitem(last=False)


def forget() -> None:
    """Record the next refusal of everybody."""
    _recorded.clear()
