"""What GraphQL shows, field by field: there is none for a token, a code or a secret. L06."""

from __future__ import annotations

from typing import Any, Final

import graphene
from graphene_django import DjangoConnectionField, DjangoObjectType
from graphql import GraphQLResolveInfo, ValueNode, value_from_ast_untyped

from audit.models import AuditRecord, AuditRecordQuerySet
from connections.models import Connection, McpServer
from connections.models.connection import ConnectionQuerySet
from connections.models.mcp_server import McpServerQuerySet

from .access import RefusedError, person
from .limits import DEFAULT_PAGE, MAX_PAGE

_FLAG: Final = {"required": True}


class JSON(graphene.Scalar):
    """Any JSON value."""

    @staticmethod
    def serialize(value: object) -> object:
        return value

    @staticmethod
    def parse_value(value: object) -> object:
        return value

    @staticmethod
    def parse_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> object:
        return value_from_ast_untyped(node, variables)


class Page(DjangoConnectionField):
    """A Relay connection: 20 edges unless told, at most 100."""

    def __init__(self, shape: type[DjangoObjectType], **settings: Any) -> None:
        super().__init__(shape, max_limit=None, enforce_first_or_last=False, **settings)
        # It would count beside the cursors.
        del self.args["offset"]

    @classmethod
    def resolve_connection(
        cls, connection: Any, args: dict[str, Any], iterable: Any, max_limit: int | None = None
    ) -> Any:
        for name in ("first", "last"):
            if args.get(name) is not None and not 0 <= args[name] <= MAX_PAGE:
                raise RefusedError("invalid_request", f"{name} is a number from 0 to {MAX_PAGE}.")
        if args.get("first") is None and args.get("last") is None:
            args["first"] = DEFAULT_PAGE
        return super().resolve_connection(connection, args, iterable, max_limit)


class MCPServer(DjangoObjectType):
    """A server that the caller may use."""

    id = graphene.ID(required=True)

    class Meta:
        model = McpServer
        name = "MCPServer"
        fields = (
            "id", "name", "slug", "description", "url", "transport", "auth_type", "grant_type", "issuer",
            "scopes", "connection_policy", "gateway_enabled", "status", "documentation_url",
        )  # fmt: skip
        convert_choices_to_enum = False
        use_connection = True

    @classmethod
    def get_queryset(cls, queryset: McpServerQuerySet, info: GraphQLResolveInfo) -> McpServerQuerySet:
        user = person(info)
        everything = McpServer.objects.all() if user.has_perm("connections.view_mcpserver") else None
        return everything if everything is not None else McpServer.objects.usable_by(user)


class MCPConnection(DjangoObjectType):
    """A connection of the caller, or shared with them."""

    id = graphene.ID(required=True)
    server = graphene.String(required=True, description="Slug.")
    user = graphene.String(description="User name; null for a shared connection.")
    token_expires_at = graphene.DateTime()

    class Meta:
        model = Connection
        name = "MCPConnection"
        fields = (
            "id", "label", "status", "reason", "requested_scopes", "granted_scopes", "last_refreshed_at",
            "last_used_at", "issuer", "registration_method",
        )  # fmt: skip
        convert_choices_to_enum = False
        use_connection = True

    @classmethod
    def get_queryset(cls, queryset: ConnectionQuerySet, info: GraphQLResolveInfo) -> ConnectionQuerySet:
        return queryset.visible_to(person(info)).select_related("tokens")

    @staticmethod
    def resolve_server(connection: Connection, info: GraphQLResolveInfo) -> str:
        return connection.server.slug

    @staticmethod
    def resolve_user(connection: Connection, info: GraphQLResolveInfo) -> str | None:
        return connection.user.username if connection.user else None

    @staticmethod
    def resolve_token_expires_at(connection: Connection, info: GraphQLResolveInfo) -> object:
        tokens = getattr(connection, "tokens", None)
        return tokens.expires_at if tokens else None


class MCPAuditEvent(DjangoObjectType):
    """An audit record; the codes of its chain are for the verifier only."""

    id = graphene.ID(required=True, description="Its number in the record.")
    details = JSON(required=True)

    class Meta:
        model = AuditRecord
        name = "MCPAuditEvent"
        fields = ("at", "event", "actor", "server", "connection", "client", "reason", "correlation_id")
        convert_choices_to_enum = False
        use_connection = True

    @classmethod
    def get_queryset(cls, queryset: AuditRecordQuerySet, info: GraphQLResolveInfo) -> AuditRecordQuerySet:
        user = person(info)
        return queryset if user.has_perm("audit.view_auditrecord") else queryset.filter(actor=str(user.pk))


class MCPOAuthConnectionStatus(graphene.ObjectType):
    """How a connection stands."""

    connection_id = graphene.ID(required=True)
    is_oauth_enabled = graphene.Boolean(**_FLAG, name="isOAuthEnabled")
    has_valid_tokens = graphene.Boolean(**_FLAG)
    is_access_token_expired = graphene.Boolean(**_FLAG)
    token_expires_at = graphene.DateTime()
    has_refresh_token = graphene.Boolean(**_FLAG)
    requires_reauthorization = graphene.Boolean(**_FLAG)
    reauthorization_reason = graphene.String()
    issuer_url = graphene.String()
    granted_scopes = graphene.String()


class MCPOAuthFlowStatus(graphene.Enum):
    """Where an authorization stands."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"


class MCPOAuthStatusResult(graphene.ObjectType):
    """How an authorization stands, for its owner."""

    success = graphene.Boolean(required=True, description="Whether there is such an authorization.")
    error_message = graphene.String()
    status = MCPOAuthFlowStatus()
    connection_id = graphene.ID()
    initiated_at = graphene.DateTime()
    completed_at = graphene.DateTime()
    auth_error_code = graphene.String()
    auth_error_description = graphene.String()
    is_retryable = graphene.Boolean()
