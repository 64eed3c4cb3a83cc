"""A person said yes or no; what the client gets, and when."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from audit.events import AuditEvent
from audit.record import record
from connections.lock_order import lock_by_key
from connections.models import Connection, McpServer
from connections.services import connection_for, default_connection

from ..conf import authserver_configuration, issuer
from ..models import Consent, McpClient, PendingAuthorization, fingerprint_of
from ..protocol.authorization_request import Answerable
from ..protocol.authorization_response import code_response, error_response
from ..protocol.errors import AccessDeniedError, InvalidRequestError
from ..protocol.redirect_uri import shown_host
from .issue_code import issue_authorization_code

Policy = McpServer.ConnectionPolicy


def answerable_of(pending: PendingAuthorization) -> Answerable:
    """Where the answer goes."""
    state = pending.state_sealed.reveal().reveal()
    return Answerable(pending.redirect_uri, pending.registered_redirect_uri, state[1:] if state else None)


def deny(pending: PendingAuthorization, *, now: datetime) -> str:
    """Refuse what a client asks; return where the browser goes.

    Raises:
        InvalidRequestError: It was decided before, or it is too late.

    Spec: RFC 6749 §4.1.2.1. AS10.
    """
    with transaction.atomic():
        _claim(pending, decided_at=now, answered_at=now, now=now)
        _record(AuditEvent.CONSENT_DENIED, pending)
    return error_response(
        answerable_of(pending), issuer=issuer(), error=AccessDeniedError("The person did not allow it.")
    )


def cancel(pending: PendingAuthorization, *, now: datetime) -> str:
    """Give up before the client got its code, although the person had allowed it; return where the browser goes.

    Raises:
        InvalidRequestError: The client has been answered before.
    """
    if not PendingAuthorization.objects.filter(pk=pending.pk, answered_at__isnull=True).update(answered_at=now):
        raise InvalidRequestError("This question was answered before.")
    return error_response(answerable_of(pending), issuer=issuer(), error=AccessDeniedError("The person gave up."))


def allow(pending: PendingAuthorization, *, now: datetime) -> None:
    """Keep that the person allowed it. The code is made by `answer`, once the upstream sign-in is there as well.

    Raises:
        InvalidRequestError: It was decided before, it is too late, or the client is gone or blocked meanwhile.

    Spec: MCP security best practices, consent. P-01, P-02, AS08, AS10.
    """
    with transaction.atomic():
        _claim(pending, decided_at=now, now=now)
        # Locked: whoever blocks or changes the client at this moment is waited for, and then asked about. And the
        # client before the consent: the order in which everybody locks the two.
        lock_by_key(McpClient.objects.filter(pk=pending.client_id))
        _require_usable(pending, now=now)
        McpClient.objects.filter(pk=pending.client_id).update(last_used_at=now, expires_at=None)
        pending.connection = _connection(pending)
        pending.consent = _consent(pending, now=now)
        # A sign-in at another service may follow, and that takes its time as well.
        pending.expires_at = now + timedelta(minutes=authserver_configuration().consent_minutes)
        pending.save(update_fields=["connection", "consent", "expires_at"])
        _record(AuditEvent.CONSENT_GRANTED, pending)


def awaits_upstream(pending: PendingAuthorization) -> bool:
    """Whether the person has to sign in at the server's own service before the client gets its code. P-14."""
    if pending.connection is None:
        return False
    pending.connection.refresh_from_db(fields=["status"])
    return pending.connection.status not in Connection.WORKING


def answer(pending: PendingAuthorization, *, now: datetime) -> str:
    """Make the code that was allowed, once; return where the browser goes.

    Raises:
        InvalidRequestError: It was answered before, it is too late, or the consent was taken back meanwhile.

    Spec: RFC 6749 §4.1.2. X-01, AS06, AS10.
    """
    with transaction.atomic():
        # Locked: whoever takes the consent back at this moment waits, and then ends what is made here.
        stands = Consent.objects.standing().select_for_update(no_key=True).filter(pk=_given(pending).pk).first()
        open_still = PendingAuthorization.objects.filter(pk=pending.pk, answered_at__isnull=True, expires_at__gt=now)
        if stands is None or not open_still.update(answered_at=now):
            raise InvalidRequestError("This question was answered before, or the answer came too late.")
        _require_usable(pending, now=now)
        code = issue_authorization_code(
            _given(pending),
            redirect_uri=pending.redirect_uri,
            code_challenge=pending.code_challenge,
            now=now,
            browser_hash=pending.browser_hash,
        )
    return code_response(answerable_of(pending), issuer=issuer(), code=code)


def _given(pending: PendingAuthorization) -> Consent:
    if pending.consent is None:
        raise InvalidRequestError("Nobody has allowed this.")
    return pending.consent


def _claim(pending: PendingAuthorization, *, now: datetime, **decided: datetime) -> None:
    open_still = PendingAuthorization.objects.filter(
        pk=pending.pk, decided_at__isnull=True, answered_at__isnull=True, expires_at__gt=now
    )
    if not open_still.update(**decided):
        raise InvalidRequestError("This question was answered before, or the answer came too late.")


def _require_usable(pending: PendingAuthorization, *, now: datetime) -> None:
    """Nothing of what was checked at the start is taken for granted minutes later."""
    pending.client.refresh_from_db()
    gone = not pending.client.is_usable(now=now)
    moved = pending.registered_redirect_uri not in pending.client.redirect_uris
    if gone or moved:
        raise InvalidRequestError("This program has changed or is blocked. Start again from there.")
    if pending.server and not McpServer.objects.usable_by(pending.user).filter(pk=pending.server.pk).exists():
        raise InvalidRequestError("You may not use this server any more.")


def _connection(pending: PendingAuthorization) -> Connection | None:
    """The upstream sign-in that the grant stands on: the person's own where there has to be one."""
    server, user = pending.server, pending.user
    if server is None or server.auth_type != McpServer.AuthType.OAUTH:
        return None
    found = default_connection(user, server)
    if found is not None and found.status in Connection.WORKING:
        return found
    # A shared one is for administrators to bring back; nobody waits here for that.
    return None if server.connection_policy == Policy.SHARED else connection_for(user, server, actor=user)


def _consent(pending: PendingAuthorization, *, now: datetime) -> Consent:
    fingerprint = fingerprint_of(
        redirect_uri=pending.registered_redirect_uri, resource=pending.resource, scope=pending.scope
    )
    kept, is_new = Consent.objects.standing().get_or_create(
        user=pending.user,
        client=pending.client,
        fingerprint=fingerprint,
        revoked_at=None,
        defaults={
            "redirect_uri": pending.registered_redirect_uri,
            "resource": pending.resource,
            "scope": pending.scope,
            "server": pending.server,
            "connection": pending.connection,
            "granted_at": now,
        },
    )
    if not is_new and kept.connection_id != (pending.connection.pk if pending.connection else None):
        kept.connection = pending.connection
        kept.save(update_fields=["connection"])
    return kept


def _record(event: AuditEvent, pending: PendingAuthorization) -> None:
    record(
        event,
        actor=pending.user,
        server=pending.server.slug if pending.server else "",
        connection=pending.connection_id,
        client=pending.client.client_id,
        details={
            "host": shown_host(pending.redirect_uri),
            "label": pending.client.name,
            "resource": pending.resource,
            "scope": pending.scope,
            "request": pending.pk,
        },
    )
