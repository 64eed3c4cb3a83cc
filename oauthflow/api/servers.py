"""What REST does with a server over the network; its configuration is in `connections`."""

from __future__ import annotations

from typing import ClassVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from connections.models import McpServer
from connections.models.api_token import ApiScope
from oauthflow.flows.check_server import check_server
from oauthflow.serializers import FlowTraceSerializer, NothingSerializer

from .answers import REFUSALS
from .rest_view import RestView, said, usable_server


class ServerCheckView(RestView):
    """Discover now, and say what was found on the way."""

    required_scopes: ClassVar = {"POST": ApiScope.SERVERS_WRITE}

    @extend_schema(
        operation_id="servers_check", summary="Check a server: discover it now",
        request=NothingSerializer, responses={200: FlowTraceSerializer, **REFUSALS},
    )  # fmt: skip
    def post(self, request: Request, slug: str) -> Response:
        said(NothingSerializer, request)
        trace = check_server(self._server(slug), user=self.person, now=timezone.now())
        return Response(FlowTraceSerializer(trace).data)

    def _server(self, slug: str) -> McpServer:
        if not self.person.has_perm("connections.change_mcpserver"):
            usable_server(self.person, slug)
            raise PermissionDenied("Checking a server takes the permission to change servers.")
        found = McpServer.objects.filter(slug=slug).first()
        if found is None:
            raise NotFound
        return found
