"""Policies of servers, with the rules for groups on the same page. Each change is an audit record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from audit.append import appended_last
from audit.look_only import badge, nothing, plural

from ..models import GroupPolicy, Rule, ServerPolicy
from ..policies.changes import drop_rule, keep_rule

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _Inline = admin.StackedInline[Any, Any]
    _Form = forms.ModelForm[Any]
else:
    _ModelAdmin, _Inline, _Form = admin.ModelAdmin, admin.StackedInline, forms.ModelForm

_TOOLS = ("tools", "tool_patterns")
_LIMITS = ("calls_per_minute", "request_bytes", "response_bytes", "open_streams")


class GroupRules(_Inline):
    """What holds for groups instead."""

    model = GroupPolicy
    extra = 0
    autocomplete_fields = ("group",)
    fields = ("group", *_TOOLS, *_LIMITS)
    verbose_name_plural = "Rules for groups"


@admin.register(ServerPolicy)
class ServerPolicyAdmin(_ModelAdmin):
    """Which tools of a server, how much, what is held back and what is kept."""

    list_display = ("server", "which_tools", "how_much", "held_back", "groups_here", "content")
    list_select_related = ("server",)
    search_fields = ("server__name", "server__slug")
    autocomplete_fields = ("server",)
    actions: Any = None
    show_facets = admin.ShowFacets.NEVER
    inlines = (GroupRules,)
    change_form_template = "admin/gateway/serverpolicy/change_form.html"
    fieldsets = (
        (None, {"fields": ("server",)}),
        ("Which tools", {
            "fields": _TOOLS,
            "description": "A tool that is not allowed is not listed, and a call of it does not reach the server.",
        }),
        ("How much", {"fields": _LIMITS, "description": "For each person. Empty: as much as the gateway takes."}),
        ("How tools describe themselves", {
            "fields": ("approval", "blocks_changed"),
            "description": "A description is read by a model and can tell it to do things. A changed one is always "
            "reported.",
        }),
        ("Content", {"fields": ("keeps_arguments",)}),
    )  # fmt: skip

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": plural(ServerPolicy), **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        found: QuerySet[Any] = super().get_queryset(request).annotate(group_count=Count("groups"))
        return found

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("server",) if obj else ()

    @admin.display(description="tools", ordering="tools")
    def which_tools(self, policy: ServerPolicy) -> SafeString:
        if policy.tools not in (Rule.Tools.ALLOWED, Rule.Tools.DENIED):
            return badge("All")
        count = len(policy.tool_patterns.split())
        return badge(f"{count} allowed" if policy.tools == Rule.Tools.ALLOWED else f"all but {count}")

    @admin.display(description="requests a minute", ordering="calls_per_minute")
    def how_much(self, policy: ServerPolicy) -> object:
        return policy.calls_per_minute or nothing()

    @admin.display(description="held back")
    def held_back(self, policy: ServerPolicy) -> object:
        held = ["new"] * (policy.approval == ServerPolicy.Approval.ADMINISTRATOR) + ["changed"] * policy.blocks_changed
        return badge(" and ".join(held)) if held else nothing()

    @admin.display(description="rules for groups", ordering="group_count")
    def groups_here(self, policy: ServerPolicy) -> int:
        return int(getattr(policy, "group_count", 0))

    @admin.display(description="content", ordering="keeps_arguments")
    def content(self, policy: ServerPolicy) -> SafeString:
        return badge("Arguments are kept", tone="warn") if policy.keeps_arguments else nothing()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        policy = self.get_object(request, object_id)
        pages = pages_of(policy.server.slug) if policy else {}
        return super().change_view(request, object_id, form_url, {**pages, **(extra_context or {})})

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Save a policy and its rules for groups, each with its record, as one change."""
        if request.method != "POST":
            return super().changeform_view(request, *args, **kwargs)
        with transaction.atomic(), appended_last():
            return super().changeform_view(request, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: ServerPolicy, form: _Form, change: bool) -> None:
        if form.changed_data or not change:
            keep_rule(obj, fields=form.changed_data, actor=_person(request))

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        formset.save(commit=False)
        for rule in formset.deleted_objects:
            drop_rule(rule, actor=_person(request))
        for each in formset.forms:
            if each.has_changed() and each.instance not in formset.deleted_objects:
                keep_rule(each.instance, fields=each.changed_data, actor=_person(request))

    def delete_model(self, request: HttpRequest, obj: ServerPolicy) -> None:
        drop_rule(obj, actor=_person(request))


def pages_of(slug: str) -> dict[str, str]:
    """Return where else something is said about the gateway of a server."""
    return {
        "usage_page": f"{reverse('admin:gateway_usage_changelist')}?server={slug}",
        "tools_page": f"{reverse('admin:gateway_tooldefinition_changelist')}?server__slug={slug}",
    }


def _person(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user
