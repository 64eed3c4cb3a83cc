"""The link by which a person gets on: to our own site, where they sign in first. It blocks, so it belongs into threads.

Its id says nothing, it signs nobody in, and who it was not made for gets 403. E-03 to E-07; A6 G12, S02.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.contrib.auth.models import User
from django.utils import timezone

from connections.models import Connection, McpServer
from connections.services import connection_for, may_connect
from oauthflow.flows.report_challenge import is_asked_in_vain
from oauthflow.flows.start_authorization import waiting_authorization
from oauthflow.protocol.bearer import BearerChallenge
from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.scopes import format_scope

from .reasons import NeedsPersonError, Reason, needs_person

_SHARED: Final = "everybody uses one connection to it, which an administrator has to connect."
_IN_VAIN: Final = "it asks for permissions that were given a moment ago. An administrator has to look."
_UNATTENDED: Final = "nobody can sign in to it. An administrator has to look at its settings."


@dataclass(frozen=True, slots=True)
class Link:
    """Where to send the person, and a name for it that says nothing."""

    url: str
    id: str


def link_for(needed: NeedsPersonError, *, user_id: int) -> Link:
    """Return the sign-in that already waits for this person, or start one; for a step-up with all scopes together.

    Raises:
        NeedsPersonError: This person cannot help; it says who can, or when to try again.

    Spec: S-08, S-09.
    """
    user, now = User.objects.get(pk=user_id), timezone.now()
    try:
        connection = _manageable(needed, user=user)
        challenge = None
        if needed.reason == Reason.STEP_UP:
            challenge = BearerChallenge(error="insufficient_scope", scope=format_scope(needed.scopes))
            if is_asked_in_vain(connection, challenge, now=now):
                raise needed.left_to_administrators(_IN_VAIN)
        # What worked before and does not now may have moved: what is known of the server is looked up again. D-15.
        has_worked = needed.reason is not Reason.CONNECT
        started = waiting_authorization(connection, user=user, now=now, challenge=challenge, fresh=has_worked)
    except FlowError as error:
        raise needs_person(error, server=needed.server, connection_id=needed.connection_id) from error
    return Link(started.authorization_url, started.request.pk.hex)


def _manageable(needed: NeedsPersonError, *, user: User) -> Connection:
    """Return the connection to be connected: the one that was chosen, or their own where that is an administrator's."""
    if needed.connection_id is not None:
        chosen = Connection.objects.select_related("server").get(pk=needed.connection_id)
        server, is_theirs = chosen.server, not chosen.is_shared or user.has_perm("connections.manage_shared_connection")
    else:
        chosen, server, is_theirs = None, McpServer.objects.get(pk=needed.server.id), False
    if not server.has_sign_in:
        raise needed.left_to_administrators(_UNATTENDED)
    if chosen is not None and is_theirs:
        return chosen
    if not may_connect(user, server):
        raise needed.left_to_administrators(_SHARED)
    return connection_for(user, server, label=needed.label, actor=user)
