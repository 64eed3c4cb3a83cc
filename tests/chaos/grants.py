"""Connections whose tokens come from the strict server, made without signing in."""

from __future__ import annotations

from datetime import datetime, timedelta

from connections.models import Connection, McpServer, TokenSet
from oauthflow.protocol.secret import Secret

from .serving import ROOT as ROOT
from .serving import seen as seen
from .serving import strict_server as strict_server


def make_grants(origin: str, names: list[str], *, now: datetime, issuers: int = 1) -> list[Connection]:
    """Make a shared connection with tokens for each name, due now; the names are the families."""
    server, _ = McpServer.objects.get_or_create(slug="chaos", defaults={"name": "Chaos", "url": f"{origin}/mcp"})
    made = [Connection(server=server, label=name, status="active") for name in names]
    Connection.objects.bulk_create(made)
    tokens = []
    for number, connection in enumerate(made):
        issuer = f"{origin}/{number % issuers}"
        kept = TokenSet(
            connection=connection,
            obtained_at=now - timedelta(hours=1),
            expires_at=now + timedelta(minutes=1),
            refresh_due_at=now - timedelta(minutes=1),
            issuer=issuer,
            token_endpoint=f"{issuer}/token",
            client_id="us",
            auth_method="none",
        )
        kept.access_token_sealed = Secret(f"at-{connection.label}-0")
        kept.refresh_token_sealed = Secret(f"rt-{connection.label}-0")
        tokens.append(kept)
    TokenSet.objects.bulk_create(tokens)
    return made
