"""Write down what a discovery found, and notice when a server moves to another authorization server."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.db import transaction
from django.db.models import Q

from audit.events import AuditEvent
from audit.record import record
from connections.lock_order import lock_grants
from connections.models import AuthorizationServer, Connection, McpServer, ServerDiscovery, TokenSet
from connections.server_changes import lock_target
from oauthflow.events import TAKEN_UP
from oauthflow.protocol.errors import DiscoveryError, FlowError, IssuerChangedError

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from .discover import Discovered


def keep_discovery(server: McpServer, found: Discovered, *, kept: ServerDiscovery | None, now: datetime) -> None:
    """Cache what was found for the server's TTL.

    Raises:
        IssuerChangedError: Live connections use another issuer, or another token endpoint host, than was found. They
            are stopped, nothing is sent to the new host, and an administrator has to approve. U11, R-19, R-20.
        TransportError: An administrator has changed meanwhile where the server leads.
    """
    if kept is not None and _has_moved(server, found, kept=kept):
        _stop_connections(server, found, kept=kept)
        raise IssuerChangedError(f"it used {kept.issuer} and now names {found.issuer}")
    _require_room(found)
    with transaction.atomic():
        lock_target(server)
        authorization_server, _ = AuthorizationServer.objects.update_or_create(
            issuer=_owner_of(found),
            defaults={"document": dict(found.metadata.document), "source_url": found.source_url, "fetched_at": now},
        )
        # Another look may have noticed a move since this one began.
        before = ServerDiscovery.objects.select_for_update(no_key=True).filter(server=server).first()
        ServerDiscovery.objects.update_or_create(
            server=server,
            defaults={
                "authorization_server": authorization_server,
                "issuer": found.issuer,
                "new_issuer": "",
                "resource": found.resource,
                "resource_document": found.resource_document,
                "scopes_supported": list(found.scopes_supported) if found.scopes_supported is not None else None,
                "challenge_scope": found.challenge_scope or "",
                "asks_dpop": found.asks_dpop,
                "is_legacy": found.is_legacy,
                "fetched_at": now,
                "expires_at": now + timedelta(minutes=server.metadata_ttl_minutes),
                "failed_at": None,
                "failure_code": "",
                "failure_detail": "",
            },
        )
        if before is not None and before.new_issuer:
            _release_connections(server, found, kept=before)


def _owner_of(found: Discovered) -> str:
    """Return under which issuer the document is kept for all servers: only its own origin speaks for an issuer.

    A document that one server's settings accept under a second spelling is kept by its address. U12.
    """
    fetched_from, claimed = urlsplit(found.source_url), urlsplit(found.issuer)
    is_own = not found.source_url or (fetched_from.scheme, fetched_from.netloc) == (claimed.scheme, claimed.netloc)
    return found.issuer if is_own else found.source_url


def _require_room(found: Discovered) -> None:
    """SQLite would keep an address of any length, PostgreSQL would fail in the middle of a sign-in."""
    metadata = found.metadata
    addresses = (metadata.issuer, metadata.authorization_endpoint, metadata.token_endpoint)
    if max(map(len, (*addresses, metadata.revocation_endpoint or "", found.resource, found.source_url))) > 1000:
        raise DiscoveryError("an address in the metadata is longer than 1000 characters")


def keep_failure(server: McpServer, *, error: FlowError, now: datetime) -> None:
    """Remember for a short while that discovery failed; what was found before stays."""
    with transaction.atomic():
        lock_target(server)
        ServerDiscovery.objects.update_or_create(
            server=server,
            defaults={"failed_at": now, "failure_code": error.code, "failure_detail": error.detail[:500]},
        )


def approve_issuer_change(server: McpServer, *, actor: User, now: datetime) -> bool:
    """Accept the authorization server that a server moved to; people have to sign in there anew.

    Returns:
        Whether there was a change to approve.
    """
    with transaction.atomic():
        moved = ServerDiscovery.objects.filter(server=server).exclude(new_issuer="")
        kept = moved.select_for_update(no_key=True).first()
        if kept is None:
            return False
        old, kept.issuer, kept.new_issuer = kept.issuer, kept.new_issuer, ""
        kept.authorization_server, kept.expires_at = None, None
        kept.save()
        waiting = Q(tokens__isnull=False) | Q(status=Connection.Status.ISSUER_CHANGED)
        lock_grants(Connection.objects.filter(waiting, server=server).values_list("pk", flat=True))
        Connection.objects.filter(waiting, server=server).update(
            status=Connection.Status.REAUTH_REQUIRED, reason="issuer_changed"
        )
        # Deleting them notes them to be revoked at the old one.
        TokenSet.objects.filter(connection__server=server).delete()
        record(
            AuditEvent.ISSUER_APPROVED,
            actor=actor,
            server=server.slug,
            details={"old_issuer": old, "new_issuer": kept.issuer},
        )
    return True


def _has_moved(server: McpServer, found: Discovered, *, kept: ServerDiscovery) -> bool:
    live = TokenSet.objects.filter(connection__server=server)
    if kept.issuer and kept.issuer != found.issuer:
        return live.exists()
    new_host = urlsplit(found.metadata.token_endpoint).netloc
    old_hosts = {urlsplit(endpoint).netloc for endpoint in live.values_list("token_endpoint", flat=True).distinct()}
    return bool(old_hosts - {new_host})


def _stop_connections(server: McpServer, found: Discovered, *, kept: ServerDiscovery) -> None:
    with transaction.atomic():
        lock_target(server)
        noticed = ServerDiscovery.objects.filter(pk=kept.pk).exclude(new_issuer=found.issuer)
        is_news = noticed.update(new_issuer=found.issuer)
        working = Connection.objects.filter(server=server, tokens__isnull=False).exclude(
            status=Connection.Status.ISSUER_CHANGED
        )
        lock_grants(working.values_list("pk", flat=True))
        stopped = working.update(status=Connection.Status.ISSUER_CHANGED, reason="issuer_changed")
        if is_news or stopped:
            record(
                AuditEvent.ISSUER_CHANGED,
                server=server.slug,
                details={"old_issuer": kept.issuer, "new_issuer": found.issuer},
            )


def _release_connections(server: McpServer, found: Discovered, *, kept: ServerDiscovery) -> None:
    """It names again where the stopped ones are from: nobody has to approve that, or to sign in anew."""
    stopped = Connection.objects.filter(
        server=server,
        status=Connection.Status.ISSUER_CHANGED,
        tokens__issuer=found.issuer,
        tokens__resource=found.resource,  # else an administrator has changed the target since
        tokens__resource__gt="",  # else nothing says for which target they were given
    )
    lock_grants(stopped.values_list("pk", flat=True))
    if stopped.update(status=Connection.Status.ACTIVE, reason=""):
        record(
            AuditEvent.ISSUER_CHANGED,
            server=server.slug,
            details={"old_issuer": kept.new_issuer, "new_issuer": found.issuer, "outcome": TAKEN_UP},
        )
