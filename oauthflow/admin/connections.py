"""Connections and sign-ins in the admin: look, disconnect, revoke before anything is deleted.

They stand here and not in `connections`, because revoking reaches the authorization server.
"""

from __future__ import annotations

from collections.abc import Iterable
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

from audit.look_only import LookOnlyAdmin, badge, moment, nothing
from connections.admin.badges import connection_badge, reason_in_words
from connections.admin.servers import DELETED_WITH_IT
from connections.impact import impact_of
from connections.models import Connection, McpServer, Revocation, TokenSet
from connections.services import delete_connection
from oauthflow.flows.revoke import revoke_connections
from oauthflow.models import AuthorizationRequest

_TRACES_SHOWN = 8


class OwnerFilter(admin.SimpleListFilter):
    """Shared connections, and people's own."""

    title = "owner"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("person", "A person"), ("shared", "Shared")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(user__isnull=self.value() == "shared") if self.value() else queryset


@admin.register(Connection)
class ConnectionAdmin(LookOnlyAdmin):
    """Who is connected to what. Deleting one revokes it first."""

    list_display = ("connection", "owner", "state", "why", "ends", "used")
    list_display_links = ("connection",)
    list_filter = ("status", OwnerFilter, ("server", admin.RelatedOnlyFieldListFilter), "registration_method")
    list_select_related = ("server", "user", "tokens")
    search_fields = ("server__name", "server__slug", "user__username", "label", "issuer")
    search_help_text = "Server, user, label or issuer"
    actions = ("revoke_selected",)
    fields = (
        "server", "owner", "label", "state", "why", "issuer", "granted_scopes", "requested_scopes",
        "registration_method", "signed_in", "ends", "renewal", "refreshed", "used",
    )  # fmt: skip
    change_form_template = "admin/connections/connection/change_form.html"

    def has_delete_permission(self, request: HttpRequest, obj: Connection | None = None) -> bool:
        return request.user.has_perm("connections.delete_connection")

    # ---- What is shown

    @admin.display(description="connection", ordering="server__name")
    def connection(self, connection: Connection) -> str:
        return " · ".join(filter(None, (connection.server.name, connection.label)))

    @admin.display(description="owner", ordering="user__username")
    def owner(self, connection: Connection) -> str:
        return connection.user.get_username() if connection.user else "Shared"

    @admin.display(description="status", ordering="status")
    def state(self, connection: Connection) -> SafeString:
        return connection_badge(connection)

    @admin.display(description="reason", ordering="reason")
    def why(self, connection: Connection) -> str:
        return reason_in_words(connection.reason) or nothing()

    @admin.display(description="signed in")
    def signed_in(self, connection: Connection) -> SafeString:
        return moment(connection.connected_at)

    @admin.display(description="access ends", ordering="tokens__expires_at")
    def ends(self, connection: Connection) -> SafeString:
        tokens = _tokens(connection)
        return moment(tokens.expires_at, otherwise="not told") if tokens else moment(None)

    @admin.display(description="renewal")
    def renewal(self, connection: Connection) -> SafeString:
        tokens = _tokens(connection)
        if tokens is None or not tokens.is_renewable:
            return badge("Does not renew itself") if tokens else moment(None, otherwise="no tokens stored")
        if tokens.refresh_failures:
            return badge(f"Failed {tokens.refresh_failures} times in a row", tone="warn")
        return badge("Renews itself", tone="good")

    @admin.display(description="last renewed", ordering="last_refreshed_at")
    def refreshed(self, connection: Connection) -> SafeString:
        return moment(connection.last_refreshed_at, otherwise="never")

    @admin.display(description="last used", ordering="last_used_at")
    def used(self, connection: Connection) -> SafeString:
        return moment(connection.last_used_at, otherwise="never")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        connection = self.get_object(request, object_id)
        shown = {}
        if connection is not None and self.has_view_permission(request, connection):
            shown = {
                "title": self.connection(connection),
                "subtitle": self.owner(connection),
                "traces": list(connection.traces.select_related("user")[:_TRACES_SHOWN]),
                "has_tokens": _tokens(connection) is not None,
                "may_manage": self.has_delete_permission(request, connection),
                "is_own": connection.user == request.user,
                "impact": impact_of([connection], now=timezone.now()),
                "untold": Revocation.objects.filter(connection_id=connection.pk).first(),
                "here": request.path,
            }
        return super().change_view(request, object_id, form_url, {**shown, **(extra_context or {})})

    # ---- Disconnecting

    @admin.action(description="Revoke selected connections", permissions=["delete"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[Connection]) -> HttpResponse | None:
        """Ask once more, then disconnect each; the rows stay."""
        chosen = list(queryset.select_related("server", "user"))
        if request.POST.get("confirmed"):
            self._revoke(request, chosen)
            return None
        return self._ask(request, chosen, action="revoke_selected")

    def revoke_all(self, request: HttpRequest, server_id: UUID) -> HttpResponse:
        """Disconnect everybody from one server, after asking once more."""
        if not self.has_delete_permission(request):
            raise PermissionDenied
        server = get_object_or_404(McpServer, pk=server_id)
        chosen = list(server.connections.select_related("server", "user"))
        if request.method == "POST" and request.POST.get("confirmed"):
            self._revoke(request, chosen)
            return HttpResponseRedirect(reverse("admin:connections_mcpserver_change", args=(server.pk,)))
        return self._ask(request, chosen, server=server)

    def _ask(
        self, request: HttpRequest, chosen: list[Connection], *, server: McpServer | None = None, action: str = ""
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"Revoke all connections to {server}" if server else "Revoke connections",
            "opts": Connection._meta,
            "chosen": chosen,
            "people": len({connection.user_id for connection in chosen if connection.user_id}),
            "shared": sum(connection.is_shared for connection in chosen),
            "impact": impact_of(chosen, now=timezone.now()),
            "server": server,
            "action": action,
        }
        return TemplateResponse(request, "admin/connections/connection/revoke.html", context)

    def _revoke(self, request: HttpRequest, chosen: Iterable[Connection]) -> None:
        count = revoke_each(chosen, actor=acting_person(request), reason=request.POST.get("reason", ""))
        words = "1 connection is" if count == 1 else f"{count} connections are"
        self.message_user(request, f"{words} revoked. The tokens are deleted here.", messages.SUCCESS)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.revoke_all)
        ours = [path("revoke-all/<uuid:server_id>/", view, name="connections_connection_revoke_all")]
        return ours + super().get_urls()

    # ---- Deleting

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        connection = self.get_object(request, object_id)
        if request.method == "POST" and connection and self.has_delete_permission(request, connection):
            revoke_each([connection], actor=acting_person(request), reason="deleted by an administrator")
        impact = impact_of([connection], now=timezone.now()) if connection else None
        return super().delete_view(request, object_id, {"impact": impact, **(extra_context or {})})

    def delete_model(self, request: HttpRequest, obj: Connection) -> None:
        delete_connection(obj)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        listed, counts, lacking, protected = super().get_deleted_objects(objs, request)
        return listed, counts, set(lacking) - DELETED_WITH_IT, protected


@admin.register(AuthorizationRequest)
class AuthorizationRequestAdmin(LookOnlyAdmin):
    """Sign-ins that were begun, and how they ended; purged an hour after their end."""

    list_display = ("connection", "user", "state", "why", "begun", "ended")
    list_filter = ("status", "error_code", "registration_method", "manual")
    list_select_related = ("connection__server", "user")
    search_fields = ("connection__server__name", "user__username", "issuer", "error_code")
    fields = (
        "connection", "user", "state", "why", "issuer", "authorization_endpoint", "token_endpoint", "client_id",
        "registration_method", "auth_method", "redirect_uri", "resource", "scope", "manual", "begun", "late", "ended",
    )  # fmt: skip

    @admin.display(description="status", ordering="status")
    def state(self, request: AuthorizationRequest) -> SafeString:
        status = request.status_at(timezone.now())
        tones = {"completed": "good", "failed": "bad"}
        return badge(status.capitalize(), tone=tones.get(status, ""))

    @admin.display(description="reason", ordering="error_code")
    def why(self, request: AuthorizationRequest) -> str:
        return reason_in_words(request.error_code) or nothing()

    @admin.display(description="begun", ordering="initiated_at")
    def begun(self, request: AuthorizationRequest) -> SafeString:
        return moment(request.initiated_at)

    @admin.display(description="expires", ordering="expires_at")
    def late(self, request: AuthorizationRequest) -> SafeString:
        return moment(request.expires_at)

    @admin.display(description="ended", ordering="completed_at")
    def ended(self, request: AuthorizationRequest) -> SafeString:
        return moment(request.completed_at)


def revoke_each(connections: Iterable[Connection], *, actor: User, reason: str) -> int:
    """Disconnect each connection that holds or waits for something; return how many. The worker tells the services."""
    chosen = [one for one in connections if one.status != Connection.Status.REVOKED or _tokens(one)]
    revoke_connections(chosen, actor=actor, reason=reason, now=timezone.now())
    return len(chosen)


def _tokens(connection: Connection) -> TokenSet | None:
    found: TokenSet | None = getattr(connection, "tokens", None)
    return found


def acting_person(request: HttpRequest) -> User:
    """Return who is signed in to the admin."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user
