"""The same endpoints for servers that speak no ASGI, and for Django's test client."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from audit.correlation import correlation_id

from ..flows.renew_keys import renew_keys
from ..protocol.form_request import FormRequest
from .introspection import answer_introspection
from .jwks import answer_jwks
from .paths import INTROSPECT, JWKS, REVOKE, sent_headers, without_asking
from .plain_answers import Answer
from .revocation import answer_revocation
from .token import answer_exchange, answer_token_requests, is_exchange


@csrf_exempt
def endpoint(request: HttpRequest) -> HttpResponse:
    """Answer whichever of the endpoints was asked."""
    path = request.path
    answer = without_asking(path, request.method or "") or _answer(path, request)
    return HttpResponse(answer.body, status=answer.status, headers=dict(sent_headers(path, answer)))


def _answer(path: str, request: HttpRequest) -> Answer:
    asked = FormRequest(
        method=request.method or "",
        query=request.META.get("QUERY_STRING", "").encode("latin-1", "replace"),
        content_type=request.headers.get("Content-Type"),
        authorization=request.headers.get("Authorization"),
        body=request.body,
        request_id=correlation_id(),
    )
    if path == JWKS:
        return answer_jwks()
    renew_keys(asked, now=timezone.now())
    if path == INTROSPECT:
        return answer_introspection(asked)[0]
    if path == REVOKE:
        return answer_revocation(asked)
    return answer_exchange(asked) if is_exchange(asked) else answer_token_requests([asked])[0]
