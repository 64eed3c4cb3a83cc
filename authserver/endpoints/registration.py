"""Programs register themselves, and look after their registration. RFC 7591, RFC 7592."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from oauthflow.protocol.secret import Secret

from ..conf import issuer
from ..flows.register_client import delete_registration, find_registration, register_client, update_registration
from ..models import McpClient
from ..protocol.errors import InvalidClientMetadataError, OAuthError
from ..protocol.registration import LONGEST_BODY_BYTES
from .answers import error_answer

_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@csrf_exempt
@require_POST
@sensitive_variables("registered", "answer")
def register(request: HttpRequest) -> HttpResponse:
    """Register a program. RFC 7591 §3."""
    try:
        registered = register_client(
            _json_body(request),
            address=str(request.META.get("REMOTE_ADDR", "")),
            initial_access_token=_bearer(request),
            now=timezone.now(),
        )
    except OAuthError as error:
        return error_answer(error)
    answer = _information(
        registered.client, token=registered.registration_access_token, secret=registered.client_secret
    )
    return JsonResponse(answer, status=201, headers=_NO_STORE)


@csrf_exempt
@require_http_methods(["GET", "PUT", "DELETE"])
@sensitive_variables("token", "secret")
def registration(request: HttpRequest, client_id: str) -> HttpResponse:
    """Read, replace or end a registration. RFC 7592 §2."""
    now, token = timezone.now(), _bearer(request)
    try:
        client = find_registration(client_id, token=token, now=now)
        if request.method == "DELETE":
            delete_registration(client, now=now)
            return HttpResponse(status=204, headers=_NO_STORE)
        secret = update_registration(client, _json_body(request), now=now) if request.method == "PUT" else None
    except OAuthError as error:
        return error_answer(error)
    return JsonResponse(_information(client, token=token, secret=secret), headers=_NO_STORE)


def _json_body(request: HttpRequest) -> bytes:
    if request.content_type != "application/json":
        raise InvalidClientMetadataError("the metadata has to be sent as application/json")
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > LONGEST_BODY_BYTES:
        raise InvalidClientMetadataError(f"the metadata is larger than {LONGEST_BODY_BYTES} bytes")
    return request.body


def _bearer(request: HttpRequest) -> Secret:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return Secret(token.strip() if scheme.lower() == "bearer" else "")


def _information(client: McpClient, *, token: Secret, secret: Secret | None) -> dict[str, Any]:
    """The client information response; secrets only where they are new. RFC 7591 §3.2.1; RFC 7592 §3."""
    said: dict[str, Any] = {
        "client_id": client.client_id,
        "client_id_issued_at": int(client.created_at.timestamp()),
        "client_name": client.name,
        "client_uri": client.client_uri,
        "redirect_uris": client.redirect_uris,
        "grant_types": client.grant_types,
        "response_types": ["code"],
        "token_endpoint_auth_method": client.token_endpoint_auth_method,
        "jwks": client.jwks,
        "jwks_uri": client.jwks_uri,
        "registration_access_token": token.reveal(),
        "registration_client_uri": f"{issuer()}/oauth/register/{client.client_id}",
    }
    if secret is not None:
        said |= {"client_secret": secret.reveal(), "client_secret_expires_at": 0}
    return {name: value for name, value in said.items() if value not in (None, "")}
