"""The browser coming back from an authorization server."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from audit.correlation import correlation_id
from audit.events import AuditEvent
from audit.record import record
from oauthflow.error_responses import page_context
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.errors import AccountChangedError, FlowError, StateError

from .signed_in import SeeOther

_ONCE_ONLY: Final = ("code", "state", "iss", "error")
_DUPLICATE: Final = "duplicate_parameter"
_DUPLICATE_MESSAGE: Final = (
    "The address that brought you back names something twice. Nothing was done; please start again."
)


@require_http_methods(["GET"])
@never_cache
def callback(request: HttpRequest) -> HttpResponse:
    """Finish the authorization and go on to an address without a code. RFC 6749 §4.1.2, RFC 9700 §4.2. S06, S08."""
    response = _answer(request)
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _answer(request: HttpRequest) -> HttpResponse:
    if any(len(request.GET.getlist(name)) > 1 for name in _ONCE_ONLY):
        return _refuse_duplicate(request)
    if _belongs_to_a_terminal(request):
        return render(request, "oauthflow/copy_address.html", {"bare": True})
    try:
        params = request.GET.dict()
        finished = complete_authorization(params=params, user=request.user, cookies=request.COOKIES, now=timezone.now())
    except FlowError as error:
        ended: AuthorizationRequest | None = getattr(error, "request", None)
        if ended is None or isinstance(error, StateError):
            return _problem(request, error)
        if isinstance(error, AccountChangedError):
            return SeeOther(f"/connections/result/{ended.pk}")
        return go_on(ended, error=error.code)
    return go_on(finished)


def go_on(finished: AuthorizationRequest, *, error: str = "") -> HttpResponse:
    """To the page that was asked for at the start, checked then, or to the result in words."""
    target = f"/connections/result/{finished.pk}"
    if finished.return_to:
        outcome = {"oauth": "error" if error else "success", "connection": str(finished.connection_id)}
        outcome |= {"error": str(error)} if error else {}
        target = finished.return_to + ("&" if "?" in finished.return_to else "?") + urlencode(outcome)
    return SeeOther(target)


def _problem(request: HttpRequest, error: FlowError) -> HttpResponse:
    context = {**page_context(error), "bare": True, "is_signed_in": request.user.is_authenticated}
    return render(request, "oauthflow/problem.html", context, status=context["status"])


def _refuse_duplicate(request: HttpRequest) -> HttpResponse:
    record(AuditEvent.CALLBACK_REJECTED, actor=_known(request.user), reason=_DUPLICATE)
    context = {"code": _DUPLICATE, "message": _DUPLICATE_MESSAGE, "correlation_id": correlation_id(), "bare": True}
    return render(request, "oauthflow/problem.html", context, status=400)


def _belongs_to_a_terminal(request: HttpRequest) -> bool:
    """Whether a terminal waits for this address, and the browser is not that of the person who waits there."""
    try:
        pending = AuthorizationRequest.objects.with_state(request.GET.get("state", ""))
    except StateError:
        return False
    return pending.manual and pending.consumed_at is None and pending.user_id != request.user.pk


def _known(user: User | AnonymousUser) -> User | None:
    return user if isinstance(user, User) else None
