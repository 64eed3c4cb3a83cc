"""How a sign-in ended, in words."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone

from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.codes import SENTENCES, Code

from .cards import connection_card, host_of
from .signed_in import SignedInRequest, leads_away, signed_in


@leads_away
@signed_in("GET", "HEAD")
def result(request: SignedInRequest, request_id: UUID) -> HttpResponse:
    """Tell the person who started a request how it ended; nobody else learns that it exists."""
    mine = AuthorizationRequest.objects.filter(user=request.user).select_related("connection__server")
    ended = get_object_or_404(mine, pk=request_id)
    status = ended.status_at(timezone.now())
    code = Code.AUTHORIZATION_TIMEOUT if status == AuthorizationRequest.Status.EXPIRED else ended.error_code
    context = {
        "ended": ended,
        "status": status,
        "code": code,
        "sentence": SENTENCES[Code(code)] if code in set(Code) else SENTENCES[Code.SERVER_ERROR],
        "card": connection_card(ended.connection, user=request.user),
        "server": ended.connection.server,
        "host": host_of(ended.authorization_endpoint),
    }
    return render(request, "oauthflow/result.html", context)
