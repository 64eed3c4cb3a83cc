"""REST addresses of the flow, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from .api import connections, documents, oauth, servers, tools

_ONE = "connections/<str:connection_id>"

urlpatterns = [
    path("connections", connections.ConnectionsView.as_view(), name="api_connections"),
    path(_ONE, connections.ConnectionView.as_view(), name="api_connection"),
    path(f"{_ONE}/status", connections.ConnectionStatusView.as_view(), name="api_connection_status"),
    path(f"{_ONE}/token", connections.TokenView.as_view(), name="api_connection_token"),
    path(f"{_ONE}/refresh", connections.RefreshView.as_view(), name="api_connection_refresh"),
    path(f"{_ONE}/revoke", connections.RevokeView.as_view(), name="api_connection_revoke"),
    path(f"{_ONE}/challenge", connections.ChallengeView.as_view(), name="api_connection_challenge"),
    path(f"{_ONE}/tools", tools.ToolsView.as_view(), name="api_connection_tools"),
    path(f"{_ONE}/tools/<path:name>/call", tools.ToolCallView.as_view(), name="api_connection_tool_call"),
    path("oauth/initiate", oauth.InitiateView.as_view(), name="api_oauth_initiate"),
    path("oauth/status/<str:state>", oauth.AuthorizationStatusView.as_view(), name="api_oauth_status"),
    path("oauth/complete", oauth.CompleteView.as_view(), name="api_oauth_complete"),
    path("servers/<str:slug>/check", servers.ServerCheckView.as_view(), name="api_server_check"),
    path("schema", documents.SchemaView.as_view(), name="api_schema"),
    path("docs", documents.DocumentationView.as_view(), name="api_docs"),
]
