"""Personal API tokens as credentials of the REST interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, ParseError
from rest_framework.request import Request

from audit.correlation import act_through

from .last_use import note_use
from .models import ApiToken
from .models.api_token import PREFIX, hash_api_token

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@dataclass(frozen=True, slots=True)
class AccessTokenGrant:
    """What a program may do that shows an access token of this site's own authorization server; as `request.auth`.

    Attributes:
        name: The program: its client id.
        scopes: Of the token; those that are none of this interface count for nothing.
        is_good: Asks again whether the token may still be used, for what outlasts a request.
    """

    name: str
    scopes: frozenset[str]
    is_good: Callable[[], bool]


class ApiTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer mcp_…`; `request.auth` is then the `ApiToken`.

    Bearer tokens of another shape are left to other authentication classes. Has to stand first in
    `DEFAULT_AUTHENTICATION_CLASSES`, so that a 401 carries its challenge.

    Spec: RFC 6750 §2.1, §3, §3.1.
    """

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        if "access_token" in request.query_params:
            raise ParseError("A token belongs into the Authorization header, never into an address.")
        scheme, _, credential = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer" or not credential.strip().startswith(PREFIX.encode()):
            return None
        token = find_api_token(credential.strip().decode("latin-1"), now=timezone.now())
        if token is None:
            raise AuthenticationFailed("This API token is unknown, expired or revoked.", code="invalid_token")
        act_through(token.name)
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        # RFC 6750 §3.1: no error code for a request that carried no token at all.
        presented = get_authorization_header(request).lower().startswith(b"bearer ")
        return 'Bearer realm="api", error="invalid_token"' if presented else 'Bearer realm="api"'


def find_api_token(text: str, *, now: datetime) -> ApiToken | None:
    """Return the valid token of that text, and note its use at most once a minute."""
    token = ApiToken.objects.valid(now=now).select_related("user").filter(token_hash=hash_api_token(text)).first()
    if token is None:
        return None
    note_use(token, now=now)
    return token


def acting_client(request: Request) -> str:
    """Return the name of the token or program that acts, for the audit record; `""` for a person's own session."""
    return request.auth.name if isinstance(request.auth, ApiToken | AccessTokenGrant) else ""


def _security_definition(_scheme: object, _auto_schema: object) -> dict[str, str]:
    return {"type": "http", "scheme": "bearer", "description": "A personal API token, mcp_…"}


# How the OpenAPI document describes it: making the class is what registers it there.
ApiTokenScheme = type(
    "ApiTokenScheme",
    (OpenApiAuthenticationExtension,),
    {"target_class": ApiTokenAuthentication, "name": "apiToken", "get_security_definition": _security_definition},
)
