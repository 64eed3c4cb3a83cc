"""The page with the gateway's usage, and the arguments of calls where they are kept: to look at only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString

from audit.look_only import LookOnlyAdmin, moment
from connections.models import McpServer

from ..models import CallArguments, Usage
from .usage_charts import GROUPS, SPANS, charts, refusals, rows_of, top_programs, top_tools, totals


@admin.register(Usage)
class UsageAdmin(LookOnlyAdmin):
    """Charts instead of rows."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the usage of one server or of all."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        now = timezone.now()
        span = SPANS.get(request.GET.get("span", ""), SPANS["day"])
        servers = list(McpServer.objects.filter(gateway_enabled=True).values_list("slug", "name"))
        server = request.GET.get("server", "")
        rows = rows_of(span, server=server, now=now)
        by_outcome, by_time = charts(rows, span=span, now=now)
        context = {
            **self.admin_site.each_context(request), "opts": self.opts, "title": "Gateway usage",
            "spans": SPANS.values(), "span": span, "servers": servers, "server": server,
            "unit": "day" if span.is_daily else "hour", "groups": GROUPS, "by_outcome": by_outcome, "by_time": by_time,
            "totals": totals(rows), "tools": top_tools(rows), "programs": top_programs(rows),
            "refusals": refusals(rows), **(extra_context or {}),
        }  # fmt: skip
        return TemplateResponse(request, "admin/gateway/usage/page.html", context)


@admin.register(CallArguments)
class CallArgumentsAdmin(LookOnlyAdmin):
    """Only of servers whose policy keeps them."""

    list_display = ("tool", "server", "user", "when")
    list_filter = (("server", admin.RelatedOnlyFieldListFilter),)
    list_select_related = ("server", "user")
    search_fields = ("tool", "server__slug", "user__username", "correlation_id")
    fields = ("tool", "server", "user", "when", "arguments", "correlation_id")

    @admin.display(ordering="at")
    def when(self, call: CallArguments) -> SafeString:
        return moment(call.at)
