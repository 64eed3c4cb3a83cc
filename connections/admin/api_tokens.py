"""Personal API tokens: issued and shown once, revoked, never shown again."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_variables

from audit.look_only import LookOnlyAdmin, badge, moment

from ..api_tokens import issue_api_token, revoke_api_token
from ..forms import ApiTokenForm
from ..models import ApiToken


class ValidityFilter(admin.SimpleListFilter):
    """Tokens that work, and those that do not any more."""

    title = "status"
    parameter_name = "valid"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Valid"), ("no", "Revoked or expired")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        valid = ApiToken.objects.valid(now=timezone.now()).values("pk")
        if self.value() == "yes":
            return queryset.filter(pk__in=valid)
        return queryset.exclude(pk__in=valid) if self.value() == "no" else queryset


@admin.register(ApiToken)
class ApiTokenAdmin(LookOnlyAdmin):
    """Who let which program in."""

    list_display = ("name", "user", "state", "may", "last_used", "ends", "created")
    list_filter = (ValidityFilter,)
    list_select_related = ("user",)
    search_fields = ("name", "user__username")
    fields = ("name", "user", "state", "may", "created", "ends", "last_used", "revoked")
    change_form_template = "admin/connections/apitoken/change_form.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        user = request.user
        return isinstance(user, User) and user.has_perm("connections.add_apitoken")

    @admin.display(description="status")
    def state(self, token: ApiToken) -> SafeString:
        if token.revoked_at:
            return badge("Revoked")
        if token.expires_at and token.expires_at <= timezone.now():
            return badge("Expired")
        return badge("Valid", tone="good") if token.user.is_active else badge("User is inactive")

    @admin.display(description="may")
    def may(self, token: ApiToken) -> str:
        return ", ".join(token.scopes) or "nothing"

    @admin.display(description="last used", ordering="last_used_at")
    def last_used(self, token: ApiToken) -> SafeString:
        return moment(token.last_used_at, otherwise="never")

    @admin.display(description="ends", ordering="expires_at")
    def ends(self, token: ApiToken) -> SafeString:
        return moment(token.expires_at, otherwise="never")

    @admin.display(description="revoked")
    def revoked(self, token: ApiToken) -> SafeString:
        return moment(token.revoked_at)

    @admin.display(ordering="created_at")
    def created(self, token: ApiToken) -> SafeString:
        return moment(token.created_at)

    def get_urls(self) -> list[URLPattern]:
        revoke = self.admin_site.admin_view(self.revoke)
        return [path("<uuid:token_id>/revoke/", revoke, name="connections_apitoken_revoke"), *super().get_urls()]

    @sensitive_variables("issued")
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Issue a token and show it on this one answer, which nobody keeps."""
        actor = request.user
        if not isinstance(actor, User) or not self.has_add_permission(request):
            raise PermissionDenied
        form = ApiTokenForm(request.POST or None, actor=actor)
        context = {**self.admin_site.each_context(request), "opts": ApiToken._meta, "title": "New API token"}
        if not form.is_valid():
            return TemplateResponse(request, "admin/connections/apitoken/add.html", {**context, "form": form})
        said = form.cleaned_data
        issued = issue_api_token(
            said["user"], scopes=said["scopes"], name=said["name"], now=timezone.now(), lifetime=form.lifetime
        )
        self.log_addition(request, issued.row, [{"added": {}}])
        shown = {**context, "row": issued.row, "token": issued.token.reveal()}
        answer = TemplateResponse(request, "admin/connections/apitoken/issued.html", shown)
        answer.headers["Cache-Control"] = "no-store"
        return answer

    def revoke(self, request: HttpRequest, token_id: UUID) -> HttpResponse:
        """End a token at once."""
        token = get_object_or_404(ApiToken, pk=token_id)
        user = request.user
        may = isinstance(user, User) and user.has_perm("connections.change_apitoken")
        if request.method != "POST" or not may:
            raise PermissionDenied
        revoke_api_token(token, now=timezone.now())
        self.log_change(request, token, [{"changed": {"fields": ["revoked"]}}])
        self.message_user(request, f"{token.name} can no longer be used.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:connections_apitoken_change", args=(token.pk,)))
