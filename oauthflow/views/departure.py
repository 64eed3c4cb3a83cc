"""From our page to the authorization server, with the cookie by which the browser is known when it comes back."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.utils import timezone

from connections.models import Connection
from oauthflow.flows.connect_unattended import connect_unattended
from oauthflow.flows.start_authorization import bind_browser, start_authorization
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.errors import AuthorizationRequiredError

from .signed_in import SeeOther, SignedInRequest


def begin_sign_in(request: SignedInRequest, connection: Connection, *, return_to: str = "") -> HttpResponse:
    """Start an authorization and send the browser away; where nobody has to sign in, connect at once.

    Raises:
        FlowError: The connection may not be made, or the server cannot be used.
    """
    if connection.server.is_unattended:
        try:
            return _connected(request, connect_unattended(connection, actor=request.user, now=timezone.now()))
        except AuthorizationRequiredError:
            if connection.is_shared and not request.user.has_perm("connections.manage_shared_connection"):
                raise
            # At the company's sign-in service; then here again.
            return_to = f"/connect/{connection.server.slug}"
    started = start_authorization(connection, user=request.user, now=timezone.now(), return_to=return_to)
    return send_away(request, started.request)


def _connected(request: SignedInRequest, connection: Connection) -> HttpResponse:
    messages.success(request, f"{connection.server} is connected. Nobody has to sign in there.")
    return SeeOther(f"/connections/{connection.pk}")


def send_away(request: SignedInRequest, pending: AuthorizationRequest) -> HttpResponse:
    """Bind the browser to a pending request and redirect it.

    Raises:
        StateError: The request is another person's, finished, or late.

    Spec: security notes S01, U06.
    """
    bound = bind_browser(pending, user=request.user, now=timezone.now())
    response = SeeOther(bound.redirect_url)
    response.headers["Referrer-Policy"] = "no-referrer"
    response.set_cookie(
        bound.cookie_name,
        bound.cookie_value.reveal(),
        max_age=bound.max_age_seconds,
        secure=bound.cookie_name.startswith("__Host-"),
        httponly=True,
        samesite="Lax",
    )
    return response
