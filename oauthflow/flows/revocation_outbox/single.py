"""Tell the service at once, while somebody waits for the answer: one try, in the foreground."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from connections.models import Connection, FlowTrace, Revocation
from oauthflow.egress import Limits
from oauthflow.protocol.errors import FlowError

from ..attempt import traced
from ..outbox import claim
from .telling import answered, failed, request_of, step_of

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def tell_at_once(row: Revocation, *, connection: Connection, actor: User | None, now: datetime) -> bool:
    """Send what the row holds, unless a worker has it; say whether it is over. What fails is left to the worker."""
    if not claim(row, now=now):
        return False
    try:
        with traced(connection.server, kind=FlowTrace.Kind.REVOKE, connection=connection, user=actor) as http:
            is_left = True
            while is_left:
                response = http.send(request_of(row, now=now), limits=Limits.REVOCATION, step=step_of(row))
                is_left = answered(row, response, now=now)
                http.trace.verdict("done")
    except FlowError as error:
        failed(row, error, now=now)
    return row.finished_at is not None
