"""Personal API tokens: issued and shown once, revoked, never shown again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString

from audit.look_only import badge, moment

from ..api_tokens import issue_api_token, revoke_api_token
from ..forms import ApiTokenForm
from ..models import ApiToken
from .issued import Issued, IssuedTokenAdmin


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
class ApiTokenAdmin(IssuedTokenAdmin):
    """Who let which program in."""

    list_display = ("name", "user", "state", "may", "used", "ends", "created")
    list_filter = (ValidityFilter,)
    list_select_related = ("user",)
    search_fields = ("name", "user__username")
    fields = ("name", "user", "state", "may", "created", "ends", "used", "revoked")
    explanation = "A program that presents this token acts for its user, within the scopes that are ticked here."

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

    @admin.display(description="revoked")
    def revoked(self, token: ApiToken) -> SafeString:
        return moment(token.revoked_at)

    def new_form(self, request: HttpRequest, actor: User) -> ApiTokenForm:
        return ApiTokenForm(request.POST or None, actor=actor)

    def issue(self, form: ApiTokenForm) -> Issued:
        said = form.cleaned_data
        issued = issue_api_token(
            said["user"], scopes=said["scopes"], name=said["name"], now=timezone.now(), lifetime=form.lifetime
        )
        row = issued.row
        return Issued(row, issued.token, f"{row.name} acts for {row.user} with {', '.join(row.scopes)}.")

    def revoke_token(self, token: ApiToken) -> None:
        revoke_api_token(token, now=timezone.now())
