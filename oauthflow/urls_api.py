"""REST addresses of the flow, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from .api import connections, documents, events, oauth, servers, tools, webhooks

app_name = "api"

_ONE = "connections/<str:connection_id>"

urlpatterns = [
    path("connections", connections.ConnectionsView.as_view(), name="connections"),
    path(_ONE, connections.ConnectionView.as_view(), name="connection"),
    path(f"{_ONE}/status", connections.ConnectionStatusView.as_view(), name="connection_status"),
    path(f"{_ONE}/token", connections.TokenView.as_view(), name="connection_token"),
    path(f"{_ONE}/proof", connections.ProofView.as_view(), name="connection_proof"),
    path(f"{_ONE}/refresh", connections.RefreshView.as_view(), name="connection_refresh"),
    path(f"{_ONE}/revoke", connections.RevokeView.as_view(), name="connection_revoke"),
    path(f"{_ONE}/challenge", connections.ChallengeView.as_view(), name="connection_challenge"),
    path(f"{_ONE}/tools", tools.ToolsView.as_view(), name="connection_tools"),
    path(f"{_ONE}/tools/<path:name>/call", tools.ToolCallView.as_view(), name="connection_tool_call"),
    path(f"{_ONE}/events", events.ConnectionEventsView.as_view(), name="connection_events"),
    path("events", events.EventsView.as_view(), name="events"),
    path("oauth/initiate", oauth.InitiateView.as_view(), name="oauth_initiate"),
    path("oauth/status/<str:state>", oauth.AuthorizationStatusView.as_view(), name="oauth_status"),
    path("oauth/complete", oauth.CompleteView.as_view(), name="oauth_complete"),
    path("servers/<slug:slug>/check", servers.ServerCheckView.as_view(), name="server_check"),
    path("webhooks", webhooks.WebhooksView.as_view(), name="webhooks"),
    path("webhooks/<uuid:webhook_id>", webhooks.WebhookView.as_view(), name="webhook"),
    path("webhooks/<uuid:webhook_id>/test", webhooks.WebhookTestView.as_view(), name="webhook_test"),
    path("schema", documents.SchemaView.as_view(), name="schema"),
    path("docs", documents.DocumentationView.as_view(), name="docs"),
]
