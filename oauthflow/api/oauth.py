"""The flow itself over REST: start it, ask how it stands, finish it by hand."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from django.utils import timezone
from django.utils.crypto import constant_time_compare
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from connections.models import Connection
from connections.models.api_token import ApiScope
from connections.services import connection_for
from oauthflow.error_responses import rest_response
from oauthflow.flows.complete_authorization import complete_authorization, parse_pasted
from oauthflow.flows.decide_account import decide_account
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import IssuerMismatchError, StateError
from oauthflow.serializers import (
    AuthorizationStatusSerializer,
    CompleteSerializer,
    InitiateSerializer,
    StartedSerializer,
)
from oauthflow.status import authorization_status

from .answers import CONFLICT, REFUSALS
from .rest_view import RestView, connectable_server, managed_connection, said, usable_connection


class InitiateView(RestView):
    """Start an authorization."""

    required_scopes: ClassVar = {"POST": ApiScope.CONNECTIONS_WRITE}

    @extend_schema(
        operation_id="oauth_initiate", summary="Start an authorization and get the link for the person",
        request=InitiateSerializer, responses={200: StartedSerializer, **REFUSALS},
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        wanted = said(InitiateSerializer, request)
        started = start_authorization(
            self._connection(wanted),
            user=self.person,
            now=timezone.now(),
            additional_scopes=wanted["additional_scopes"],
            return_to=wanted["return_to"],
            manual=wanted["manual"],
        )
        answer = {
            "authorization_url": started.authorization_url,
            "state": started.state.reveal(),
            "expires_at": started.expires_at,
            "used_dynamic_registration": started.used_dynamic_registration,
            "registration_method": started.registration_method,
        }
        return Response(StartedSerializer(answer).data)

    def _connection(self, wanted: dict[str, Any]) -> Connection:
        if "server" in wanted:
            server = connectable_server(self.person, wanted["server"])
            return connection_for(self.person, server, actor=self.person)
        managed_connection(self.person, wanted["connection_id"])
        return usable_connection(self.person, wanted["connection_id"])


class AuthorizationStatusView(RestView):
    """How an authorization stands, for its owner."""

    required_scopes: ClassVar = {"GET": ApiScope.CONNECTIONS_READ}

    @extend_schema(
        operation_id="oauth_status", summary="Say how an authorization stands",
        responses={200: AuthorizationStatusSerializer, **REFUSALS},
    )  # fmt: skip
    def get(self, request: Request, state: str) -> Response:
        return Response(_status_body(self._own_request(state)))

    def _own_request(self, state: str) -> AuthorizationRequest:
        """Somebody else's state answers exactly as an unknown one. Z01, H-02."""
        try:
            found = AuthorizationRequest.objects.with_state(state)
        except StateError as error:
            raise NotFound from error
        if found.user_id != self.person.pk:
            raise NotFound
        return found


class CompleteView(RestView):
    """Finish a `manual` authorization with what the authorization server sent back.

    Where another account of the service came back than before, the answer is 409 `account_changed` and nothing is
    replaced; a second call with `confirm_account` decides.
    """

    required_scopes: ClassVar = {"POST": ApiScope.CONNECTIONS_WRITE}

    @extend_schema(
        operation_id="oauth_complete", summary="Hand in the code or the redirect address",
        request=CompleteSerializer, responses={200: AuthorizationStatusSerializer, **REFUSALS, **CONFLICT},
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        handed_in = said(CompleteSerializer, request)
        if "confirm_account" in handed_in:
            return Response(_status_body(self._decided(handed_in)))
        params = _answer_of(handed_in)
        try:
            finished = complete_authorization(params=params, user=self.person, cookies=None, now=timezone.now())
        except IssuerMismatchError as error:
            # The caller handed in the wrong answer; it is not the metadata that is wrong.
            return rest_response(error, status=400)
        return Response(_status_body(finished))

    def _decided(self, handed_in: dict[str, Any]) -> AuthorizationRequest:
        """What a browser brought back is decided in the browser: a program cannot answer for the person there. S01."""
        waiting = AuthorizationRequest.objects.with_state(handed_in["state"])
        if waiting.user_id == self.person.pk and not waiting.manual:
            raise StateError("another browser or another person", code=Code.FLOW_SESSION_MISMATCH)
        return decide_account(waiting, user=self.person, use_new=handed_in["confirm_account"], now=timezone.now())


def _answer_of(handed_in: dict[str, Any]) -> dict[str, str]:
    """Return the parameters of the authorization response; a state in the address has to be the one that was named."""
    state: str = handed_in["state"]
    if "redirect_url" not in handed_in:
        return {name: handed_in[name] for name in ("state", "code", "iss") if name in handed_in}
    params = parse_pasted(handed_in["redirect_url"])
    if not constant_time_compare(params.get("state", state), state):
        raise StateError("the redirect address carries another state")
    return {**params, "state": state}


def _status_body(request: AuthorizationRequest) -> dict[str, Any]:
    found = authorization_status(request, now=timezone.now())
    return dict(AuthorizationStatusSerializer(asdict(found)).data)
