"""Tokens for programs that register themselves, where the policy wants one: issued and shown once, revoked."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString

from audit.look_only import badge
from connections.admin.issued import Issued, IssuedTokenAdmin

from ..forms import RegistrationTokenForm
from ..models import RegistrationToken, hash_of_secret, new_client_secret


@admin.register(RegistrationToken)
class RegistrationTokenAdmin(IssuedTokenAdmin):
    """Who may register programs."""

    list_display = ("name", "state", "used", "ends", "created")
    fields = ("name", "state", "used", "ends", "created")
    explanation = "A program that presents this token may register itself."

    @admin.display(description="status")
    def state(self, token: RegistrationToken) -> SafeString:
        if token.revoked_at:
            return badge("Revoked")
        over = token.expires_at is not None and token.expires_at <= timezone.now()
        return badge("Expired") if over else badge("Valid", tone="good")

    def new_form(self, request: HttpRequest, actor: User) -> RegistrationTokenForm:
        return RegistrationTokenForm(request.POST or None)

    def issue(self, form: RegistrationTokenForm) -> Issued:
        secret = new_client_secret()
        form.instance.token_hash = hash_of_secret(secret)
        form.instance.expires_at = timezone.now() + form.lifetime
        form.instance.save()
        return Issued(form.instance, secret)

    def revoke_token(self, token: RegistrationToken) -> None:
        """End it; what registered with it stays."""
        RegistrationToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=timezone.now())
