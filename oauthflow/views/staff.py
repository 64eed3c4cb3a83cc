"""The buttons beside a server in the admin; they come back to where they were pressed."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone

from connections.models import McpServer
from oauthflow.flows.check_server import check_server
from oauthflow.flows.keep_discovery import approve_issuer_change
from oauthflow.flows.register_client import reset_registration

from .signed_in import SeeOther, SignedInRequest, signed_in


@signed_in("POST")
def server_check(request: SignedInRequest, slug: str) -> HttpResponse:
    """Discover now and say whether people could connect."""
    server = _server(request, slug, permission="connections.view_mcpserver")
    trace = check_server(server, user=request.user, now=timezone.now())
    messages.add_message(request, messages.SUCCESS if trace.ok else messages.ERROR, trace.verdict)
    return _back_to(server)


@signed_in("POST")
def server_reset_registration(request: SignedInRequest, slug: str) -> HttpResponse:
    """Let the next sign-in register this site anew."""
    server = _server(request, slug, permission="connections.change_mcpserver")
    count = reset_registration(server, actor=request.user)
    said = "The next sign-in registers this site anew." if count else "There was no registration to reset."
    messages.success(request, said)
    return _back_to(server)


@signed_in("POST")
def server_approve_issuer(request: SignedInRequest, slug: str) -> HttpResponse:
    """Accept the sign-in service that a server moved to."""
    server = _server(request, slug, permission="connections.approve_issuer_change")
    if approve_issuer_change(server, actor=request.user, now=timezone.now()):
        messages.success(request, "The new sign-in service is approved. Everybody has to reconnect there.")
    else:
        messages.info(request, "There is no change that waits for approval.")
    return _back_to(server)


def _server(request: SignedInRequest, slug: str, *, permission: str) -> McpServer:
    if not (request.user.is_staff and request.user.has_perm(permission)):
        raise PermissionDenied
    return get_object_or_404(McpServer, slug=slug)


def _back_to(server: McpServer) -> SeeOther:
    return SeeOther(f"{reverse('admin:index')}connections/mcpserver/{server.pk}/change/")
