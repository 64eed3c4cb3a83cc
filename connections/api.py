"""REST: the configuration of servers."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import User
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import generics, serializers
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from audit.error_body import ERROR, REFUSED

from .authentication import acting_client
from .formats.entry import UnreadableFileError
from .formats.export import ExportFormat, export_servers
from .formats.imports import import_servers
from .json_body import JsonBodyParser
from .models import McpServer
from .models.api_token import ApiScope
from .models.mcp_server import McpServerQuerySet
from .permissions import HasScopes, MayEditServers
from .refusals import ConfirmationMissingError, refuse_unknown
from .serializers import ServerSerializer, ServerSummarySerializer, set_fields
from .server_changes import Access, change_server, create_server, delete_server
from .server_impact import ConfirmationRequiredError

_CONFIRM = OpenApiParameter(
    "confirm", str, description="The server's slug: goes on although connections are affected (409 otherwise)."
)


class NumberedPages(PageNumberPagination):
    """Fifty to a page, `page` and `page_size` choose; at most 200."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200


class _ServerView(generics.GenericAPIView[McpServer]):
    """What all views of servers share: who sees which servers, and how much of them."""

    parser_classes = (JsonBodyParser,)
    permission_classes = (IsAuthenticated, HasScopes, MayEditServers)
    required_scopes: ClassVar[dict[str, ApiScope]] = {
        "GET": ApiScope.SERVERS_READ,
        "POST": ApiScope.SERVERS_WRITE,
        "PATCH": ApiScope.SERVERS_WRITE,
        "DELETE": ApiScope.SERVERS_WRITE,
    }
    serializer_class: type[serializers.BaseSerializer[Any]] = ServerSerializer
    queryset = McpServer.objects.all()
    lookup_field = "slug"
    lookup_url_kwarg = "slug"

    @property
    def person(self) -> User:
        """Who acts; permissions have let nobody else in."""
        if not isinstance(self.request.user, User):
            raise NotAuthenticated
        return self.request.user

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        finished = super().finalize_response(request, response, *args, **kwargs)
        finished.headers["Cache-Control"] = "no-store"
        return finished

    def get_queryset(self) -> McpServerQuerySet:
        everything = McpServer.objects.prefetch_related("users", "groups")
        user = self.request.user
        return everything if user.has_perm("connections.view_mcpserver") else everything.usable_by(user)

    def get_serializer_class(self) -> type[serializers.BaseSerializer[McpServer]]:
        if getattr(self, "swagger_fake_view", False):
            return ServerSerializer
        sees_all = self.request.user.has_perm("connections.view_mcpserver")
        return ServerSerializer if sees_all or self.request.method != "GET" else ServerSummarySerializer


@extend_schema_view(get=extend_schema(responses={200: ServerSerializer(many=True), **REFUSED}))
class ServersView(_ServerView, generics.ListAPIView[McpServer]):
    """List the servers that are open to you; who may see their configuration gets all servers with all fields."""

    pagination_class = NumberedPages
    filterset_fields = ("status", "auth_type")

    @extend_schema(request=ServerSerializer, responses={201: ServerSerializer, **REFUSED})
    def post(self, request: Request) -> Response:
        """Configure a new server; the network is not touched."""
        read = ServerSerializer(data=request.data)
        read.is_valid(raise_exception=True)
        server = McpServer()
        set_fields(server, read.validated_data)
        create_server(
            server,
            actor=self.person,
            access=Access(read.validated_data.get("users"), read.validated_data.get("groups")),
            client=acting_client(request),
        )
        return Response(ServerSerializer(server).data, status=201)


@extend_schema_view(get=extend_schema(responses={200: ServerSerializer, **REFUSED}))
class ServerView(_ServerView, generics.RetrieveAPIView[McpServer]):
    """Show a server: its whole configuration to those who may see it, a summary to everybody else who may use it."""

    @extend_schema(
        request=ServerSerializer(partial=True), parameters=[_CONFIRM],
        responses={200: ServerSerializer, 409: ERROR, **REFUSED},
    )  # fmt: skip
    def patch(self, request: Request, slug: str) -> Response:
        """Change the named fields; a new target of a connected server has to be confirmed."""
        server = self.get_object()
        read = ServerSerializer(server, data=request.data, partial=True)
        read.is_valid(raise_exception=True)
        set_fields(server, read.validated_data)
        try:
            change_server(
                server,
                actor=self.person,
                now=timezone.now(),
                access=Access(read.validated_data.get("users"), read.validated_data.get("groups")),
                client=acting_client(request),
                confirmed=request.query_params.get("confirm") == slug,
            )
        except ConfirmationRequiredError as error:
            raise ConfirmationMissingError(error.impact, slug=slug) from error
        return Response(ServerSerializer(server).data)

    @extend_schema(parameters=[_CONFIRM], responses={204: None, 409: ERROR, **REFUSED})
    def delete(self, request: Request, slug: str) -> Response:
        """Delete the server with its connections."""
        server = self.get_object()
        try:
            confirmed = request.query_params.get("confirm") == slug
            delete_server(server, actor=self.person, client=acting_client(request), confirmed=confirmed)
        except ConfirmationRequiredError as error:
            raise ConfirmationMissingError(error.impact, slug=slug) from error
        return Response(status=204)


class ImportOrderSerializer(serializers.Serializer[Any]):
    """A file of servers, as text or as the JSON object itself."""

    document = serializers.JSONField(help_text="The file's text, or its content as JSON.")
    update_existing = serializers.BooleanField(default=False, help_text="Change servers that exist already.")
    dry_run = serializers.BooleanField(default=False, help_text="Say what would happen and write nothing.")

    def to_internal_value(self, data: Any) -> Any:
        refuse_unknown(data, known=self.fields)
        return super().to_internal_value(data)


class ImportRemarkSerializer(serializers.Serializer[Any]):
    """One entry and what there is to say about it."""

    name = serializers.CharField()
    reason = serializers.CharField()


class ImportResultSerializer(serializers.Serializer[Any]):
    """What became of each entry."""

    format = serializers.CharField()
    dry_run = serializers.BooleanField()
    created = serializers.ListField(child=serializers.CharField())
    updated = serializers.ListField(child=serializers.CharField())
    skipped = ImportRemarkSerializer(many=True)
    problems = ImportRemarkSerializer(many=True)
    notes = ImportRemarkSerializer(many=True)


class ImportServersView(_ServerView):
    """Take servers over from a file of an MCP client, a registry, or this site."""

    serializer_class = ImportOrderSerializer
    queryset = McpServer.objects.none()

    @extend_schema(request=ImportOrderSerializer, responses={200: ImportResultSerializer, **REFUSED})
    def post(self, request: Request) -> Response:
        """Import every entry that fits and report the others by name and reason."""
        order = ImportOrderSerializer(data=request.data)
        order.is_valid(raise_exception=True)
        said = order.validated_data
        try:
            result = import_servers(
                said["document"],
                actor=self.person,
                now=timezone.now(),
                client=acting_client(request),
                update=said["update_existing"],
                dry_run=said["dry_run"],
            )
        except UnreadableFileError as error:
            raise serializers.ValidationError({"document": [str(error)]}) from error
        return Response(ImportResultSerializer(result).data)


class _AnyForm(BaseContentNegotiation):
    """Leaves `format` and `Accept` alone: the view itself decides what it answers."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class ExportServersView(_ServerView):
    """Give the configuration out as a file; secrets are left out and marked."""

    content_negotiation_class = _AnyForm
    filter_backends = ()

    @extend_schema(
        parameters=[OpenApiParameter("format", str, enum=[kind.value for kind in ExportFormat])],
        responses={
            (200, "application/json"): OpenApiTypes.OBJECT, (200, "application/yaml"): OpenApiTypes.OBJECT, **REFUSED,
        },
    )  # fmt: skip
    def get(self, request: Request) -> HttpResponse:
        """Export the servers; takes the permission to see their configuration."""
        if not request.user.has_perm("connections.view_mcpserver"):
            raise PermissionDenied
        wanted = request.query_params.get("format", ExportFormat.YAML.value)
        if wanted not in set(ExportFormat):
            names = ", ".join(ExportFormat)
            raise serializers.ValidationError({"format": [f"Choose one of {names}."]})
        kind = ExportFormat(wanted)
        file = export_servers(self.get_queryset(), kind=kind)
        disposition = f'attachment; filename="{kind.file_name}"'
        return HttpResponse(
            file,
            content_type=kind.media_type,
            headers={"Content-Disposition": disposition},
        )
