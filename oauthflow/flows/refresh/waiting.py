"""Waiting for somebody else's refresh: one look at the row for all who wait in this process."""

from __future__ import annotations

import threading
import time
from typing import Final
from uuid import UUID

from connections.models import Connection, TokenSet
from oauthflow.egress import leave_database
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import AuthorizationRequiredError, ResponseTimeoutError, TransportError

from .owners import DeathWatch

_POLL_SECONDS: Final = (0.005, 0.01, 0.02)
_SHARED_SECONDS: Final = 0.1
_CROWDED_SECONDS: Final = 0.05
_LOOKS_BETWEEN_PROBES: Final = 12


class _Crowd:
    """Those of this process that wait for one row; one of them looks, the others are told."""

    def __init__(self) -> None:
        self.size = 0
        self.looking = threading.Lock()
        self.changed = threading.Condition()


_crowds: Final[dict[UUID, _Crowd]] = {}
_guard: Final = threading.Lock()


def wait_for_the_winner(token_set: TokenSet, *, deadline: float) -> TokenSet | None:
    """Wait until another's refresh of this row has ended; the winner's result is ours too.

    Args:
        token_set: The row as it was read.
        deadline: Of the monotonic clock, in seconds.

    Returns:
        None where newer tokens are stored; the row, where it is ours to claim: with its owner where that is dead,
        without one where nobody has it, because it was given back or because its issuer had no room.

    Raises:
        AuthorizationRequiredError: The grant has ended.
        TransportError: The refresh that was waited for failed, or takes too long.
    """
    with _guard:
        crowd = _crowds.setdefault(token_set.pk, _Crowd())
        crowd.size += 1
    try:
        return _wait(token_set, crowd, deadline=deadline)
    finally:
        with _guard:
            crowd.size -= 1
            if not crowd.size:
                _crowds.pop(token_set.pk, None)


def _wait(token_set: TokenSet, crowd: _Crowd, *, deadline: float) -> TokenSet | None:
    while time.monotonic() < deadline:
        if crowd.looking.acquire(blocking=False):
            try:
                return _look(token_set, deadline=deadline)
            finally:
                crowd.looking.release()
                with crowd.changed:
                    crowd.changed.notify_all()
        leave_database()
        with crowd.changed:
            told = crowd.changed.wait(_SHARED_SECONDS)
        if told and _has_ended(_read(token_set), token_set):
            return None
    raise _too_long()


def _look(token_set: TokenSet, *, deadline: float) -> TokenSet | None:
    current, watch = token_set, DeathWatch(token_set.lease_owner)
    looks = 0
    while time.monotonic() < deadline:
        if looks % _LOOKS_BETWEEN_PROBES == 0 or not _is_held_still(current):
            current = _read(token_set)
            if _has_ended(current, token_set):
                return None
            if not current.lease_owner:
                leave_database()
                time.sleep(_CROWDED_SECONDS)
                return current
            if watch.owner != current.lease_owner:
                watch = DeathWatch(current.lease_owner)
            if watch.is_dead():
                return current
        leave_database()
        time.sleep(_POLL_SECONDS[min(looks, len(_POLL_SECONDS) - 1)])
        looks += 1
    raise _too_long()


def _is_held_still(row: TokenSet) -> bool:
    """The cheap look: by its key alone, without reading anything."""
    return TokenSet.objects.filter(pk=row.pk, generation=row.generation, lease_owner=row.lease_owner).exists()


def _read(token_set: TokenSet) -> TokenSet:
    current = TokenSet.objects.select_related("connection__server", "registration").filter(pk=token_set.pk).first()
    if current is None:
        raise AuthorizationRequiredError("disconnected meanwhile", reason="disconnected")
    return current


def _has_ended(current: TokenSet, before: TokenSet) -> bool:
    if current.generation != before.generation:
        return True
    if current.lease_owner:
        return False
    if current.connection.status == Connection.Status.REAUTH_REQUIRED:
        raise AuthorizationRequiredError("the grant was refused", reason=current.connection.reason)
    if current.refresh_failures == before.refresh_failures:
        return False
    raise TransportError("the refresh that was waited for failed", code=Code.TEMPORARILY_UNAVAILABLE)


def _too_long() -> ResponseTimeoutError:
    return ResponseTimeoutError("another refresh of this connection takes too long")
