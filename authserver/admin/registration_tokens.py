"""Tokens for programs that register themselves, where the policy wants one: issued and shown once, revoked."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_variables

from audit.look_only import LookOnlyAdmin, badge, moment

from ..forms import RegistrationTokenForm
from ..models import RegistrationToken, hash_of_secret, new_client_secret


@admin.register(RegistrationToken)
class RegistrationTokenAdmin(LookOnlyAdmin):
    """Who may register programs."""

    list_display = ("name", "state", "used", "ends", "created")
    fields = ("name", "state", "used", "ends", "created")
    change_form_template = "admin/authserver/registrationtoken/change_form.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        user = request.user
        return isinstance(user, User) and user.has_perm("authserver.add_registrationtoken")

    @admin.display(description="status")
    def state(self, token: RegistrationToken) -> SafeString:
        if token.revoked_at:
            return badge("Revoked")
        over = token.expires_at is not None and token.expires_at <= timezone.now()
        return badge("Expired") if over else badge("Valid", tone="good")

    @admin.display(description="last used", ordering="last_used_at")
    def used(self, token: RegistrationToken) -> SafeString:
        return moment(token.last_used_at, otherwise="never")

    @admin.display(description="ends", ordering="expires_at")
    def ends(self, token: RegistrationToken) -> SafeString:
        return moment(token.expires_at, otherwise="never")

    @admin.display(ordering="created_at")
    def created(self, token: RegistrationToken) -> SafeString:
        return moment(token.created_at)

    def get_urls(self) -> list[URLPattern]:
        revoke = self.admin_site.admin_view(self.revoke)
        return [
            path("<uuid:token_id>/revoke/", revoke, name="authserver_registrationtoken_revoke"),
            *super().get_urls(),
        ]

    @sensitive_variables("secret", "shown")
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Issue a token and show it on this one answer, which nobody keeps."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = RegistrationTokenForm(request.POST or None)
        opts = RegistrationToken._meta
        context = {**self.admin_site.each_context(request), "opts": opts, "title": "New registration token"}
        if not form.is_valid():
            return TemplateResponse(request, "admin/authserver/mcpclient/add.html", {**context, "form": form})
        secret = new_client_secret()
        form.instance.token_hash = hash_of_secret(secret)
        form.instance.expires_at = timezone.now() + form.lifetime
        form.instance.save()
        self.log_addition(request, form.instance, [{"added": {}}])
        shown = {**context, "row": form.instance, "secret": secret.reveal()}
        answer = TemplateResponse(request, "admin/authserver/mcpclient/issued.html", shown)
        answer.headers["Cache-Control"] = "no-store"
        return answer

    def revoke(self, request: HttpRequest, token_id: UUID) -> HttpResponse:
        """End a token at once; what registered with it stays."""
        token = get_object_or_404(RegistrationToken, pk=token_id)
        user = request.user
        may = isinstance(user, User) and user.has_perm("authserver.change_registrationtoken")
        if request.method != "POST" or not may:
            raise PermissionDenied
        RegistrationToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=timezone.now())
        self.log_change(request, token, [{"changed": {"fields": ["revoked"]}}])
        return HttpResponseRedirect(reverse("admin:authserver_registrationtoken_change", args=(token.pk,)))
