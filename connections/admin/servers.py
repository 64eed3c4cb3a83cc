"""MCP servers in the admin. Saving takes the same way as REST and never touches the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from audit.look_only import badge, in_words, plural

from ..forms import McpServerForm
from ..models import FlowTrace, McpServer
from ..server_changes import TARGET_FIELDS, Access, change_server, create_server, delete_server
from ..server_impact import ConfirmationRequiredError, impact_of_deletion
from .badges import check_badge, server_badge
from .server_fieldsets import fieldsets, without_form_only
from .server_files import download, files_page
from .server_page import beside, connect_link, redirect_uri

if TYPE_CHECKING:
    from django import forms

    _ServerAdmin = admin.ModelAdmin[McpServer]
else:
    _ServerAdmin = admin.ModelAdmin

DELETED_WITH_IT: Final = frozenset(
    {
        "connection", "client registration", "flow trace", "authorization request", "server discovery", "API token",
        "webhook", "webhook delivery", "gateway policy", "rule for a group", "rule for callers",
        "tool definition", "arguments of a call",
    }
)  # fmt: skip
"""Kinds that the admin itself does not delete, but that go with what they belong to."""


class LastCheckFilter(admin.SimpleListFilter):
    """Servers by how their last check ended."""

    title = "last check"
    parameter_name = "check"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("ready", "Ready"), ("problem", "Problem"), ("none", "Not checked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "none":
            return queryset.filter(check_ok__isnull=True)
        return queryset.filter(check_ok=self.value() == "ready") if self.value() else queryset


@admin.register(McpServer)
class McpServerAdmin(_ServerAdmin):
    """Configure servers; what was found and tried stands beside the form."""

    form = McpServerForm
    list_display = ("name", "state", "signs_in", "checked", "connections_here", "address")
    list_filter = ("status", LastCheckFilter, "auth_type", "transport", "connection_policy", "profile")
    search_fields = ("name", "slug", "url", "issuer", "description")
    search_help_text = "Name, slug, address or issuer"
    autocomplete_fields = ("users", "groups")
    prepopulated_fields: ClassVar[dict[str, Sequence[str]]] = {"slug": ("name",)}
    actions = None
    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER
    change_form_template = "admin/connections/mcpserver/change_form.html"

    # ---- The list

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": plural(McpServer), **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> QuerySet[McpServer]:
        checks = FlowTrace.objects.filter(server=OuterRef("pk"), kind=FlowTrace.Kind.CHECK).order_by("-created_at")
        found: QuerySet[McpServer] = super().get_queryset(request)
        return found.annotate(
            check_ok=Subquery(checks.values("ok")[:1]),
            check_at=Subquery(checks.values("created_at")[:1]),
            connection_count=Count("connections", distinct=True),
        )

    @admin.display(description="status", ordering="status")
    def state(self, server: McpServer) -> SafeString:
        return server_badge(server)

    @admin.display(description="authentication", ordering="auth_type")
    def signs_in(self, server: McpServer) -> SafeString:
        return badge(server.get_auth_type_display())

    @admin.display(description="last check", ordering="check_at")
    def checked(self, server: McpServer) -> SafeString:
        at = getattr(server, "check_at", None)
        mark = check_badge(getattr(server, "check_ok", None))
        return format_html('{} <span class="quiet">{}</span>', mark, in_words(at)) if at else mark

    @admin.display(description="connections", ordering="connection_count")
    def connections_here(self, server: McpServer) -> int:
        return int(getattr(server, "connection_count", 0))

    @admin.display(ordering="url")
    def address(self, server: McpServer) -> SafeString:
        return format_html('<span class="site-address">{}</span>', server.url.partition("?")[0] or server.command)

    # ---- The form

    def get_fieldsets(self, request: HttpRequest, obj: McpServer | None = None) -> Any:
        parts = fieldsets(obj)
        may_edit = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        return parts if may_edit else without_form_only(parts)

    def get_readonly_fields(self, request: HttpRequest, obj: McpServer | None = None) -> list[str]:
        fixed = ["address_to_register", "link_to_hand_out"]
        if not _person(request).is_superuser:
            fixed.append("assume_pkce")
        if obj is not None and target_is_fixed(obj, _person(request)):
            fixed += sorted(TARGET_FIELDS)
        return fixed

    def get_prepopulated_fields(self, request: HttpRequest, obj: McpServer | None = None) -> dict[str, Sequence[str]]:
        return {} if obj else super().get_prepopulated_fields(request, obj)

    def get_form(
        self, request: HttpRequest, obj: McpServer | None = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm[McpServer]]:
        made = super().get_form(request, obj, change=change, **kwargs)
        if issubclass(made, McpServerForm):
            made.actor = _person(request)
        if widget := getattr(made.base_fields.get("identity_provider"), "widget", None):
            # The entries have their own pages; no pop-ups beside the choice.
            widget.can_add_related = widget.can_change_related = False
            widget.can_view_related = widget.can_delete_related = False
        return made

    @admin.display(description="redirect URI to register there")
    def address_to_register(self, server: McpServer) -> SafeString:
        return format_html('<code class="site-copy">{}</code>', redirect_uri())

    @admin.display(description="link to hand out")
    def link_to_hand_out(self, server: McpServer) -> SafeString:
        return format_html(
            '<code class="site-copy">{}</code><span class="quiet">Leads straight to connecting.</span>',
            connect_link(server),
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        server = self.get_object(request, object_id)
        shown: dict[str, Any] = {}
        if server is not None and self.has_view_permission(request, server):
            shown = {"title": server.name, "subtitle": None, **beside(server, user=_person(request))}
        return super().change_view(request, object_id, form_url, {**shown, **(extra_context or {})})

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:  # fmt: skip
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except ConfirmationRequiredError as error:  # Somebody connected while the form was being saved.
            self.message_user(request, f"Nothing was saved: {error.impact}", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: McpServer, form: forms.ModelForm[McpServer], change: bool) -> None:
        said = form.cleaned_data
        access = Access(said.get("users"), said.get("groups"))
        if not change:
            create_server(obj, actor=_person(request), access=access)
            return
        confirmed = bool(said.get("confirm_target"))
        done = change_server(obj, actor=_person(request), now=timezone.now(), access=access, confirmed=confirmed)
        if done.forgotten:
            names = ", ".join(sorted(done.forgotten)).replace("_", " ")
            self.message_user(request, f"Erased, because it belonged to the old target: {names}.", messages.WARNING)
        if done.stopped_connections:
            said_count = f"{done.stopped_connections} connections wait for a new sign-in."
            self.message_user(request, said_count, messages.WARNING)

    def construct_change_message(
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> list[dict[str, dict[str, Any]]]:
        """Name the changed fields for the history; never a value."""
        if add:
            return [{"added": {}}]
        names = [name.removeprefix("new_") for name in form.changed_data if name != "confirm_target"]
        return [{"changed": {"fields": [name.replace("_", " ") for name in names]}}]

    def response_add(self, request: HttpRequest, obj: McpServer, post_url_continue: str | None = None) -> HttpResponse:
        if "_addanother" in request.POST or "_popup" in request.POST:
            return super().response_add(request, obj, post_url_continue)
        self.message_user(
            request,
            f"{obj.name} is saved. Nobody has asked the server anything yet: check it now with the button below.",
            messages.SUCCESS,
        )
        return HttpResponseRedirect(reverse("admin:connections_mcpserver_change", args=(obj.pk,)))

    # ---- Deleting

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        server = self.get_object(request, object_id)
        impact = impact_of_deletion(server) if server and server.connections.exists() else ""
        return super().delete_view(request, object_id, {"impact": impact, "server": server, **(extra_context or {})})

    def delete_model(self, request: HttpRequest, obj: McpServer) -> None:
        delete_server(obj, actor=_person(request), confirmed=True)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        listed, counts, lacking, protected = super().get_deleted_objects(objs, request)
        return listed, counts, set(lacking) - DELETED_WITH_IT, protected

    # ---- Files

    def get_urls(self) -> list[URLPattern]:
        ours = [
            path("files/", self.admin_site.admin_view(self.files), name="connections_mcpserver_files"),
            path("files/<str:kind>", self.admin_site.admin_view(self.file), name="connections_mcpserver_file"),
        ]
        return ours + super().get_urls()

    def files(self, request: HttpRequest) -> HttpResponse:
        """Show and take the forms of import and export."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        may_import = self.has_add_permission(request)
        return files_page(request, actor=_person(request), may_import=may_import, site=self.admin_site)

    def file(self, request: HttpRequest, kind: str) -> HttpResponse:
        """Give the servers out as a file."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return download(request, kind=kind)


def target_is_fixed(server: McpServer, user: User) -> bool:
    """Whether this person may not change where a server's tokens go. Z04."""
    return server.connections.exists() and not user.has_perm("connections.change_mcpserver_target")


def _person(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user
