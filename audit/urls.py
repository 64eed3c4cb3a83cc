"""REST addresses of the audit record."""

from __future__ import annotations

from django.urls import path

from .api import AuditEventsView

app_name = "audit"

urlpatterns = [path("api/v1/audit/events", AuditEventsView.as_view(), name="api_events")]
