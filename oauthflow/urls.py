"""The pages, and below `api/v1/` the faces for programs."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

from .graphql.stream import GraphQLStreamView
from .graphql.view import GraphQLView
from .views import callback, client_metadata, connect, connections, mail, paste, result, staff, webhooks

_pages: list[URLPattern | URLResolver] = [
    path("connections/", connections.overview, name="connections"),
    path("connections/<uuid:connection_id>", connections.detail, name="connection_detail"),
    path("connections/<uuid:connection_id>/reconnect", connections.reconnect, name="connection_reconnect"),
    path("connections/<uuid:connection_id>/disconnect", connections.disconnect, name="connection_disconnect"),
    path("connections/<uuid:connection_id>/remove", connections.remove, name="connection_remove"),
    path("connections/<uuid:connection_id>/refresh", connections.refresh, name="connection_refresh"),
    path("connections/<uuid:connection_id>/test", connections.test, name="connection_test"),
    path("connections/result/<uuid:request_id>", result.result, name="result"),
    path("connections/result/<uuid:request_id>/account", result.decide, name="result_account"),
    path("connections/api-tokens/<uuid:token_id>/revoke", connections.revoke_token, name="api_token_revoke"),
    path("connections/webhooks/", webhooks.overview, name="webhooks"),
    path("connections/webhooks/<uuid:webhook_id>", webhooks.detail, name="webhook_detail"),
    path("connections/webhooks/<uuid:webhook_id>/test", webhooks.test, name="webhook_test"),
    path("connections/webhooks/<uuid:webhook_id>/switch", webhooks.switch, name="webhook_switch"),
    path("connections/webhooks/<uuid:webhook_id>/secret", webhooks.rotate, name="webhook_rotate"),
    path("connections/webhooks/<uuid:webhook_id>/delete", webhooks.delete, name="webhook_delete"),
    path(
        "connections/webhooks/<uuid:webhook_id>/deliveries/<uuid:delivery_id>/again",
        webhooks.redeliver,
        name="webhook_redeliver",
    ),
    path("accounts/mail", mail.preferences, name="mail_preferences"),
    path("connect/requests/<uuid:request_id>", connect.connect_request, name="connect_request"),
    path("connect/<slug:slug>", connect.connect, name="connect"),
    # Without a slash at the end: the redirect URI has to match exactly and must not meet a slash redirect.
    path("api/v1/oauth/callback", callback.callback, name="callback"),
    path("oauth/paste", paste.paste, name="paste"),
    path("oauth/client-metadata.json", client_metadata.client_metadata, name="client_metadata"),
    path("oauth/client-jwks.json", client_metadata.client_jwks, name="client_jwks"),
    path("servers/<slug:slug>/check", staff.server_check, name="server_check"),
    path("servers/<slug:slug>/reset-registration", staff.server_reset_registration, name="server_reset_registration"),
    path("servers/<slug:slug>/approve-issuer", staff.server_approve_issuer, name="server_approve_issuer"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include((_pages, "oauthflow"))),
    path("api/v1/", include("oauthflow.urls_api")),
    path("graphql", GraphQLView.as_view(), name="graphql"),
    path("graphql/stream", GraphQLStreamView.as_view(), name="graphql_stream"),
]
