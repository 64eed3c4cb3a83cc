"""The authorization server's endpoints and pages. Public contract, section 10."""

from __future__ import annotations

from django.urls import URLPattern, include, path

from .endpoints import authorize, consent, grants, metadata, registration

_endpoints: list[URLPattern] = [
    # RFC 8414 §3.1: our issuer has no path, so these two are all; anything longer names an issuer that is not here.
    path(".well-known/oauth-authorization-server", metadata.authorization_server_metadata, name="metadata"),
    path(".well-known/openid-configuration", metadata.openid_configuration, name="openid_configuration"),
    path("oauth/authorize", authorize.authorize, name="authorize"),
    path("oauth/authorize/<uuid:pending_id>", consent.consent, name="consent"),
    path("oauth/authorize/<uuid:pending_id>/upstream", consent.upstream, name="upstream"),
    path("oauth/grants/<uuid:consent_id>/revoke", grants.revoke_grant, name="revoke_grant"),
    path("oauth/register", registration.register, name="register"),
    path("oauth/register/<slug:client_id>", registration.registration, name="registration"),
]

urlpatterns = [path("", include((_endpoints, "authserver")))]
