"""Delete authorization requests that are over."""

from __future__ import annotations

from datetime import datetime, timedelta

from oauthflow.conf import configuration
from oauthflow.models import AuthorizationRequest


def purge_finished(*, now: datetime) -> int:
    """Erase the secrets of requests that ran out, delete those nobody asks for any more; return how many went. S05."""
    late = AuthorizationRequest.objects.filter(status=AuthorizationRequest.Status.PENDING, expires_at__lte=now)
    late.update(
        status=AuthorizationRequest.Status.EXPIRED,
        error_code="authorization_timeout",
        state_sealed="",
        code_verifier_sealed="",
        completed_at=now,
    )
    kept_until = now - timedelta(seconds=configuration().finished_request_kept_seconds)
    deleted, _ = AuthorizationRequest.objects.over(before=kept_until).delete()
    return deleted
