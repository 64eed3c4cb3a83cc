"""The JWT by which the platform says who this site is: from a file, the environment, or as it was entered."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from connections.grant_rules import ENVIRONMENT, FILE, is_allowed_source
from connections.models import McpServer
from oauthflow.protocol.errors import NotConfiguredError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.unattended import LONGEST_ASSERTION, require_assertion


def platform_assertion(server: McpServer, *, now: datetime) -> Secret:
    """Return the assertion to present, read anew each time: platforms replace their files.

    Raises:
        NotConfiguredError: It is not there, not allowed, no JWT, or has ended.
        SecretUnreadableError: The entered one does not open.
    """
    source = server.assertion_source
    text = _read(source) if source else server.assertion_sealed.reveal().reveal()
    if not text:
        raise NotConfiguredError(f"there is no assertion{f' in {source}' if source else ''}")
    return require_assertion(text, now=now)


def _read(source: str) -> str:
    # Asked again here: the operator may have withdrawn it since the server was saved.
    if not is_allowed_source(source):
        raise NotConfiguredError(f"{source} is not among ASSERTION_SOURCES")
    if source.startswith(ENVIRONMENT):
        return os.environ.get(source.removeprefix(ENVIRONMENT), "")
    try:
        with Path(source.removeprefix(FILE)).open(encoding="ascii") as file:
            return file.read(LONGEST_ASSERTION + 1)
    except (OSError, ValueError) as error:
        raise NotConfiguredError(f"{source} cannot be read: {type(error).__name__}") from None
