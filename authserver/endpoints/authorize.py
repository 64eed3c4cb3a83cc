"""The authorization endpoint: from a client's request to the page that asks a person. RFC 6749 §3.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from oauthflow.views.signed_in import SeeOther

from ..browser import browser_hash, is_own_navigation
from ..conf import issuer
from ..flows.begin_authorization import begin_authorization, count_start, rules_of
from ..flows.decide_authorization import answer, awaits_upstream
from ..flows.resolve_client import known_client, needs_document, resolve_client
from ..models import McpClient
from ..protocol.authorization_request import Answerable, read_answerable, read_client_id
from ..protocol.authorization_response import error_response
from ..protocol.errors import InteractionRequiredError, OAuthError
from .answers import error_page, to_client
from .refusals import record_refused_question


@csrf_exempt  # only asks; the form that follows is guarded
@never_cache
@require_safe
def authorize(request: HttpRequest) -> HttpResponse:
    """Judge the request and ask the person. Errors travel only where nobody is harmed by it.

    Spec: RFC 6749 §4.1.1, §4.1.2.1; RFC 9700 §4.11.2. A-11, A-20, X-09, AS01, AS09, AS15.
    """
    parameters = dict(request.GET.lists())
    client = None
    try:
        client_id = read_client_id(parameters)
        if not needs_document(client_id):
            # Known without asking anybody, so a wrong address is told before anybody types a password.
            client = known_client(client_id, now=timezone.now())
            read_answerable(parameters, client=rules_of(client))
        if not request.user.is_authenticated:
            return _sign_in_first(request, parameters)
        count_start(request.user, now=timezone.now())
        client = resolve_client(client_id, now=timezone.now())
        answerable = read_answerable(parameters, client=rules_of(client))
    except OAuthError as error:
        _record(request, error, client=client)
        return error_page(request, error)
    own = is_own_navigation(request)
    try:
        return _ask(request, parameters, client=client, answerable=answerable, own=own)
    except OAuthError as error:
        _record(request, error, client=client)
        if client.verified and error.redirectable and own:
            return to_client(error_response(answerable, issuer=issuer(), error=error))
        return error_page(request, error, answerable=answerable)


def _record(request: HttpRequest, error: OAuthError, *, client: McpClient | None) -> None:
    user = request.user if request.user.is_authenticated else None
    record_refused_question(error, client=client, user=user, now=timezone.now())


def _sign_in_first(request: HttpRequest, parameters: Mapping[str, Sequence[str]]) -> HttpResponse:
    """Nothing is fetched, redirected or told before somebody has signed in. AS04, AS15."""
    if "none" in parameters.get("prompt", ()):
        raise InteractionRequiredError("Somebody has to sign in.")
    return redirect_to_login(request.get_full_path())


def _ask(
    request: HttpRequest,
    parameters: Mapping[str, Sequence[str]],
    *,
    client: McpClient,
    answerable: Answerable,
    own: bool,
) -> HttpResponse:
    now = timezone.now()
    pending = begin_authorization(
        parameters,
        client=client,
        answerable=answerable,
        user=cast(User, request.user),
        browser_hash=browser_hash(request),
        is_own_navigation=own,
        now=now,
    )
    if pending.consent is not None and not awaits_upstream(pending):
        return to_client(answer(pending, now=now))
    return SeeOther(reverse("authserver:consent", args=(pending.pk,)))
