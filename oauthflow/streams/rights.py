"""Whose streams may stay open, and who sees an event; asked of the database for many streams at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from connections.models import ApiToken, Connection
from connections.models.api_token import ApiScope
from connections.permissions import granted_scopes
from oauthflow.models import Event

if TYPE_CHECKING:
    from .tickets import Ticket

Held = tuple["Ticket", UUID | None]
"""A ticket, and the one connection that its stream is about by now, if it is about one."""


def person(user_id: int) -> User | None:
    """Return a user who may be here."""
    return User.objects.filter(pk=user_id, is_active=True).first()


def lapsed(held: Sequence[Held]) -> set[Ticket]:
    """Return the tickets whose streams have to end.

    The user was deactivated, the API token revoked, the session ended, or the connection is not visible any more.
    Z06, G14.
    """
    users = User.objects.filter(is_active=True).in_bulk({ticket.user_id for ticket, _ in held})
    tokens = _tokens({ticket.api_token_id for ticket, _ in held if ticket.api_token_id is not None})
    sessions = _sessions({ticket.session_key for ticket, _ in held if ticket.session_key})
    visible = _visible({(ticket.user_id, wanted) for ticket, wanted in held if wanted is not None}, users)
    return {
        ticket
        for ticket, wanted in held
        if not _is_good(ticket, users=users, tokens=tokens, sessions=sessions)
        or (wanted is not None and (ticket.user_id, wanted) not in visible)
    }


def _is_good(ticket: Ticket, *, users: Mapping[int, User], tokens: Collection[UUID], sessions: Collection[str]) -> bool:
    user = users.get(ticket.user_id)
    if user is None:
        return False
    if ticket.is_good is not None:
        return ticket.is_good()
    if ticket.api_token_id is not None:
        return ticket.api_token_id in tokens
    return ticket.session_key in sessions and constant_time_compare(ticket.session_hash, user.get_session_auth_hash())


def _tokens(ids: Collection[UUID]) -> set[UUID]:
    found = ApiToken.objects.valid(now=timezone.now()).filter(pk__in=ids) if ids else []
    return {token.pk for token in found if ApiScope.CONNECTIONS_READ in granted_scopes(token)}


def _sessions(keys: Collection[str]) -> set[str]:
    if not keys:
        return set()
    store: type[SessionBase] = import_module(settings.SESSION_ENGINE).SessionStore
    if not hasattr(store, "get_model_class"):
        return {key for key in keys if store().exists(key)}
    rows: Any = store.get_model_class().objects
    return set(rows.filter(pk__in=keys, expire_date__gt=timezone.now()).values_list("pk", flat=True))


def _visible(wanted: Collection[tuple[int, UUID]], users: Mapping[int, User]) -> set[tuple[int, UUID]]:
    """Own connections by one query; shared ones by one for each user, because each user's servers differ."""
    ids = {connection_id for _, connection_id in wanted}
    owners = dict(Connection.objects.filter(pk__in=ids).values_list("pk", "user_id")) if ids else {}
    mine = {(user_id, pk) for user_id, pk in wanted if pk in owners and owners[pk] == user_id}
    shared = {(user_id, pk) for user_id, pk in wanted if pk in owners and owners[pk] is None}
    return mine | {
        (user_id, pk)
        for user_id in {user_id for user_id, _ in shared}
        for pk in _shared_with(users.get(user_id), {pk for other, pk in shared if other == user_id})
    }


def _shared_with(user: User | None, ids: Collection[UUID]) -> set[UUID]:
    if user is None:
        return set()
    return set(Connection.objects.visible_to(user).filter(pk__in=ids).values_list("pk", flat=True))


def audience(events: Sequence[Event], *, listening: Collection[int]) -> dict[UUID, set[int]]:
    """Return for each shared connection among these events which of the listening users see it."""
    shared = {event.connection_id for event in events if event.user_id is None}
    found: dict[UUID, set[int]] = {pk: set() for pk in shared}
    if shared:
        for user in User.objects.filter(pk__in=listening, is_active=True):
            for pk in _shared_with(user, shared):
                found[pk].add(user.pk)
    return found
