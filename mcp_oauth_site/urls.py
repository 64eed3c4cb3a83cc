"""The map of all faces: one include per app."""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from . import health, pages
from .observability.exposition import metrics
from .sign_in.admin_login import admin_login

# Off by its one line in INSTALLED_APPS: then nothing here issues a token.
_authorization_server = (
    [path("", include("authserver.urls")), path("", include("authserver.urls_tokens"))]
    if apps.is_installed("authserver")
    else []
)
_gateway = [path("", include("gateway.pages.urls"))] if apps.is_installed("gateway") else []

urlpatterns = [
    *_authorization_server,
    *_gateway,
    path("", RedirectView.as_view(url="/connections/"), name="home"),
    path("", include("oauthflow.urls")),
    path("", include("connections.urls")),
    path("", include("audit.urls")),
    path("accounts/", include("mcp_oauth_site.sign_in.urls")),
    path("admin/login/", admin_login, name="admin_login"),
    path("admin/password_change/", RedirectView.as_view(pattern_name="account_change_password")),
    path("admin/", admin.site.urls),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
]
handler400 = pages.bad_request
handler403 = pages.forbidden
handler404 = pages.not_found
handler500 = pages.server_error
