"""How tools describe themselves: what was approved beside what came, and a button for each answer."""

from __future__ import annotations

import difflib
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from audit.look_only import LookOnlyAdmin, badge, moment, nothing
from connections.admin.dashboard import Matter, tell_of_matters

from ..definitions.approve import MAY_APPROVE, approve, forget
from ..models import ToolDefinition

_WAITING: Final = ToolDefinition.State.WAITING
_CHANGELIST: Final = "admin:gateway_tooldefinition_changelist"
_CONTEXT_LINES: Final = 3
# Control, format, private and unassigned characters, and separators of lines and paragraphs.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Co", "Cn", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the comparison; `kind`: same, gone, come, or part for the name of what follows."""

    kind: str
    text: str


@admin.register(ToolDefinition)
class ToolDefinitionAdmin(LookOnlyAdmin):
    """What waits comes first."""

    list_display = ("name", "server", "mark", "seen", "by")
    ordering = ("-state", "-first_seen_at", "name")
    list_filter = ("state", "is_change", ("server", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("server", "approved_by")
    search_fields = ("name", "server__name", "server__slug")
    fields = ("name", "server", "mark", "seen", "approved", "by", "digest")
    change_form_template = "admin/gateway/tooldefinition/change_form.html"

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return lookup == "server__slug" or super().lookup_allowed(lookup, value, request)

    @admin.display(description="status", ordering="state")
    def mark(self, definition: ToolDefinition) -> SafeString:
        if definition.state != _WAITING:
            return badge("Approved", tone="good")
        return badge("Changed" if definition.is_change else "New", tone="bad" if definition.is_change else "warn")

    @admin.display(description="first seen", ordering="first_seen_at")
    def seen(self, definition: ToolDefinition) -> SafeString:
        return moment(definition.first_seen_at)

    @admin.display(description="approved", ordering="approved_at")
    def approved(self, definition: ToolDefinition) -> SafeString:
        return moment(definition.approved_at)

    @admin.display(description="by")
    def by(self, definition: ToolDefinition) -> object:
        if definition.state == _WAITING:
            return nothing()
        return definition.approved_by or "its first appearance"

    def get_urls(self) -> list[URLPattern]:
        judge = self.admin_site.admin_view(self.judge)
        return [
            path("<int:pk>/judge/<str:answer>/", judge, name="gateway_tooldefinition_judge"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        definition = self.get_object(request, object_id)
        shown: dict[str, Any] = {}
        if definition is not None and self.has_view_permission(request, definition):
            before = _approved_before(definition)
            shown = {
                "title": f"{definition.name}: {definition.server.name}",
                "subtitle": None,
                "before": before,
                "lines": list(compared(before.definition if before else {}, definition.definition)),
                "waits": definition.state == _WAITING,
                "may_judge": isinstance(request.user, User) and request.user.has_perm(MAY_APPROVE),
            }
        return super().change_view(request, object_id, form_url, {**shown, **(extra_context or {})})

    def judge(self, request: HttpRequest, pk: int, answer: str) -> HttpResponse:
        """Take the answer of a button."""
        user = request.user
        if request.method != "POST" or not isinstance(user, User) or not user.has_perm(MAY_APPROVE):
            raise PermissionDenied
        definition = get_object_or_404(ToolDefinition.objects.select_related("server"), pk=pk)
        if answer == "approve":
            approve(definition, actor=user, now=timezone.now())
            self.message_user(request, f"{definition.name} is approved as it describes itself now.")
        elif answer == "forget":
            forget(definition, actor=user)
            self.message_user(request, f"This wording of {definition.name} is forgotten; if it comes again, it waits.")
        else:
            raise PermissionDenied
        return HttpResponseRedirect(reverse(_CHANGELIST))


def _approved_before(definition: ToolDefinition) -> ToolDefinition | None:
    """Return the wording that was approved last, other than this one."""
    others = ToolDefinition.objects.filter(server=definition.server_id, name=definition.name)
    return others.filter(state=ToolDefinition.State.APPROVED).exclude(pk=definition.pk).order_by("approved_at").last()


def compared(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Line]:
    """Return the lines of both wordings, part by part, with what is invisible made visible."""
    for name in dict.fromkeys([*before, *after]):
        old, new = _lines(before.get(name)), _lines(after.get(name))
        if old == new and before:
            continue
        yield Line("part", name)
        for line in difflib.unified_diff(old, new, lineterm="", n=_CONTEXT_LINES):
            if not line.startswith(("---", "+++", "@@")):
                yield Line({"-": "gone", "+": "come"}.get(line[0], "same") if before else "same", line[1:])


def _lines(value: Any) -> list[str]:
    if value is None:
        return []
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    return [_visible(line) for line in text.split("\n")]


def _visible(text: str) -> str:
    """Spell out characters that cannot be seen: instructions to a model can be hidden in them."""
    return "".join(f"[U+{ord(one):04X}]" if unicodedata.category(one) in _UNSEEN else one for one in text)


def waiting_matters() -> Iterator[Matter]:
    """Say for each server whose tools wait for an administrator how many do, and where they are."""
    waiting = ToolDefinition.objects.filter(state=_WAITING).order_by("server__name")
    for pk, name, count in waiting.values_list("server_id", "server__name").annotate(Count("pk")):
        words = "a tool waits for approval" if count == 1 else f"{count} tools wait for approval"
        address = f"{reverse(_CHANGELIST)}?state__exact=waiting&server__id__exact={pk}"
        yield Matter(f"{name}: {words}.", address, "warn")


tell_of_matters("gateway", waiting_matters)
