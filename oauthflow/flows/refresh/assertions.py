"""The JWT by which the platform says who this site is: from a file, the environment, or as it was entered."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from connections.grant_rules import ENVIRONMENT, FILE, receivers_of
from connections.models import McpServer
from oauthflow.protocol.errors import NotConfiguredError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.unattended import LONGEST_ASSERTION, require_assertion
from oauthflow.protocol.urls import is_below


def platform_assertion(server: McpServer, *, token_endpoint: str, now: datetime) -> Secret:
    """Return the assertion to present, read anew each time: platforms replace their files.

    Args:
        server: Whose settings say where it is.
        token_endpoint: Where it will be sent. Whoever may add servers chooses that; the operator says for each source
            below which address it has to lie.
        now: Aware UTC.

    Raises:
        NotConfiguredError: It is not there, not allowed, not for that token endpoint, no JWT, or has ended.
        SecretUnreadableError: The entered one does not open.
    """
    source = server.assertion_source
    text = _read(source, token_endpoint=token_endpoint) if source else server.assertion_sealed.reveal().reveal()
    if not text:
        raise NotConfiguredError(f"there is no assertion{f' in {source}' if source else ''}")
    return require_assertion(text, now=now)


def _read(source: str, *, token_endpoint: str) -> str:
    # Asked again here: the operator may have withdrawn it since the server was saved.
    receivers = receivers_of(source)
    if not receivers:
        raise NotConfiguredError(f"{source} is not among ASSERTION_SOURCES")
    if not any(is_below(token_endpoint, base=receiver) for receiver in receivers):
        raise NotConfiguredError(f"ASSERTION_SOURCES does not let {source} be sent to {token_endpoint}")
    if source.startswith(ENVIRONMENT):
        return os.environ.get(source.removeprefix(ENVIRONMENT), "")
    try:
        with Path(source.removeprefix(FILE)).open(encoding="ascii") as file:
            return file.read(LONGEST_ASSERTION + 1)
    except (OSError, ValueError) as error:
        raise NotConfiguredError(f"{source} cannot be read: {type(error).__name__}") from None
