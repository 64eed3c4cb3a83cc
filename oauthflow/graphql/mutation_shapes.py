"""What mutations take and answer."""

from __future__ import annotations

import graphene

from .types import JSON


class ConnectionInput(graphene.InputObjectType):
    """Which connection."""

    connection_id = graphene.ID(required=True)


class InitiateMCPOAuthInput(ConnectionInput):
    """Which connection to authorize, and how."""

    additional_scopes = graphene.String(description="Space separated, asked for as well.")
    return_to = graphene.String(description="Path on this site to go to afterwards.")


class RevokeMCPOAuthInput(ConnectionInput):
    """Which connection to give up, and why."""

    reason = graphene.String()


class RefreshMCPOAuthTokenInput(ConnectionInput):
    """Which connection to refresh."""


class SyncMCPToolsInput(ConnectionInput):
    """Whose tools to list."""


class ExecuteMCPToolInput(ConnectionInput):
    """Which tool to call, with what."""

    tool_name = graphene.String(required=True)
    input_args = JSON(description="An object.")


class _Outcome(graphene.ObjectType):
    """How it went; the codes and their meaning are those of REST."""

    success = graphene.Boolean(required=True)
    error_message = graphene.String(description="One sentence for a person.")
    error_code = graphene.String(description="A stable code.")
    is_retryable = graphene.Boolean(description="Whether the same call may succeed later.")
    correlation_id = graphene.String(description="Finds the log lines and audit records of this call.")


class _PersonNeeded(_Outcome):
    """How it went, with the way on where a person has to sign in first."""

    requires_oauth = graphene.Boolean(name="requiresOAuth")
    authorization_url = graphene.String()
    state_parameter = graphene.String()
    requires_reauthorization = graphene.Boolean()
    reauthorization_reason = graphene.String()


class InitiateMCPOAuthResult(_Outcome):
    """An authorization that waits for a person."""

    authorization_url = graphene.String()
    state_parameter = graphene.String()
    expires_at = graphene.DateTime()
    used_dynamic_registration = graphene.Boolean()


class RevokeMCPOAuthResult(_Outcome):
    """A connection without tokens."""

    connection_id = graphene.ID()


class RefreshMCPOAuthTokenResult(_Outcome):
    """When the new token ends."""

    expires_at = graphene.DateTime()
    requires_reauthorization = graphene.Boolean()


class SyncMCPToolsResult(_PersonNeeded):
    """The tools as the server lists them."""

    tool_count = graphene.Int()
    result = JSON()


class ExecuteMCPToolResult(_PersonNeeded):
    """The result as MCP has it: content, isError, structuredContent."""

    result = JSON()
