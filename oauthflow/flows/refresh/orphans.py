"""Answers that came for grants that had ended, of processes that died before they saw it: to be revoked as well."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from django.utils import timezone

from audit.events import AuditEvent
from audit.models import AuditRecord
from connections.models import ClientRegistration, Connection, McpServer, Revocation
from connections.renewals import Renewal, opened
from connections.revocations import Granted, note_tokens

from .spool import forget

_STORED: Final = (AuditEvent.TOKEN_REFRESHED, AuditEvent.AUTHORIZATION_COMPLETED)
_EARLIER: Final = timedelta(minutes=10)


def end_orphans(without_row: Sequence[Renewal]) -> None:
    """Note for revocation what was never stored of these answers whose rows are gone, and forget it. F23.

    What was stored ended with its row. Where the server is gone too, there is nobody left to ask as whom.
    """
    stored = _stored(without_row) if without_row else set()
    for renewal in without_row:
        if (str(renewal.connection_id), renewal.generation) in stored:
            continue
        granted, reason = _terms_of(renewal)
        if granted is not None:
            access_token, refresh_token = opened(renewal)
            note_tokens(
                granted,
                connection=Connection(pk=renewal.connection_id),
                tokens=(refresh_token, access_token),
                reason=reason,
                now=timezone.now(),
            )
        forget(renewal)


def _stored(renewals: Sequence[Renewal]) -> set[tuple[str, object]]:
    """The audit record knows what was stored, although its row is gone."""
    concerned = {str(renewal.connection_id) for renewal in renewals}
    since = min(renewal.obtained_at for renewal in renewals) - _EARLIER
    records = AuditRecord.objects.filter(event__in=_STORED, connection__in=concerned, at__gte=since)
    return {
        (connection, details.get("generation")) for connection, details in records.values_list("connection", "details")
    }


def _terms_of(renewal: Renewal) -> tuple[Granted | None, str]:
    """Under what the grant was given stands in what was noted when it ended."""
    noted = Revocation.objects.filter(kind=Revocation.Kind.GRANT, connection_id=renewal.connection_id)
    ended = noted.order_by("-created_at").first()
    server = McpServer.objects.filter(slug=renewal.server).first()
    if ended is None or server is None:
        return None, ""
    registration = ClientRegistration.objects.filter(
        server=server, issuer=ended.issuer, client_id=ended.client_id
    ).first()
    return Granted(server, ended.issuer, ended.endpoint, ended.client_id, ended.auth_method, registration), ended.reason
