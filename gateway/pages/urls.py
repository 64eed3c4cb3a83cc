"""The gateway's page for people; what programs call is not here but in `gateway.endpoint.paths`."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "gateway"
urlpatterns = [path("servers/<slug:slug>", views.server, name="server")]
