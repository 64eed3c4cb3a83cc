"""Every attempt against a server leaves a trace, whether it succeeds or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import structlog
from django.db import DatabaseError, InterfaceError, transaction

from audit.correlation import correlation_id
from audit.events import AuditEvent
from audit.record import record
from connections.models import Connection, FlowTrace, McpServer
from oauthflow.egress import Egress
from oauthflow.protocol.errors import BlockedUrlError, FlowError
from oauthflow.protocol.trace import Trace
from oauthflow.spans import span

if TYPE_CHECKING:
    from django.contrib.auth.models import User

_log: Final = structlog.get_logger(__name__)


@contextmanager
def traced(
    server: McpServer, *, kind: FlowTrace.Kind, connection: Connection | None = None, user: User | None = None
) -> Iterator[Egress]:
    """Give the way out for one attempt, and keep what was tried beside the server. A `FlowError` goes on.

    Yields:
        Egress whose every request becomes a step of the trace.
    """
    trace = Trace()
    kept = FlowTrace(server=server, connection=connection, user=user, kind=kind, correlation_id=correlation_id())
    try:
        with span(f"flow: {kind}", mcp__server=server.slug, correlation_id=kept.correlation_id):
            yield Egress(trace=trace)
    except FlowError as error:
        kept.code, kept.verdict = error.code, " ".join(filter(None, (error.message, error.detail)))
        _keep(kept, trace, error=error)
        raise
    kept.ok = True
    try:
        _keep(kept, trace, error=None)
    except (DatabaseError, InterfaceError) as problem:  # the trace is worth less than what was obtained
        _log.warning("flow.trace_not_kept", exception=type(problem).__name__)


def _keep(kept: FlowTrace, trace: Trace, *, error: FlowError | None) -> None:
    kept.steps = trace.as_json()
    with transaction.atomic():
        # Waiting for another server, we may have lost what this was about.
        if not McpServer.objects.filter(pk=kept.server_id).exists():
            return
        if kept.connection_id and not Connection.objects.filter(pk=kept.connection_id).exists():
            kept.connection = None
        kept.save()
        newest = FlowTrace.objects.filter(server=kept.server).values_list("pk", flat=True)[: FlowTrace.KEPT_PER_SERVER]
        FlowTrace.objects.filter(server=kept.server).exclude(pk__in=list(newest)).delete()
        if isinstance(error, BlockedUrlError):
            record(
                AuditEvent.EGRESS_BLOCKED,
                actor=kept.user,
                server=kept.server.slug,
                connection=kept.connection,
                details={"kind": kept.kind},
            )
