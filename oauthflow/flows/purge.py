"""Delete authorization requests and entries of the outbox that are over."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from connections.lock_order import lock_free
from connections.models import Revocation
from connections.recordset import one_of
from oauthflow.conf import configuration
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.codes import Code

from .held_grant import give_up

REVOCATIONS_KEPT: Final = timedelta(days=7)


def purge_finished(*, now: datetime) -> int:
    """Erase the secrets of requests that ran out, delete those nobody asks for any more; return how many went. S05.

    Tokens of another account that nobody decided about are erased and noted to be revoked. S15.
    """
    _give_up_undecided(now=now)
    late = AuthorizationRequest.objects.filter(status=AuthorizationRequest.Status.PENDING, expires_at__lte=now)
    with transaction.atomic():
        # What somebody else is writing is left to the next look: they may wait for another of these.
        AuthorizationRequest.objects.filter(pk__in=one_of(lock_free(late))).update(
            status=AuthorizationRequest.Status.EXPIRED,
            error_code="authorization_timeout",
            state_sealed="",
            code_verifier_sealed="",
            held_tokens_sealed="",
            completed_at=now,
        )
    kept_until = now - timedelta(seconds=configuration().finished_request_kept_seconds)
    deleted, _ = AuthorizationRequest.objects.over(before=kept_until).delete()
    return deleted


def _give_up_undecided(*, now: datetime) -> None:
    expired = AuthorizationRequest.Status.EXPIRED
    for request in AuthorizationRequest.objects.holding_tokens().filter(expires_at__lte=now):
        give_up(request, status=expired, code=Code.AUTHORIZATION_TIMEOUT, actor=None, now=now)


def purge_revocations(*, now: datetime) -> int:
    """Delete what services were told, a week after; return how many went. Their secrets went before."""
    deleted, _ = Revocation.objects.over(before=now - REVOCATIONS_KEPT).delete()
    return deleted
