"""The page that asks a person, and what follows from the answer."""

from __future__ import annotations

from typing import Any, Final, cast
from uuid import UUID

from csp.constants import SELF
from csp.decorators import csp_replace
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from connections.models import Connection
from oauthflow.error_responses import page_context
from oauthflow.protocol.codes import SENTENCES, Code
from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.scopes import OFFLINE_ACCESS
from oauthflow.protocol.urls import parse_http_url
from oauthflow.views.cards import host_of
from oauthflow.views.departure import begin_sign_in
from oauthflow.views.signed_in import SeeOther, SignedInRequest, signed_in

from ..browser import browser_hash
from ..flows.decide_authorization import allow, answer, awaits_upstream, cancel, deny
from ..models import McpClient, PendingAuthorization
from ..protocol.client_names import claims_a_known_name
from ..protocol.errors import InvalidRequestError, OAuthError
from ..protocol.redirect_uri import is_loopback, redirect_origin, shown_host
from ..resources import find_resource
from .answers import error_page, to_client

_DECISIONS: Final = frozenset({"allow", "deny"})


@signed_in("GET", "HEAD", "POST")
def consent(request: SignedInRequest, pending_id: UUID) -> HttpResponse:
    """Ask; the form holds the decision and nothing else. P-01, P-03 to P-08, AS03, AS10."""
    pending = _pending(request, pending_id)
    try:
        if request.method == "POST":
            return _decide(request, pending)
        if pending.consent is not None and pending.answered_at is None:
            return _go_on(request, pending)
        if not pending.is_open(now=timezone.now()):
            raise InvalidRequestError("This question was answered before, or the answer came too late.")
    except OAuthError as error:
        return error_page(request, error)
    page = render(request, "authserver/consent.html", _shown(pending))
    return _leads_to(page, SELF, redirect_origin(pending.redirect_uri))


@signed_in("GET", "HEAD", "POST")
def upstream(request: SignedInRequest, pending_id: UUID) -> HttpResponse:
    """After our own consent: the sign-in at the server's own service, in the same visit. AS08, P-11, P-14."""
    pending = _pending(request, pending_id)
    problem = _problem(request.GET.get("error", ""))
    try:
        if pending.consent is None or pending.connection is None or pending.answered_at is not None:
            raise InvalidRequestError("This question was answered before.")
        if request.method == "POST":
            return _sign_in_there(request, pending, pending.connection)
        if not awaits_upstream(pending):
            return _go_on(request, pending)
    except OAuthError as error:
        return error_page(request, error)
    except FlowError as error:
        problem = page_context(error)
    context = {"pending": pending, "client_name": _name(pending.client), "server": pending.server, "problem": problem}
    shown = render(request, "authserver/upstream.html", {**context, "bare": True})
    # Browsers hold this against every redirect that follows the form, and services have hosts of their own to go to.
    return _leads_to(
        shown, SELF, "https:", *(["http:"] if settings.EGRESS_ALLOW else []), redirect_origin(pending.redirect_uri)
    )


def _sign_in_there(request: SignedInRequest, pending: PendingAuthorization, connection: Connection) -> HttpResponse:
    if request.POST.get("decision") == "cancel":
        return to_client(cancel(pending, now=timezone.now()))
    return begin_sign_in(request, connection, return_to=f"/oauth/authorize/{pending.pk}/upstream")


def _pending(request: SignedInRequest, pending_id: UUID) -> PendingAuthorization:
    """This person's, in this browser; anybody else's looks like one that never was. AS10, P-12."""
    found = PendingAuthorization.objects.select_related("client", "server", "consent", "connection__server", "user")
    mine = found.filter(pk=pending_id, user=request.user, browser_hash=browser_hash(request)).first()
    if mine is None:
        raise PermissionDenied
    return mine


def _decide(request: SignedInRequest, pending: PendingAuthorization) -> HttpResponse:
    decision, now = request.POST.get("decision"), timezone.now()
    if decision not in _DECISIONS:
        raise InvalidRequestError("The form said neither yes nor no.")
    if decision == "deny":
        return to_client(deny(pending, now=now))
    allow(pending, now=now)
    return _go_on(request, pending)


def _go_on(request: SignedInRequest, pending: PendingAuthorization) -> HttpResponse:
    """To the sign-in that the grant stands on, or to the client with its code."""
    if awaits_upstream(pending):
        return SeeOther(f"/oauth/authorize/{pending.pk}/upstream")
    return to_client(answer(pending, now=timezone.now()))


def _leads_to(response: HttpResponse, *targets: str) -> HttpResponse:
    """Let the forms of this answer end at these places, and nowhere else. Z10."""

    def page(request: HttpRequest) -> HttpResponse:
        return response

    return cast(HttpResponse, csp_replace({"form-action": list(targets)})(page)(HttpRequest()))


def _shown(pending: PendingAuthorization) -> dict[str, Any]:
    client, resource = pending.client, find_resource(pending.resource)
    words = {**(resource.scopes if resource else {})}
    asked = [scope for scope in pending.scope.split() if scope != OFFLINE_ACCESS]
    is_document = client.kind == McpClient.Kind.METADATA_DOCUMENT
    return {
        "pending": pending,
        "client": client,
        "client_name": _name(client),
        "claims_a_known_name": not client.verified and claims_a_known_name(client.name),
        "host": shown_host(pending.redirect_uri),
        "document_host": parse_http_url(client.client_id).authority if is_document else "",
        "is_loopback": is_loopback(pending.redirect_uri),
        "is_own_scheme": not pending.redirect_uri.startswith(("https:", "http:")),
        "resource_name": resource.name if resource else pending.resource,
        "resource_host": host_of(pending.server.url) if pending.server else "",
        "scopes": [{"name": scope, "words": words.get(scope, "")} for scope in asked],
        "stays_connected": "refresh_token" in client.grant_types,
        "upstream_follows": pending.server is not None and pending.server.auth_type == "oauth",
        "bare": True,
    }


def _name(client: McpClient) -> str:
    return client.name or "A program without a name"


def _problem(code: str) -> dict[str, Any] | None:
    return {"code": code, "message": SENTENCES[Code(code)].message} if code in set(Code) else None
