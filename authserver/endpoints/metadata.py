"""What we publish about ourselves. RFC 8414, OpenID Connect Discovery 1.0."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from oauthflow.protocol.scopes import OFFLINE_ACCESS

from ..conf import authserver_configuration, issuer
from ..flows.exchange_token import GRANT_TYPE as TOKEN_EXCHANGE
from ..protocol.client_proof import ASSERTION_ALGORITHMS
from ..resources import GATEWAY_SCOPE, api_resource, find_resource
from ..signing_keys import ALGORITHM
from .paths import INTROSPECT, JWKS, REVOKE, TOKEN
from .token import GRANTS

_AUTH_METHODS: Final = ("none", "client_secret_basic", "client_secret_post", "private_key_jwt")
_CONFIDENTIAL_METHODS: Final = _AUTH_METHODS[1:]
_KEPT_SECONDS: Final = 3600


@csrf_exempt
@require_safe
def authorization_server_metadata(request: HttpRequest) -> JsonResponse:
    """Answer at the one address that our issuer has; below any other path there is nothing. D-08, A-12, AS18."""
    return _document(authorization_server())


@csrf_exempt
@require_safe
def openid_configuration(request: HttpRequest) -> JsonResponse:
    """The same for clients that ask the OpenID way, with the members without which they refuse to read it. A-05."""
    return _document(
        {
            **authorization_server(),
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
        }
    )


def authorization_server() -> dict[str, Any]:
    """Return our metadata.

    Spec: RFC 8414 §2; RFC 9207 §3; RFC 7591 §3. D-08, A-05, A-12, R-14, X-07.
    """
    site = issuer()
    document: dict[str, Any] = {
        "issuer": site,
        "authorization_endpoint": f"{site}/oauth/authorize",
        "token_endpoint": f"{site}{TOKEN}",
        "jwks_uri": f"{site}{JWKS}",
        "introspection_endpoint": f"{site}{INTROSPECT}",
        "revocation_endpoint": f"{site}{REVOKE}",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": [*GRANTS, TOKEN_EXCHANGE],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": list(_AUTH_METHODS),
        "token_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGORITHMS),
        "revocation_endpoint_auth_methods_supported": list(_AUTH_METHODS),
        "revocation_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGORITHMS),
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic"],
        "scopes_supported": _scopes(),
        "prompt_values_supported": ["none", "consent"],
        "authorization_response_iss_parameter_supported": True,
        "client_id_metadata_document_supported": True,
    }
    if authserver_configuration().registration != "off":
        document["registration_endpoint"] = f"{site}/oauth/register"
    return document


def _scopes() -> list[str]:
    api = find_resource(api_resource())
    return [GATEWAY_SCOPE, OFFLINE_ACCESS, *(api.scopes if api else ())]


def _document(document: dict[str, Any]) -> JsonResponse:
    return JsonResponse(document, headers={"Cache-Control": f"public, max-age={_KEPT_SECONDS}"})
