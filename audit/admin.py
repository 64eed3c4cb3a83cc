"""The audit record in the admin: look, filter, verify, take away."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import CharField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Cast
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from .anchors import our_anchors
from .events import AuditEvent
from .exports import CsvRenderer, JsonLinesRenderer
from .look_only import LookOnlyAdmin, badge, document, moment, nothing
from .models import AuditRecord
from .record import SYSTEM, record
from .verification import newest_part, problems

_EXPORTED: Final = 10_000
_VERIFIED: Final = 100_000  # what a page can be waited for
_BREAKS_SHOWN: Final = 5
_COLUMNS: Final = (
    "sequence", "at", "event", "actor", "server", "connection", "client", "reason", "correlation_id", "details",
)  # fmt: skip
_RENDERERS: Final = {renderer.format: renderer for renderer in (CsvRenderer, JsonLinesRenderer)}
_BAD: Final = ("failed", "rejected", "blocked", "denied", "reuse_detected")
_WARN: Final = ("required", "revoked", "deleted", "changed", "released")


class WhenFilter(admin.DateFieldListFilter):
    """Records by their age."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = "when"


@admin.register(AuditRecord)
class AuditRecordAdmin(LookOnlyAdmin):
    """What happened, newest first. Nothing here can be changed by anybody."""

    list_display = ("what", "when", "who", "server", "why", "related")
    list_display_links = ("what",)
    list_filter = ("event", ("at", WhenFilter), "server")
    search_fields = ("=actor", "server", "=connection", "client", "reason", "=correlation_id")
    search_help_text = "User id, server, connection, client, reason or correlation id"
    fields = (
        "sequence", "when", "what", "who", "server", "connection", "client", "reason", "related", "said", "key_id",
    )  # fmt: skip
    change_list_template = "admin/audit/auditrecord/change_list.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        named = User.objects.annotate(text=Cast("pk", CharField())).filter(text=OuterRef("actor")).values("username")
        found: QuerySet[Any] = super().get_queryset(request)
        with_names: QuerySet[Any] = found.annotate(actor_name=Subquery(named[:1]))
        return with_names

    @admin.display(description="event", ordering="event")
    def what(self, entry: AuditRecord) -> SafeString:
        ending = entry.event.partition(".")[2]
        tone = "bad" if ending.endswith(_BAD) else "warn" if ending.endswith(_WARN) else "good"
        return badge(entry.get_event_display().capitalize(), tone=tone)

    @admin.display(description="when", ordering="at")
    def when(self, entry: AuditRecord) -> SafeString:
        return moment(entry.at)

    @admin.display(description="who", ordering="actor")
    def who(self, entry: AuditRecord) -> str:
        if entry.actor == SYSTEM:
            return "the system"
        name = getattr(entry, "actor_name", None)
        return str(name) if name else f"{entry.actor} (no such user now)"

    @admin.display(description="reason", ordering="reason")
    def why(self, entry: AuditRecord) -> str:
        return entry.reason or nothing()

    @admin.display(description="same request", ordering="correlation_id")
    def related(self, entry: AuditRecord) -> SafeString:
        if not entry.correlation_id:
            return nothing()
        address = reverse("admin:audit_auditrecord_changelist")
        return format_html(
            '<a href="{}?q={}" class="site-id">{}</a>', address, entry.correlation_id, entry.correlation_id[:12]
        )

    @admin.display(description="details")
    def said(self, entry: AuditRecord) -> SafeString:
        return document(entry.details)

    def get_urls(self) -> list[URLPattern]:
        ours = [
            path("verify/", self.admin_site.admin_view(self.verify), name="audit_auditrecord_verify"),
            path("export/<str:kind>", self.admin_site.admin_view(self.export), name="audit_auditrecord_export"),
        ]
        return ours + super().get_urls()

    def verify(self, request: HttpRequest) -> HttpResponse:
        """Walk the chain, of a long one the newest part, and say whether it holds."""
        if request.method != "POST" or not self.has_view_permission(request):
            raise PermissionDenied
        span = newest_part(_VERIFIED)
        breaks = list(islice(problems(span, anchors=our_anchors()), _BREAKS_SHOWN))
        for found in breaks:
            self.message_user(request, f"The chain is broken at {found.sequence}: {found.problem}.", messages.ERROR)
        if not breaks:
            newest, count = span.last - span.after, span.last - span.removed
            counted = f"all {count}" if newest == count else f"the newest {newest} of {count}"
            more = "" if newest == count else " manage.py audit_verify walks all of them."
            said = f"The chain holds: {counted} records are there, in order and unchanged.{more}"
            self.message_user(request, said, messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:audit_auditrecord_changelist"))

    def export(self, request: HttpRequest, kind: str) -> HttpResponse:
        """Give out what the list shows with its filters, newest first, at most ten thousand records."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if kind not in _RENDERERS:
            raise Http404
        chosen = self.get_changelist_instance(request).get_queryset(request).order_by("-sequence")[:_EXPORTED]
        rows = [{name: _cell(getattr(entry, name)) for name in _COLUMNS} for entry in chosen]
        renderer = _RENDERERS[kind]()
        content = renderer.render({"results": rows})
        record(AuditEvent.AUDIT_EXPORTED, actor=request.user, details={"format": kind, "count": len(rows)})
        headers = {"Content-Disposition": f'attachment; filename="audit.{kind}"', "Cache-Control": "no-store"}
        return HttpResponse(content, content_type=renderer.media_type, headers=headers)


def _cell(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
