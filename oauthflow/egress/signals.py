"""What other parts may listen to: every request that was sent to another server, or refused to be."""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal

from ..protocol.errors import (
    BlockedUrlError,
    MalformedResponseError,
    ResponseTimeoutError,
    TransportError,
)

REQUEST_DONE: Final = Signal()
"""Sent with `step` (a name of ours), `outcome` (see `outcome_of`) and `seconds`."""


def outcome_of(*, status: int | None, error: BaseException | None = None) -> str:
    """Name how a request ended: `2xx` … `5xx`, or `blocked`, `timeout`, `malformed`, `unreachable`, `abandoned`."""
    if status is not None:
        return f"{status // 100}xx"
    for kind, name in _NAMES.items():
        if isinstance(error, kind):
            return name
    return "abandoned"


def tell_request_done(step: str, *, status: int | None, error: BaseException | None, seconds: float) -> None:
    """Send `REQUEST_DONE`; a listener that fails disturbs nobody."""
    if REQUEST_DONE.receivers:
        REQUEST_DONE.send_robust(
            sender=None, step=step, outcome=outcome_of(status=status, error=error), seconds=seconds
        )


# A timeout is a TransportError too, so it stands first.
_NAMES: Final[dict[type[BaseException], str]] = {
    BlockedUrlError: "blocked",
    ResponseTimeoutError: "timeout",
    MalformedResponseError: "malformed",
    TransportError: "unreachable",
}
