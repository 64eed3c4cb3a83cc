"""One row of the outbox: the next request of it, and what an answer or a failure makes of it.

A grant takes two requests, the refresh token first: it is the grant. Servers that end only what they are told get both.
Every request may be sent twice without harm, so that a claim that was lost costs nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from django.db import transaction

from audit.events import AuditEvent
from audit.record import record
from connections.models import Revocation
from connections.models.revocation import SECRETS
from oauthflow.protocol.errors import FlowError, TransportError
from oauthflow.protocol.messages import Request, Response
from oauthflow.protocol.registration import deletion_request, read_deletion_response
from oauthflow.protocol.retry_after import ServerUnavailableError
from oauthflow.protocol.revocation import read_revocation_response, revocation_request

from ..outbox import pause_after, write_back
from ..register_client import credentials_with

UPSTREAM: Final = "upstream"
"""`target` of audit records that say how it ended at the service, as opposed to here."""
_ERASED: Final = dict.fromkeys(SECRETS, "")


def step_of(row: Revocation) -> str:
    """Say which request is next, for the trace."""
    return "delete registration" if row.kind == Revocation.Kind.REGISTRATION else f"revoke {_hint(row)}"


def request_of(row: Revocation, *, now: datetime) -> Request:
    """Make the next request.

    Raises:
        SecretUnreadableError: A host with other keys has to do it.

    Spec: RFC 7009 §2.1, RFC 7592 §2.3.
    """
    if row.kind == Revocation.Kind.REGISTRATION:
        return deletion_request(row.endpoint, registration_access_token=row.registration_access_token_sealed.reveal())
    sealed = row.refresh_token_sealed or row.access_token_sealed
    return revocation_request(
        endpoint=row.endpoint,
        token=sealed.reveal(),
        hint=_hint(row),
        client=credentials_with(
            row.client_secret_sealed.reveal() or None, client_id=row.client_id, auth_method=row.auth_method
        ),
        issuer=row.issuer,
        now=now,
    )


def answered(row: Revocation, response: Response, *, now: datetime) -> bool:
    """Take the answer to a claimed row's request in; say whether there is another request to send.

    Raises:
        FlowError: The server did not do it.
    """
    if row.kind == Revocation.Kind.REGISTRATION:
        _finish(row, _named(read_deletion_response(response)), now=now)
        return False
    said = _named(read_revocation_response(response))
    # What is said of the refresh token is said of the grant.
    outcome = row.outcome or said
    if not (row.refresh_token_sealed and row.access_token_sealed):
        _finish(row, outcome, now=now)
        return False
    row.outcome, row.refresh_token_sealed = outcome, ""
    return write_back(row, outcome=outcome, refresh_token_sealed="")


def failed(row: Revocation, error: FlowError, *, now: datetime) -> None:
    """Try again after a pause, or give up after a day. Where the whole server is away, its other rows wait as well."""
    if now >= row.give_up_at:
        _finish(row, Revocation.Outcome.GIVEN_UP, now=now, error=error.code)
        return
    asked = error.retry_after if isinstance(error, ServerUnavailableError) else None
    until = min(now + pause_after(row.attempts, asked_seconds=asked), row.give_up_at)
    write_back(row, next_attempt_at=until, last_error=error.code)
    if isinstance(error, TransportError):
        Revocation.objects.filter(issuer=row.issuer, next_attempt_at__lt=until).update(next_attempt_at=until)


def _finish(row: Revocation, outcome: str, *, now: datetime, error: str = "") -> None:
    """End it with its audit record and without its secrets, once."""
    with transaction.atomic():
        if not write_back(row, **_ERASED, outcome=outcome, finished_at=now, next_attempt_at=None, last_error=error):
            return
        record(
            AuditEvent.CREDENTIALS_REVOKED,
            server=row.server,
            connection=row.connection_id,
            reason=error or row.reason,
            details={
                "target": UPSTREAM,
                "kind": row.kind,
                "outcome": outcome,
                "issuer": row.issuer,
                "count": row.attempts,
            },
        )
    row.outcome, row.finished_at = outcome, now


def _named(is_done: bool) -> Revocation.Outcome:
    return Revocation.Outcome.REVOKED if is_done else Revocation.Outcome.UNSUPPORTED


def _hint(row: Revocation) -> Literal["refresh_token", "access_token"]:
    return "refresh_token" if row.refresh_token_sealed else "access_token"
