"""Brings the numbers of the dashboard onto the first page of the admin."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils import timezone

from audit.look_only import badge, moment

from ..admin.badges import trace_badge
from ..admin.dashboard import connection_shares, next_endings, refresh_charts, renewing_soon, waiting_matters

register = template.Library()
register.simple_tag(badge, name="badge")
register.simple_tag(moment, name="moment")
register.simple_tag(trace_badge, name="trace_badge")


@register.inclusion_tag("admin/_dashboard.html", takes_context=True)
def dashboard(context: dict[str, Any]) -> dict[str, object]:
    """Read what this person may see: connections, audit records, servers."""
    user, now = context["request"].user, timezone.now()
    shown: dict[str, object] = {}
    if user.has_perm("connections.view_connection"):
        shares = connection_shares()
        shown |= {
            "shares": shares,
            "total": sum(share.count for share in shares),
            "working": sum(share.count for share in shares if share.value in ("active", "degraded")),
            "endings": next_endings(now=now),
            "renewing_soon": renewing_soon(now=now),
        }
    if user.has_perm("audit.view_auditrecord"):
        hours, days = refresh_charts(now=now)
        shown |= {"charts": [("Last 24 hours", hours, "hour"), ("Last 7 days", days, "day")], "days": days}
    if user.has_perm("connections.view_mcpserver"):
        shown["matters"] = waiting_matters()
    return shown
