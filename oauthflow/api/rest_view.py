"""What all REST views of the flow have in common: who asks, what is theirs, and answers that nobody keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast
from uuid import UUID

from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from connections.json_body import JsonBodyParser
from connections.models import Connection, McpServer
from connections.models.api_token import ApiScope
from connections.permissions import HasScopes
from connections.services import may_connect
from oauthflow.error_responses import NO_STORE

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class RestView(APIView):
    """Needs a person and, for each method, the scope that `required_scopes` names."""

    parser_classes = (JsonBodyParser,)
    permission_classes = (IsAuthenticated, HasScopes)
    required_scopes: ClassVar[Mapping[str, ApiScope]] = {}

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        finished = super().finalize_response(request, response, *args, **kwargs)
        for name, value in NO_STORE.items():
            finished.headers[name] = value
        return finished

    @property
    def person(self) -> User:
        """Who asks, or whose token asks."""
        return cast("User", self.request.user)


def said(shape: type[BaseSerializer[Any]], request: Request) -> dict[str, Any]:
    """Return the body of a request if it has that shape; an invalid body is answered by 400."""
    serializer = shape(data=request.data)
    serializer.is_valid(raise_exception=True)
    return cast("dict[str, Any]", serializer.validated_data)


def visible_connection(user: User, connection_id: UUID | str) -> Connection:
    """Return a connection that is the user's or shared with them.

    Raises:
        NotFound: There is none of that id, or it is somebody else's: one answer for both. Z01.
    """
    found = Connection.objects.visible_to(user).filter(pk=_uuid(connection_id)).first()
    if found is None:
        raise NotFound
    return found


def usable_connection(user: User, connection_id: UUID | str) -> Connection:
    """Return a visible connection of a server that is in use and that the user may use at this moment.

    Raises:
        NotFound: As `visible_connection`.
        PermissionDenied: The server was closed to the user since they connected; they can still disconnect.
    """
    connection = visible_connection(user, connection_id)
    if not Connection.objects.usable_by(user).filter(pk=connection.pk).exists():
        raise PermissionDenied("This server is not open to you any more.")
    return connection


def managed_connection(user: User, connection_id: UUID | str) -> Connection:
    """Return a visible connection whose grant the user may change or end.

    Raises:
        NotFound: As `visible_connection`.
        PermissionDenied: It is shared and the user does not manage shared connections.
    """
    connection = visible_connection(user, connection_id)
    if connection.is_shared and not user.has_perm("connections.manage_shared_connection"):
        raise PermissionDenied("This connection is shared and managed by administrators.")
    return connection


def usable_server(user: User, slug: str) -> McpServer:
    """Return a server that the user may use.

    Raises:
        NotFound: There is none of that name that is open to them.
    """
    found = McpServer.objects.usable_by(user).filter(slug=slug).first()
    if found is None:
        raise NotFound
    return found


def connectable_server(user: User, slug: str) -> McpServer:
    """Return a server that the user may use and may connect.

    Raises:
        NotFound: There is none of that name that is open to them.
        PermissionDenied: Its one connection is an administrator's to make.
    """
    server = usable_server(user, slug)
    if not may_connect(user, server):
        raise PermissionDenied("Everybody shares one connection to this server; an administrator makes it.")
    return server


def _uuid(text: UUID | str) -> UUID:
    try:
        return text if isinstance(text, UUID) else UUID(text)
    except ValueError as error:
        raise NotFound from error
