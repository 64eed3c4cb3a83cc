"""My connections: what I am connected to, and what I can do about it."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone

from connections.api_tokens import revoke_api_token
from connections.database_time import by_database
from connections.models import ApiToken, Connection, FlowTrace, Revocation
from connections.services import delete_connection
from oauthflow.acting_programs import acting_programs
from oauthflow.error_responses import page_context
from oauthflow.flows.call_tools import list_tools
from oauthflow.flows.refresh import refresh_connection
from oauthflow.flows.revoke import revoke_connection
from oauthflow.models import Event
from oauthflow.protocol.errors import FlowError

from .cards import connection_card, live_api_tokens, server_card, server_cards
from .departure import begin_sign_in
from .signed_in import SeeOther, SignedInRequest, leads_away, signed_in, way_back

_TRACES_SHOWN = 5
_TOOLS_NAMED = 6


@leads_away
@signed_in("GET", "HEAD")
def overview(request: SignedInRequest) -> HttpResponse:
    """Show all servers that the user may use, and the programs that act for the user."""
    # Read first: what happens while the page is made is told again.
    newest = Event.objects.newest_cursor()
    cards = server_cards(request.user)
    context = {
        "newest_event": newest,
        "cards": cards,
        "used": sorted((card for card in cards if not card.is_unused), key=lambda card: not card.needs_attention),
        "unused": [card for card in cards if card.is_unused],
        "api_tokens": live_api_tokens(request.user),
        "programs": acting_programs(request.user),
        "now": timezone.now(),
        "connected": sum(one.tone == "good" for card in cards for one in card.connections),
        "waiting": sum(one.needs_attention for card in cards for one in card.connections),
    }
    return render(request, "oauthflow/connections.html", context)


@leads_away
@signed_in("GET", "HEAD")
def detail(request: SignedInRequest, connection_id: UUID) -> HttpResponse:
    """Show one connection in full."""
    connection = _visible(request, connection_id)
    context = {
        "card": connection_card(connection, user=request.user),
        "server_card": server_card(connection.server, user=request.user),
        "tokens": connection.token_set,
        "traces": _traces(request, connection),
        "untold": _untold(connection),
    }
    return render(request, "oauthflow/connection_detail.html", context)


@signed_in("POST")
def reconnect(request: SignedInRequest, connection_id: UUID) -> HttpResponse:
    """Sign in again for a connection that exists."""
    connection = _usable(request, _managed(request, connection_id))
    try:
        return begin_sign_in(request, connection)
    except FlowError as error:
        context = {**page_context(error), "server": connection.server, "connection": connection}
        return render(request, "oauthflow/problem.html", context, status=context["status"])


@signed_in("POST")
def disconnect(request: SignedInRequest, connection_id: UUID) -> HttpResponse:
    """End the access here, and at the service as far as it lets us."""
    connection = _managed(request, connection_id)
    reason = request.POST.get("reason", "")[:200]
    is_over = revoke_connection(connection, actor=request.user, reason=reason, now=timezone.now())
    said = "" if is_over else " The service did not confirm the end yet; this site goes on telling it for a day."
    messages.success(request, f"{connection.server} is disconnected. Its tokens are deleted here.{said}")
    return way_back(request, otherwise=_here(connection))


@signed_in("POST")
def remove(request: SignedInRequest, connection_id: UUID) -> HttpResponse:
    """Take a connection out of the list that gives no access, with its name and its attempts."""
    connection = _managed(request, connection_id)
    if connection.status not in Connection.UNCONNECTED:  # by now, in another window
        messages.error(request, f"“{connection.label or connection.server}” is connected; disconnect it first.")
        return SeeOther(_here(connection))
    revoke_connection(connection, actor=request.user, reason="deleted", now=timezone.now())
    delete_connection(connection)
    messages.success(request, f"“{connection.label or connection.server}” is removed.")
    return SeeOther(reverse("oauthflow:connections"))


@signed_in("POST")
def refresh(request: SignedInRequest, connection_id: UUID) -> HttpResponse:
    """Renew the access now."""
    connection = _usable(request, _managed(request, connection_id))
    try:
        refresh_connection(connection, now=by_database(timezone.now()), actor=request.user, trigger="request")
        messages.success(request, f"The access to {connection.server} was renewed.")
    except FlowError as error:
        messages.error(request, error.message)
    return way_back(request, otherwise=_here(connection))


@signed_in("POST")
def test(request: SignedInRequest, connection_id: UUID) -> HttpResponse:
    """Ask the server for its tools and say how it went."""
    connection = _usable(request, _visible(request, connection_id))
    try:
        names = [str(tool.get("name", "")) for tool in list_tools(connection, now=timezone.now())]
        messages.success(request, _found(connection, names))
    except FlowError as error:
        messages.error(request, f"{connection.server}: {error.message}")
    return way_back(request, otherwise=_here(connection))


@signed_in("POST")
def revoke_token(request: SignedInRequest, token_id: UUID) -> HttpResponse:
    """End the token of a program that acts for the user."""
    token = get_object_or_404(ApiToken, pk=token_id, user=request.user)
    revoke_api_token(token, now=timezone.now())
    messages.success(request, f"“{token.name}” can no longer act for you.")
    return way_back(request, otherwise="/connections/")


def _visible(request: SignedInRequest, connection_id: UUID) -> Connection:
    return get_object_or_404(Connection.objects.visible_to(request.user), pk=connection_id)


def _managed(request: SignedInRequest, connection_id: UUID) -> Connection:
    """The user's own connection, a shared one for those who manage them, any for those who may delete connections."""
    if _looks_after_connections(request):
        return get_object_or_404(Connection.objects.select_related("server", "user"), pk=connection_id)
    connection = _visible(request, connection_id)
    if connection.is_shared and not request.user.has_perm("connections.manage_shared_connection"):
        raise PermissionDenied
    return connection


def _usable(request: SignedInRequest, connection: Connection) -> Connection:
    """Refuse what the user may only look at and disconnect, because its server was closed to them. Z07."""
    usable = Connection.objects.usable_by(request.user).filter(pk=connection.pk)
    if not (_looks_after_connections(request) or usable.exists()):
        raise PermissionDenied
    return connection


def _looks_after_connections(request: SignedInRequest) -> bool:
    """Whether the user keeps other people's connections going."""
    return request.user.is_staff and request.user.has_perm("connections.delete_connection")


def _here(connection: Connection) -> str:
    return f"/connections/{connection.pk}"


def _traces(request: SignedInRequest, connection: Connection) -> list[FlowTrace]:
    """The last attempts: for those who manage the connection its own, for who looks after servers the server's too."""
    concerned = Q(connection=connection)
    if request.user.is_staff and request.user.has_perm("connections.view_mcpserver"):
        concerned |= Q(connection__isnull=True)
    elif connection.is_shared and not request.user.has_perm("connections.manage_shared_connection"):
        return []
    return list(connection.server.traces.filter(concerned)[:_TRACES_SHOWN])


def _untold(connection: Connection) -> Revocation | None:
    """The end that the service was not told, or did not take; None where there is nothing to know."""
    if connection.status != Connection.Status.REVOKED:
        return None
    last = Revocation.objects.filter(connection_id=connection.pk).first()
    return last if last is not None and last.outcome != Revocation.Outcome.REVOKED else None


def _found(connection: Connection, names: list[str]) -> str:
    if not names:
        return f"{connection.server} answers. It offers no tools at the moment."
    more = f" and {len(names) - _TOOLS_NAMED} more" if len(names) > _TOOLS_NAMED else ""
    counted = "1 tool" if len(names) == 1 else f"{len(names)} tools"
    return f"{connection.server} answers and offers {counted}: {', '.join(names[:_TOOLS_NAMED])}{more}."
