"""How a sign-in ended, in words, and what is to become of it where another account of the service came back."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone

from oauthflow.error_responses import page_context
from oauthflow.flows.decide_account import decide_account
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.codes import SENTENCES, Code
from oauthflow.protocol.errors import FlowError, InvalidRequestError

from .callback import go_on
from .cards import connection_card, host_of
from .signed_in import SignedInRequest, leads_away, signed_in

_ANSWERS: Final = {"new": True, "old": False}


@leads_away
@signed_in("GET", "HEAD")
def result(request: SignedInRequest, request_id: UUID) -> HttpResponse:
    """Tell the person who started a request how it ended; nobody else learns that it exists."""
    ended = _mine(request, request_id)
    now = timezone.now()
    status = ended.status_at(now)
    code = Code.AUTHORIZATION_TIMEOUT if status == AuthorizationRequest.Status.EXPIRED else ended.error_code
    context = {
        "ended": ended,
        "status": status,
        "code": code,
        "sentence": SENTENCES[Code(code)] if code in set(Code) else SENTENCES[Code.SERVER_ERROR],
        "card": connection_card(ended.connection, user=request.user),
        "server": ended.connection.server,
        "host": host_of(ended.authorization_endpoint),
        "asks": ended.awaits_account_at(now),
        "kept_old": status == AuthorizationRequest.Status.FAILED and code == Code.ACCOUNT_CHANGED,
    }
    return render(request, "oauthflow/result.html", context)


@signed_in("POST")
def decide(request: SignedInRequest, request_id: UUID) -> HttpResponse:
    """Use the account that came back, or keep the one that was used before, as the person says. S15."""
    waiting = _mine(request, request_id)
    try:
        decided = decide_account(waiting, user=request.user, use_new=_answer(request), now=timezone.now())
    except FlowError as error:
        context = {**page_context(error), "server": waiting.connection.server, "connection": waiting.connection}
        return render(request, "oauthflow/problem.html", context, status=context["status"])
    return go_on(decided, error=decided.error_code)


def _mine(request: SignedInRequest, request_id: UUID) -> AuthorizationRequest:
    mine = AuthorizationRequest.objects.filter(user=request.user)
    return get_object_or_404(mine.select_related("connection__server", "registration"), pk=request_id)


def _answer(request: SignedInRequest) -> bool:
    """Read the answer; neither is assumed."""
    said = request.POST.get("account", "")
    if said not in _ANSWERS:
        raise InvalidRequestError("neither account was chosen")
    return _ANSWERS[said]
