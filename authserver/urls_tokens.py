"""Where programs get, check and give back tokens."""

from __future__ import annotations

from django.urls import path

from .endpoints.paths import INTROSPECT, JWKS, REVOKE, TOKEN
from .endpoints.views import endpoint

app_name = "authserver_tokens"
urlpatterns = [
    path(TOKEN.removeprefix("/"), endpoint, name="token"),
    path(INTROSPECT.removeprefix("/"), endpoint, name="introspect"),
    path(REVOKE.removeprefix("/"), endpoint, name="revoke"),
    path(JWKS.removeprefix("/"), endpoint, name="jwks"),
]
