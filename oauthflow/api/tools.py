"""Tools of a connected MCP server over REST."""

from __future__ import annotations

from typing import ClassVar

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from connections.models.api_token import ApiScope
from oauthflow.flows.call_tools import call_tool, list_tools
from oauthflow.protocol.errors import AuthorizationRequiredError
from oauthflow.serializers import ToolCallSerializer, ToolListSerializer

from .answers import NEEDS_PERSON, REFUSALS
from .rest_view import RestView, said, usable_connection
from .way_on import authorization_required


class ToolsView(RestView):
    """What the server offers."""

    required_scopes: ClassVar = {"GET": ApiScope.TOOLS_CALL}

    @extend_schema(
        operation_id="connections_tools", summary="List the tools of the server",
        responses={200: ToolListSerializer, **REFUSALS, **NEEDS_PERSON},
    )  # fmt: skip
    def get(self, request: Request, connection_id: str) -> Response:
        now = timezone.now()
        connection = usable_connection(self.person, connection_id)
        try:
            return Response({"tools": list_tools(connection, now=now)})
        except AuthorizationRequiredError as error:
            return authorization_required(error, connection=connection, user=self.person, now=now)


class ToolCallView(RestView):
    """One call of one tool."""

    required_scopes: ClassVar = {"POST": ApiScope.TOOLS_CALL}

    @extend_schema(
        operation_id="connections_tools_call", summary="Call a tool",
        request=ToolCallSerializer, responses={200: OpenApiTypes.OBJECT, **REFUSALS, **NEEDS_PERSON},
    )  # fmt: skip
    def post(self, request: Request, connection_id: str, name: str) -> Response:
        arguments = said(ToolCallSerializer, request)["arguments"]
        now = timezone.now()
        connection = usable_connection(self.person, connection_id)
        try:
            return Response(call_tool(connection, name=name, arguments=arguments, now=now))
        except AuthorizationRequiredError as error:
            return authorization_required(error, connection=connection, user=self.person, now=now)
