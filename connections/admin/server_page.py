"""What stands beside a server's form: how it is, what to hand out, what was tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.urls import reverse

from ..models import Connection, FlowTrace, McpServer, ServerDiscovery
from ..profiles import profile_of
from ..server_impact import impact_of_new_registration, impact_of_new_target
from .badges import CONNECTION_TONES

if TYPE_CHECKING:
    from django.contrib.auth.models import User

TRACES_SHOWN: Final = 8


def redirect_uri() -> str:
    """Where authorization servers send people back to; what an administrator registers there."""
    return f"{settings.PUBLIC_URL}{reverse('oauthflow:callback')}"


def connect_link(server: McpServer) -> str:
    """Return the address that leads somebody straight to connecting to this server."""
    return f"{settings.PUBLIC_URL}{reverse('oauthflow:connect', args=(server.slug,))}"


def beside(server: McpServer, *, user: User) -> dict[str, Any]:
    """Return what the change page of a server shows besides its form; no network, no secret."""
    traces = list(server.traces.select_related("user", "connection__server", "connection__user")[:TRACES_SHOWN])
    checks = server.traces.filter(kind=FlowTrace.Kind.CHECK)
    discovery = ServerDiscovery.objects.filter(server=server).select_related("authorization_server").first()
    is_oauth = server.auth_type == McpServer.AuthType.OAUTH
    return {
        "is_oauth": is_oauth,
        "last_check": checks.first(),
        "discovery": discovery,
        "registration": server.registrations.filter(status="active").first() if is_oauth else None,
        "traces": traces,
        "states": _states(server),
        "connection_count": server.connections.count(),
        "connect_link": connect_link(server),
        "gateway_address": f"{settings.PUBLIC_URL}/mcp/{server.slug}",
        "redirect_uri": redirect_uri(),
        "profile_note": profile_of(server.profile).note,
        "may_change": user.has_perm("connections.change_mcpserver"),
        "may_approve": user.has_perm("connections.approve_issuer_change"),
        "may_revoke": user.has_perm("connections.delete_connection"),
        "target_is_fixed": server.connections.exists() and not user.has_perm("connections.change_mcpserver_target"),
        "impact": impact_of_new_target(server),
        "impact_of_reset": impact_of_new_registration(),
    }


def _states(server: McpServer) -> list[dict[str, object]]:
    """Count the connections of a server by state, those that there are."""
    found = list(server.connections.values_list("status", flat=True))
    return [
        {"name": status.label, "value": status.value, "count": found.count(status.value),
         "tone": CONNECTION_TONES.get(status, "")}
        for status in Connection.Status if status.value in found
    ]  # fmt: skip
