"""Start a sign-in: the link that an administrator hands out, and the link that a program was given."""

from __future__ import annotations

from typing import Final, cast
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from connections.models import McpServer
from connections.services import connection_for
from oauthflow.error_responses import page_context, status_of
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import FlowError, StateError

from .cards import asked_scopes, host_of, server_card
from .departure import begin_sign_in, send_away
from .signed_in import SeeOther, SignedInRequest, leads_away, signed_in
from .words import describe_scopes

_LABEL_CHARACTERS: Final = 80
# Browsers hold the login form's own `form-action` against the redirects that follow it, so that one ends on a page of
# ours, from which a link goes on.
_SIGNED_IN_JUST_NOW: Final = "signed-in"


@leads_away
@signed_in("GET", "HEAD", "POST")
def connect(request: SignedInRequest, slug: str) -> HttpResponse:
    """Say what is about to be connected; the button, and nothing else, starts it. S02."""
    server = get_object_or_404(McpServer.objects.usable_by(request.user).select_related("discovery"), slug=slug)
    if request.method == "POST":
        try:
            return _start(request, server)
        except FlowError as error:
            return _page(request, server, error=error)
    return _page(request, server)


@leads_away
@require_http_methods(["GET", "POST"])
@never_cache
def connect_request(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Forward the person for whom a request was started to the authorization server. S01, S02."""
    if not request.user.is_authenticated:
        return redirect_to_login(f"{request.path}?{_SIGNED_IN_JUST_NOW}")
    return _forward(cast(SignedInRequest, request), request_id)


def _forward(request: SignedInRequest, request_id: UUID) -> HttpResponse:
    """At once where nobody else can have caused the navigation, else after a button."""
    started = AuthorizationRequest.objects.select_related("connection__server", "user")
    pending = get_object_or_404(started, pk=request_id, manual=False)
    try:
        if request.method == "POST" or (_is_own_navigation(request) and _SIGNED_IN_JUST_NOW not in request.GET):
            return send_away(request, pending)
        _check_open(pending, request)
    except FlowError as error:
        context = {**page_context(error), "server": pending.connection.server if _is_of(pending, request) else None}
        return render(request, "oauthflow/problem.html", context, status=context["status"])
    context = {
        "pending": pending,
        "server": pending.connection.server,
        "host": host_of(pending.authorization_endpoint),
        "scopes": describe_scopes(pending.scope),
        "goes_on": _is_own_navigation(request),
    }
    return render(request, "oauthflow/connect_request.html", context)


def _start(request: SignedInRequest, server: McpServer) -> HttpResponse:
    label = request.POST.get("label", "").strip()[:_LABEL_CHARACTERS]
    connection = connection_for(request.user, server, label=label, actor=request.user)
    if server.auth_type == McpServer.AuthType.OAUTH:
        return begin_sign_in(request, connection, return_to=request.POST.get("return_to", ""))
    messages.success(request, f"{server} needs no sign-in and is ready to use.")
    return SeeOther(f"/connections/{connection.pk}")


def _page(request: SignedInRequest, server: McpServer, *, error: FlowError | None = None) -> HttpResponse:
    problem = page_context(error) if error else None
    context = {
        "card": server_card(server, user=request.user),
        "scopes": asked_scopes(server),
        "label": request.POST.get("label", request.GET.get("label", ""))[:_LABEL_CHARACTERS],
        "return_to": request.POST.get("return_to", request.GET.get("return_to", "")),
        "problem": problem,
    }
    return render(request, "oauthflow/connect.html", context, status=status_of(error) if error else 200)


def _is_own_navigation(request: HttpRequest) -> bool:
    """Whether the address was typed or followed on our own pages; not a prefetch, an image or another site's link."""
    return (
        request.headers.get("Sec-Fetch-Site") in ("same-origin", "none")
        and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
        and "prefetch" not in request.headers.get("Sec-Purpose", "")
    )


def _check_open(pending: AuthorizationRequest, request: SignedInRequest) -> None:
    """Refuse what binding would refuse, before anybody is shown a button."""
    if not _is_of(pending, request):
        raise StateError("another account opened the link", code=Code.LINK_USER_MISMATCH)
    status = pending.status_at(timezone.now())
    if status == AuthorizationRequest.Status.EXPIRED:
        raise StateError("the request is late", code=Code.STATE_EXPIRED)
    if status != AuthorizationRequest.Status.PENDING or pending.consumed_at is not None:
        raise StateError("the request is over", code=Code.STATE_USED)


def _is_of(pending: AuthorizationRequest, request: SignedInRequest) -> bool:
    return pending.user_id == request.user.pk
