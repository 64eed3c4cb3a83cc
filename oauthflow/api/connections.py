"""Connections over REST: list, make, look, refresh, give up; release a token; report a challenge."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, ClassVar, Final

from django.db import DatabaseError
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from audit.append import Entry
from audit.deferred import append_or_defer
from audit.events import AuditEvent
from audit.record import entry
from connections.authentication import acting_client
from connections.database_time import by_database
from connections.models import Connection
from connections.models.api_token import ApiScope
from connections.services import connection_for, delete_connection, keep_subject_token
from oauthflow.error_responses import RETRY_AFTER_SECONDS
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.connect_unattended import connect_unattended
from oauthflow.flows.prove_request import prove_request
from oauthflow.flows.refresh import refresh_connection
from oauthflow.flows.report_challenge import report_challenge
from oauthflow.flows.revoke import revoke_connection
from oauthflow.protocol.errors import AuthorizationRequiredError, InvalidRequestError
from oauthflow.protocol.grant_types import GrantType
from oauthflow.protocol.retry_after import ServerUnavailableError
from oauthflow.protocol.secret import Secret
from oauthflow.serializers import (
    ChallengeAnswerSerializer,
    ChallengeSerializer,
    ConnectionListSerializer,
    ConnectionSerializer,
    ConnectionStatusSerializer,
    NewConnectionSerializer,
    NothingSerializer,
    ProofSerializer,
    ReasonSerializer,
    ReleasedTokenSerializer,
    RequestToProveSerializer,
)
from oauthflow.status import connection_status

from .answers import NEEDS_PERSON, REFUSALS
from .rest_view import RestView, connectable_server, managed_connection, said, usable_connection, visible_connection
from .way_on import authorization_required

_READ: Final = ApiScope.CONNECTIONS_READ
_WRITE: Final = ApiScope.CONNECTIONS_WRITE


class ConnectionsView(RestView):
    """The caller's own connections, and those shared with them."""

    required_scopes: ClassVar = {"GET": _READ, "POST": _WRITE}

    @extend_schema(
        operation_id="connections_list", summary="List connections",
        responses={200: ConnectionListSerializer, **REFUSALS},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        found = Connection.objects.visible_to(self.person).select_related("tokens")
        return Response({"results": ConnectionSerializer(found, many=True).data})

    @extend_schema(
        operation_id="connections_create", summary="Make a connection to a server, or find the one there is",
        description="Where no person has to sign in, the connection is active when this answers.",
        request=NewConnectionSerializer,
        responses={200: ConnectionSerializer, 201: ConnectionSerializer, **REFUSALS, **NEEDS_PERSON},
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        now = timezone.now()
        wanted = said(NewConnectionSerializer, request)
        server = connectable_server(self.person, wanted["server"])
        if "subject_token" in wanted and server.grant_type != GrantType.TOKEN_EXCHANGE:
            raise InvalidRequestError("a subject token is of use for enterprise-managed access only")
        connection = connection_for(self.person, server, label=wanted["label"], actor=self.person)
        is_new = connection.created_at >= now
        if server.is_unattended and (connection.status != Connection.Status.ACTIVE or "subject_token" in wanted):
            try:
                self._obtain(connection, wanted, now=now)
            except AuthorizationRequiredError as error:
                return authorization_required(error, connection=connection, user=self.person, now=now)
        return Response(ConnectionSerializer(connection).data, status=201 if is_new else 200)

    def _obtain(self, connection: Connection, wanted: dict[str, Any], *, now: datetime) -> None:
        if "subject_token" in wanted:
            keep_subject_token(connection, Secret(wanted["subject_token"]), kind=wanted["subject_token_type"])
        connect_unattended(connection, actor=self.person, now=now)


class ConnectionView(RestView):
    """One connection."""

    required_scopes: ClassVar = {"GET": _READ, "DELETE": _WRITE}

    @extend_schema(
        operation_id="connections_read", summary="Show a connection", responses={200: ConnectionSerializer, **REFUSALS}
    )
    def get(self, request: Request, connection_id: str) -> Response:
        return Response(ConnectionSerializer(visible_connection(self.person, connection_id)).data)

    @extend_schema(
        operation_id="connections_delete", summary="Revoke the grant and remove the connection",
        responses={204: None, **REFUSALS},
    )  # fmt: skip
    def delete(self, request: Request, connection_id: str) -> Response:
        connection = managed_connection(self.person, connection_id)
        revoke_connection(connection, actor=self.person, reason="deleted", now=timezone.now())
        delete_connection(connection)
        return Response(status=204)


class ConnectionStatusView(RestView):
    """How one connection stands."""

    required_scopes: ClassVar = {"GET": _READ}

    @extend_schema(
        operation_id="connections_status", summary="Say how a connection stands",
        responses={200: ConnectionStatusSerializer, **REFUSALS},
    )  # fmt: skip
    def get(self, request: Request, connection_id: str) -> Response:
        connection = visible_connection(self.person, connection_id)
        found = connection_status(connection, now=timezone.now())
        return Response(ConnectionStatusSerializer(asdict(found)).data)


class TokenView(RestView):
    """The one operation that hands out a token. Z02."""

    required_scopes: ClassVar = {"POST": ApiScope.TOKENS_RELEASE}

    @extend_schema(
        operation_id="connections_token", summary="Release a usable access token, refreshed first if need be",
        request=NothingSerializer, responses={200: ReleasedTokenSerializer, **REFUSALS, **NEEDS_PERSON},
    )  # fmt: skip
    def post(self, request: Request, connection_id: str) -> Response:
        said(NothingSerializer, request)
        now = timezone.now()
        connection = usable_connection(self.person, connection_id)
        try:
            token = usable_access_token(connection, now=now)
        except AuthorizationRequiredError as error:
            return authorization_required(error, connection=connection, user=self.person, now=now)
        release = entry(
            AuditEvent.TOKEN_RELEASED,
            actor=self.person,
            server=connection.server.slug,
            connection=connection,
            client=acting_client(request),
            details={"scope": token.scope, "expires_at": token.expires_at},
        )
        _keep_record(release)
        released: dict[str, Any] = {
            "access_token": token.access_token.reveal(),
            "token_type": token.token_type,
            "expires_at": token.expires_at,
            "scope": token.scope,
            "resource": token.resource,
        }
        return Response(ReleasedTokenSerializer(released).data)


def _keep_record(release: Entry) -> None:
    """Record first, then answer; a record that has to wait for the database is safe in a file.

    Raises:
        ServerUnavailableError: It can be kept nowhere, and so nothing is released.
    """
    try:
        append_or_defer([release])
    except DatabaseError as error:
        raise ServerUnavailableError("the release cannot be recorded", retry_after=RETRY_AFTER_SECONDS) from error


class ProofView(RestView):
    """A proof for a request with a released token that is bound to a key. RFC 9449 §7."""

    required_scopes: ClassVar = {"POST": ApiScope.TOKENS_RELEASE}

    @extend_schema(
        operation_id="connections_proof", summary="Prove one request to the server with a token of type DPoP",
        request=RequestToProveSerializer, responses={200: ProofSerializer, **REFUSALS, **NEEDS_PERSON},
    )  # fmt: skip
    def post(self, request: Request, connection_id: str) -> Response:
        asked = said(RequestToProveSerializer, request)
        now = timezone.now()
        connection = usable_connection(self.person, connection_id)
        try:
            return Response({"proof": prove_request(connection, now=now, **asked)})
        except AuthorizationRequiredError as error:
            return authorization_required(error, connection=connection, user=self.person, now=now)


class RefreshView(RestView):
    """Refresh at once, whether or not it is due."""

    required_scopes: ClassVar = {"POST": _WRITE}

    @extend_schema(
        operation_id="connections_refresh", summary="Refresh the access token now",
        request=NothingSerializer, responses={200: ConnectionSerializer, **REFUSALS, **NEEDS_PERSON},
    )  # fmt: skip
    def post(self, request: Request, connection_id: str) -> Response:
        said(NothingSerializer, request)
        now = timezone.now()
        connection = usable_connection(self.person, connection_id)
        try:
            refresh_connection(connection, now=by_database(now), actor=self.person, trigger="request")
        except AuthorizationRequiredError as error:
            return authorization_required(error, connection=connection, user=self.person, now=now)
        return Response(ConnectionSerializer(visible_connection(self.person, connection_id)).data)


class RevokeView(RestView):
    """Give up the grant and keep the connection."""

    required_scopes: ClassVar = {"POST": _WRITE}

    @extend_schema(
        operation_id="connections_revoke", summary="Revoke the grant upstream and forget its tokens",
        request=ReasonSerializer, responses={200: ConnectionSerializer, **REFUSALS},
    )  # fmt: skip
    def post(self, request: Request, connection_id: str) -> Response:
        reason = said(ReasonSerializer, request)["reason"]
        connection = managed_connection(self.person, connection_id)
        revoke_connection(connection, actor=self.person, reason=reason, now=timezone.now())
        return Response(ConnectionSerializer(visible_connection(self.person, connection_id)).data)


class ChallengeView(RestView):
    """A client with a released token tells what the MCP server answered."""

    required_scopes: ClassVar = {"POST": _WRITE}

    @extend_schema(
        operation_id="connections_challenge", summary="Report an upstream 401 or 403",
        request=ChallengeSerializer, responses={200: ChallengeAnswerSerializer, **REFUSALS},
    )  # fmt: skip
    def post(self, request: Request, connection_id: str) -> Response:
        met = said(ChallengeSerializer, request)
        answer = report_challenge(
            usable_connection(self.person, connection_id),
            user=self.person,
            status=met["status"],
            www_authenticate=met["www_authenticate"],
            now=timezone.now(),
        )
        body: dict[str, Any] = {"action": answer.action}
        if answer.started is not None:
            body["authorization_url"] = answer.started.authorization_url
            body["state"] = answer.started.state.reveal()
            body["expires_at"] = answer.started.expires_at
        return Response(body)
