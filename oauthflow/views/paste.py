"""Finish a sign-in by hand: for remote shells, whose browser cannot come back here."""

from __future__ import annotations

from collections.abc import Sequence

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone

from oauthflow.error_responses import page_context, status_of
from oauthflow.flows.complete_authorization import complete_authorization, parse_pasted, require_whole_address
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.errors import FlowError, InvalidRequestError

from .signed_in import SeeOther, SignedInRequest, signed_in


@signed_in("GET", "HEAD", "POST")
def paste(request: SignedInRequest) -> HttpResponse:
    """Take the address to which the authorization server sent the browser, or the code in it."""
    waiting = _waiting(request)
    context: dict[str, object] = {"waiting": waiting, "chosen": request.POST.get("request", "")}
    if request.method != "POST":
        return render(request, "oauthflow/paste.html", context)
    try:
        params = _params(request, waiting)
        finished = complete_authorization(params=params, user=request.user, cookies=None, now=timezone.now())
    except FlowError as error:
        ended: AuthorizationRequest | None = getattr(error, "request", None)
        if ended is not None and ended.user_id == request.user.pk and ended.manual:
            return SeeOther(f"/connections/result/{ended.pk}")
        return render(
            request, "oauthflow/paste.html", context | {"problem": page_context(error)}, status=status_of(error)
        )
    return SeeOther(f"/connections/result/{finished.pk}")


def _waiting(request: SignedInRequest) -> Sequence[AuthorizationRequest]:
    """What this person started for finishing by hand."""
    mine = AuthorizationRequest.objects.filter(user=request.user, manual=True, consumed_at__isnull=True)
    return list(mine.filter(expires_at__gt=timezone.now()).select_related("connection__server"))


def _params(request: SignedInRequest, waiting: Sequence[AuthorizationRequest]) -> dict[str, str]:
    """Read what was pasted; a code alone belongs to the request that was chosen, or to the only one."""
    params = parse_pasted(request.POST.get("pasted", ""))
    if "state" in params:
        return params
    chosen = [one for one in waiting if str(one.pk) == request.POST.get("request")] or list(waiting)
    if len(chosen) != 1:
        raise InvalidRequestError("a code alone does not say which request it belongs to")
    require_whole_address(chosen[0], params)
    return {**params, "state": chosen[0].state_sealed.reveal().reveal()}
