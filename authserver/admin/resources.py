"""Resources of others, with the credentials by which they ask about tokens; and what programs may do by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_variables

from audit.look_only import badge, moment
from connections.admin.issued import new_page, shown_once
from oauthflow.protocol.secret import Secret

from ..flows.change_resource import drop_right, enter_resource, keep_resource, keep_right, renew_resource_secret
from ..models import ExchangePolicy, ProtectedResource, ServiceAccount
from ..right_forms import ExchangePolicyForm, ProtectedResourceForm, ServiceAccountForm

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin


@admin.register(ProtectedResource)
class ProtectedResourceAdmin(_ModelAdmin):
    """Other people's MCP servers that use us as their authorization server."""

    list_display = ("name", "resource", "state", "created")
    search_fields = ("name", "resource")
    form = ProtectedResourceForm
    actions: Any = None
    change_form_template = "admin/authserver/protectedresource/change_form.html"

    @admin.display(description="status", ordering="is_active")
    def state(self, resource: ProtectedResource) -> SafeString:
        return badge("Active", tone="good") if resource.is_active else badge("Put aside")

    @admin.display(ordering="created_at")
    def created(self, resource: ProtectedResource) -> SafeString:
        return moment(resource.created_at)

    def get_urls(self) -> list[URLPattern]:
        renew = self.admin_site.admin_view(self.renew)
        return [
            path("<uuid:resource_id>/secret/", renew, name="authserver_protectedresource_secret"),
            *super().get_urls(),
        ]

    def save_model(self, request: HttpRequest, obj: ProtectedResource, form: Any, change: bool) -> None:
        keep_resource(obj, actor=request.user)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Enter a resource, and show its credentials on this one answer, which nobody keeps."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = ProtectedResourceForm(request.POST or None)
        if not form.is_valid():
            return new_page(request, self, form, title="New protected resource")
        secret = enter_resource(form.instance, actor=request.user)
        self.log_addition(request, form.instance, [{"added": {}}])
        return self._shown_once(request, form.instance, secret)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Put aside instead: the name must not come to mean something else while tokens for it are about."""
        return False

    @sensitive_variables("secret")
    def renew(self, request: HttpRequest, resource_id: UUID) -> HttpResponse:
        """Show a new secret; the old one is good no more."""
        resource = get_object_or_404(ProtectedResource, pk=resource_id)
        user = request.user
        may = isinstance(user, User) and user.has_perm("authserver.change_protectedresource")
        if request.method != "POST" or not may:
            raise PermissionDenied
        secret = renew_resource_secret(resource, actor=user)
        self.log_change(request, resource, [{"changed": {"fields": ["secret"]}}])
        return self._shown_once(request, resource, secret)

    def _shown_once(self, request: HttpRequest, resource: ProtectedResource, secret: Secret) -> HttpResponse:
        return shown_once(request, self, secret, title=resource.name, client_id=str(resource.pk))


class _RightAdmin(_ModelAdmin):
    """Kept and taken back with an audit record."""

    actions: Any = None

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        keep_right(obj, actor=request.user)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        drop_right(obj, actor=request.user)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for right in queryset:
            drop_right(right, actor=request.user)


@admin.register(ServiceAccount)
class ServiceAccountAdmin(_RightAdmin):
    """Programs that act without a person."""

    form = ServiceAccountForm
    list_display = ("client", "user", "may_ask_for")
    list_select_related = ("client", "user")
    raw_id_fields = ("user",)

    @admin.display(description="may ask for")
    def may_ask_for(self, account: ServiceAccount) -> str:
        return ", ".join(account.resources) or "nothing"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("client",) if obj else ()


@admin.register(ExchangePolicy)
class ExchangePolicyAdmin(_RightAdmin):
    """Back ends that may have upstream tokens of their callers."""

    form = ExchangePolicyForm
    list_display = ("client", "subject_resource", "server")
    list_select_related = ("client", "server")
