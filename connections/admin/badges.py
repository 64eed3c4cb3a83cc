"""States of connections, servers and attempts as marks with words."""

from __future__ import annotations

from typing import Final

from django.utils.safestring import SafeString

from audit.look_only import badge
from oauthflow.protocol.codes import SENTENCES, Code

from ..models import Connection, FlowTrace, McpServer

CONNECTION_TONES: Final = {
    Connection.Status.ACTIVE: "good",
    Connection.Status.DEGRADED: "warn",
    Connection.Status.REAUTH_REQUIRED: "warn",
    Connection.Status.ISSUER_CHANGED: "bad",
    Connection.Status.KEY_UNAVAILABLE: "bad",
}
"""All others are neither good nor bad: nothing was connected, or it was ended on purpose."""

_SERVER_TONES: Final = {McpServer.Status.ACTIVE: "good", McpServer.Status.DEPRECATED: "warn"}


def connection_badge(connection: Connection) -> SafeString:
    """Mark how a connection stands."""
    tone = CONNECTION_TONES.get(Connection.Status(connection.status), "")
    return badge(connection.get_status_display(), tone=tone)


def server_badge(server: McpServer) -> SafeString:
    """Mark whether a server is in use."""
    tone = _SERVER_TONES.get(McpServer.Status(server.status), "")
    return badge(server.get_status_display(), tone=tone)


def check_badge(ok: bool | None) -> SafeString:
    """Mark how the last check of a server ended; None: there was none."""
    if ok is None:
        return badge("Not checked")
    return badge("Ready", tone="good") if ok else badge("Problem", tone="bad")


def trace_badge(trace: FlowTrace) -> SafeString:
    """Mark how an attempt ended."""
    return badge("Worked", tone="good") if trace.ok else badge("Failed", tone="bad")


def reason_in_words(reason: str) -> str:
    """Return our sentence for a code; a reason that is no code was a person's own words and stays as it is."""
    return SENTENCES[Code(reason)].message if reason in set(Code) else reason
