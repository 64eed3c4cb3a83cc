"""Our own access tokens as credentials of the REST interface and of GraphQL."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from audit.correlation import act_through
from connections.authentication import AccessTokenGrant
from connections.models.api_token import PREFIX

from .resources import api_resource
from .tokens import InvalidTokenError, verify

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class AccessTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer` with an access token for `PUBLIC_URL/api/v1`; a token for anything else is refused.

    Personal API tokens begin differently and are left to their own class.

    Spec: RFC 6750 §2.1; RFC 9068 §4. T-03, T-04, AS11.
    """

    def authenticate(self, request: Request) -> tuple[User, AccessTokenGrant] | None:
        scheme, _, credential = get_authorization_header(request).partition(b" ")
        presented = credential.strip().decode("latin-1")
        if scheme.lower() != b"bearer" or not presented or presented.startswith(PREFIX):
            return None
        try:
            token = verify(presented, audience=api_resource())
        except InvalidTokenError as error:
            raise AuthenticationFailed(error.description, code="invalid_token") from error
        user = get_user_model().objects.filter(pk=token.user_id, is_active=True).first() if token.user_id else None
        if user is None:
            raise AuthenticationFailed("This token stands for nobody who may be here.", code="invalid_token")
        act_through(token.client_id)
        return user, AccessTokenGrant(token.client_id, token.scopes, partial(_is_good, presented))


def _is_good(presented: str) -> bool:
    try:
        verify(presented, audience=api_resource())
    except InvalidTokenError:
        return False
    return True


def _security_definition(_scheme: object, _auto_schema: object) -> dict[str, str]:
    return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token of this site"}


# How the OpenAPI document describes it: making the class is what registers it there.
AccessTokenScheme = type(
    "AccessTokenScheme",
    (OpenApiAuthenticationExtension,),
    {
        "target_class": AccessTokenAuthentication,
        "name": "accessToken",
        "get_security_definition": _security_definition,
    },
)
