from __future__ import annotations

from django.urls import path

from . import api

app_name = "connections"
urlpatterns = [
    path("api/v1/servers", api.ServersView.as_view(), name="servers"),
    path("api/v1/servers/import", api.ImportServersView.as_view(), name="servers_import"),
    path("api/v1/servers/export", api.ExportServersView.as_view(), name="servers_export"),
    path("api/v1/servers/<slug:slug>", api.ServerView.as_view(), name="server"),
]
