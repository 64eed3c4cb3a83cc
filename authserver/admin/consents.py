"""What people allowed which program: to look at, and to take back."""

from __future__ import annotations

from uuid import UUID

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from audit.look_only import LookOnlyAdmin, badge, moment

from ..flows.end_grants import end_consents
from ..models import Consent
from ..protocol.redirect_uri import shown_host


@admin.register(Consent)
class ConsentAdmin(LookOnlyAdmin):
    """Grants of people to programs."""

    list_display = ("client", "user", "host", "server", "state", "granted")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), ("server", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("client", "user", "server")
    search_fields = ("client__name", "client__client_id", "user__username", "resource")
    fields = ("client", "user", "state", "host", "redirect_uri", "resource", "scope", "connection", "granted", "why")
    change_form_template = "admin/authserver/consent/change_form.html"

    @admin.display(description="answered at")
    def host(self, consent: Consent) -> str:
        return shown_host(consent.redirect_uri)

    @admin.display(description="status", ordering="revoked_at")
    def state(self, consent: Consent) -> SafeString:
        return badge("Ended") if consent.revoked_at else badge("Stands", tone="good")

    @admin.display(description="allowed", ordering="granted_at")
    def granted(self, consent: Consent) -> SafeString:
        return moment(consent.granted_at)

    @admin.display(description="ended because")
    def why(self, consent: Consent) -> str:
        return consent.revoked_reason.replace("_", " ")

    def get_urls(self) -> list[URLPattern]:
        revoke = self.admin_site.admin_view(self.revoke)
        return [path("<uuid:consent_id>/revoke/", revoke, name="authserver_consent_revoke"), *super().get_urls()]

    def revoke(self, request: HttpRequest, consent_id: UUID) -> HttpResponse:
        """End a grant at once, with every token of it."""
        consent = get_object_or_404(Consent, pk=consent_id)
        user = request.user
        may = isinstance(user, User) and user.has_perm("authserver.change_consent")
        if request.method != "POST" or not may:
            raise PermissionDenied
        end_consents(Consent.objects.filter(pk=consent.pk), reason="revoked", actor=user, now=timezone.now())
        self.log_change(request, consent, [{"changed": {"fields": ["revoked"]}}])
        self.message_user(request, f"{consent.client} can no longer act for {consent.user}.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:authserver_consent_change", args=(consent.pk,)))
