"""Delete authorization requests that are over."""

from __future__ import annotations

from datetime import datetime, timedelta

from oauthflow.conf import configuration
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.codes import Code

from .held_grant import give_up
from .revoke import revoke_held


def purge_finished(*, now: datetime) -> int:
    """Erase the secrets of requests that ran out, delete those nobody asks for any more; return how many went. S05.

    Tokens of another account that nobody decided about are erased, then revoked at their server. S15.
    """
    undecided = _give_up_undecided(now=now)
    late = AuthorizationRequest.objects.filter(status=AuthorizationRequest.Status.PENDING, expires_at__lte=now)
    late.update(
        status=AuthorizationRequest.Status.EXPIRED,
        error_code="authorization_timeout",
        state_sealed="",
        code_verifier_sealed="",
        held_tokens_sealed="",
        completed_at=now,
    )
    for request in undecided:
        revoke_held(request, actor=None, now=now)
    kept_until = now - timedelta(seconds=configuration().finished_request_kept_seconds)
    deleted, _ = AuthorizationRequest.objects.over(before=kept_until).delete()
    return deleted


def _give_up_undecided(*, now: datetime) -> list[AuthorizationRequest]:
    late = AuthorizationRequest.objects.holding_tokens().filter(expires_at__lte=now)
    expired = AuthorizationRequest.Status.EXPIRED
    return [
        request
        for request in late
        if give_up(request, status=expired, code=Code.AUTHORIZATION_TIMEOUT, actor=None, now=now)
    ]
