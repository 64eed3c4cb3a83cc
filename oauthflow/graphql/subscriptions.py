"""Subscriptions: the same events and the same rights as everywhere. Public contract, section 5."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import graphene
from graphql import GraphQLResolveInfo

from oauthflow.event_body import authorization_url
from oauthflow.models import AuthorizationRequest, Event, EventType
from oauthflow.streams.stream import Stream, StreamEndedError

from .access import visible_connection
from .queries import flow_status, own_request
from .types import MCPOAuthStatusResult

if TYPE_CHECKING:
    from django.contrib.auth.models import User

# Attempts also end without an event of their own: they run out, or are ended by a callback from the wrong browser.
_LOOK_SECONDS: Final = 5.0


class MCPOAuthEventType(graphene.Enum):
    """What can happen to a connection."""

    AUTHORIZATION_REQUIRED = EventType.AUTHORIZATION_REQUIRED.value
    AUTHORIZATION_COMPLETED = EventType.AUTHORIZATION_COMPLETED.value
    AUTHORIZATION_FAILED = EventType.AUTHORIZATION_FAILED.value
    TOKEN_REFRESHED = EventType.TOKEN_REFRESHED.value
    TOKEN_EXPIRING_SOON = EventType.TOKEN_EXPIRING_SOON.value
    TOKEN_REFRESH_FAILED = EventType.TOKEN_REFRESH_FAILED.value
    REAUTHORIZATION_REQUIRED = EventType.REAUTHORIZATION_REQUIRED.value
    CREDENTIALS_REVOKED = EventType.CREDENTIALS_REVOKED.value
    CLIENT_SECRET_EXPIRING = EventType.CLIENT_SECRET_EXPIRING.value
    ISSUER_CHANGED = EventType.ISSUER_CHANGED.value


@dataclass(frozen=True, slots=True)
class Listening:
    """The context of a subscription: whose it is, and where the events come from. No resolver waits for a database."""

    user: User
    stream: Stream


class MCPOAuthEvent(graphene.ObjectType):
    """What happened to a connection."""

    event_type = graphene.Field(MCPOAuthEventType, required=True)
    connection_id = graphene.ID(required=True)
    timestamp = graphene.DateTime(required=True)
    message = graphene.String(required=True)
    requires_user_action = graphene.Boolean(required=True)
    authorization_url = graphene.String()

    @staticmethod
    def resolve_timestamp(event: Event, info: GraphQLResolveInfo) -> datetime:
        return event.created_at

    @staticmethod
    def resolve_authorization_url(event: Event, info: GraphQLResolveInfo) -> str | None:
        return authorization_url(event)


class Subscription(graphene.ObjectType):
    """What can be listened to."""

    on_mcp_oauth_completed = graphene.Field(
        MCPOAuthStatusResult, name="onMCPOAuthCompleted", state_parameter=graphene.String(required=True)
    )
    on_mcp_oauth_event = graphene.Field(MCPOAuthEvent, name="onMCPOAuthEvent", connection_id=graphene.ID())

    @staticmethod
    async def subscribe_on_mcp_oauth_event(
        root: object, info: GraphQLResolveInfo, connection_id: str | None = None
    ) -> AsyncGenerator[Event, None]:
        listening: Listening = info.context
        stream = listening.stream
        if connection_id is not None:
            stream.connection_id = (await stream.ask(visible_connection, listening.user, connection_id)).pk
        return stream.events()

    @staticmethod
    async def subscribe_on_mcp_oauth_completed(
        root: object, info: GraphQLResolveInfo, state_parameter: str
    ) -> AsyncGenerator[dict[str, Any], None]:
        listening: Listening = info.context
        request = await listening.stream.ask(own_request, state_parameter, user=listening.user)
        if request is not None:
            listening.stream.connection_id = request.connection_id
        return _outcome(listening, state_parameter)


async def _outcome(listening: Listening, state: str) -> AsyncGenerator[dict[str, Any], None]:
    """Give one result, when there is one."""
    while True:
        status = await listening.stream.ask(flow_status, state, user=listening.user)
        if status.get("status") != AuthorizationRequest.Status.PENDING:
            yield status
            return
        if not await _something_happens(listening.stream):
            return


async def _something_happens(stream: Stream) -> bool:
    """Wait for an event or for a while; say whether the stream is still open."""
    try:
        await stream.event(seconds=_LOOK_SECONDS)
    except StreamEndedError:
        return False
    return True
