"""Clients: entered by hand, verified, blocked; what they were allowed is taken back here too."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.views.decorators.debug import sensitive_variables

from audit.look_only import LookOnlyAdmin, badge, moment
from connections.admin.issued import new_page, shown_once
from oauthflow.protocol.client_auth import SECRET_METHODS
from oauthflow.protocol.secret import Secret

from ..flows.change_client import change_entered, enter_client, renew_secret, set_verified, unblock_client
from ..flows.end_grants import block_client, end_consents
from ..forms import McpClientForm
from ..models import Consent, McpClient
from ..protocol.redirect_uri import shown_host

_ENTERED = ("name", "verified", "addresses", "token_endpoint_auth_method", "grants", "scope", "jwks", "jwks_uri")


@admin.register(McpClient)
class McpClientAdmin(LookOnlyAdmin):
    """Programs that ask people for access."""

    form = McpClientForm
    list_display = ("name_shown", "kind", "hosts", "trust", "state", "used", "created")
    list_display_links = ("name_shown",)
    list_filter = ("kind", "verified", ("blocked_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "client_id")
    change_form_template = "admin/authserver/mcpclient/change_form.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _may(request, "add_mcpclient")

    def has_change_permission(self, request: HttpRequest, obj: McpClient | None = None) -> bool:
        """Only what an administrator entered is edited; the others say themselves what they are."""
        by_hand = obj is None or obj.kind == McpClient.Kind.PRE_REGISTERED
        return by_hand and _may(request, "change_mcpclient")

    def get_fields(self, request: HttpRequest, obj: McpClient | None = None) -> Any:
        if obj is None:
            return _ENTERED
        shown = ("client_id", "state", "used", "created")
        if self.has_change_permission(request, obj):
            return (*shown, *_ENTERED)
        described = ("name", "kind", "trust", "addresses_shown", "token_endpoint_auth_method", "grant_types")
        return (*shown, *described, "jwks_uri", "client_uri", "document_expires_at", "expires_at")

    def get_readonly_fields(self, request: HttpRequest, obj: McpClient | None = None) -> Any:
        fields = self.get_fields(request, obj)
        editable = _ENTERED if obj is None or self.has_change_permission(request, obj) else ()
        return tuple(name for name in fields if name not in editable)

    @admin.display(description="client", ordering="name")
    def name_shown(self, client: McpClient) -> str:
        return Truncator(client.name or "Without a name").chars(32)

    @admin.display(description="answered at")
    def hosts(self, client: McpClient) -> str:
        hosts = sorted({shown_host(uri) for uri in client.redirect_uris})
        return Truncator(", ".join(hosts) or "nowhere").chars(48)

    @admin.display(description="redirect URIs")
    def addresses_shown(self, client: McpClient) -> str:
        return "\n".join(client.redirect_uris)

    @admin.display(description="verified", ordering="verified")
    def trust(self, client: McpClient) -> SafeString:
        return badge("Verified", tone="good") if client.verified else badge("Not verified")

    @admin.display(description="status")
    def state(self, client: McpClient) -> SafeString:
        if client.blocked_at:
            return badge("Blocked", tone="bad")
        return badge("In use", tone="good") if client.is_usable(now=timezone.now()) else badge("Over")

    @admin.display(description="last allowed", ordering="last_used_at")
    def used(self, client: McpClient) -> SafeString:
        return moment(client.last_used_at, otherwise="never")

    @admin.display(ordering="created_at")
    def created(self, client: McpClient) -> SafeString:
        return moment(client.created_at)

    def get_urls(self) -> list[URLPattern]:
        act = self.admin_site.admin_view(self.act)
        return [path("<uuid:client_pk>/do/<str:action>/", act, name="authserver_mcpclient_act"), *super().get_urls()]

    def save_model(self, request: HttpRequest, obj: McpClient, form: Any, change: bool) -> None:
        change_entered(obj, actor=request.user, now=timezone.now())

    @sensitive_variables("secret")
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Enter a client; a secret is shown on this one answer, which nobody keeps."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = McpClientForm(request.POST or None)
        if not form.is_valid():
            return new_page(request, self, form, title="New client")
        secret = enter_client(form.instance, actor=request.user)
        self.log_addition(request, form.instance, [{"added": {}}])
        return self._issued(request, form.instance, secret)

    @sensitive_variables("secret")
    def act(self, request: HttpRequest, client_pk: UUID, action: str) -> HttpResponse:
        """Do what one of the buttons says."""
        client = get_object_or_404(McpClient, pk=client_pk)
        if request.method != "POST" or not _may(request, "change_mcpclient"):
            raise PermissionDenied
        self.log_change(request, client, [{"changed": {"fields": [action]}}])
        if action == "secret" and client.token_endpoint_auth_method in SECRET_METHODS:
            return self._issued(request, client, renew_secret(client, actor=request.user))
        said = self._done(request, client, action)
        self.message_user(request, f"{client}: {said}", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:authserver_mcpclient_change", args=(client.pk,)))

    def _done(self, request: HttpRequest, client: McpClient, action: str) -> str:
        actor, now = request.user, timezone.now()
        match action:
            case "verify" | "withdraw":
                set_verified(client, action == "verify", actor=actor)
                return "verified." if action == "verify" else "no longer verified."
            case "block":
                block_client(client, actor=actor, now=now)
                return "blocked. Whatever it was allowed has ended."
            case "unblock":
                unblock_client(client, actor=actor)
                return "may ask people again."
            case "revoke":
                ended = end_consents(Consent.objects.filter(client=client), reason="revoked", actor=actor, now=now)
                return f"{ended} grants have ended."
        raise Http404

    def _issued(self, request: HttpRequest, client: McpClient, secret: Secret | None) -> HttpResponse:
        return shown_once(request, self, secret, title=str(client), client_id=client.client_id)


def _may(request: HttpRequest, permission: str) -> bool:
    user = request.user
    return isinstance(user, User) and user.has_perm(f"authserver.{permission}")
