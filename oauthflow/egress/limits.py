"""How long an exchange may take and how much may come back; one budget per exchange, redirects included."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar, Final

from ..protocol.errors import MalformedResponseError, ResponseTimeoutError

HEADER_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one exchange.

    Attributes:
        max_bytes: Size of the body, both as sent and after decompression. 0: the body is left unread.
        connect_seconds: Name look-up, connection and TLS handshake together.
        first_byte_seconds: From the end of the request to the first byte of the response.
        total_seconds: Everything, redirects included.
        max_redirects: How many redirects of a GET are followed.
    """

    max_bytes: int
    connect_seconds: float = 3.0
    first_byte_seconds: float = 5.0
    total_seconds: float = 10.0
    max_redirects: int = 3

    METADATA: ClassVar[Limits]
    REGISTRATION: ClassVar[Limits]
    TOKEN: ClassVar[Limits]
    REFRESH: ClassVar[Limits]
    REVOCATION: ClassVar[Limits]
    CLIENT_METADATA: ClassVar[Limits]
    MCP: ClassVar[Limits]
    WEBHOOK: ClassVar[Limits]


Limits.METADATA = Limits(128 * 1024)
Limits.REGISTRATION = Limits(64 * 1024, first_byte_seconds=20.0, total_seconds=20.0)
# A code works once: giving up on a slow answer costs the user a new sign-in, so only the total counts here.
Limits.TOKEN = Limits(64 * 1024, first_byte_seconds=20.0, total_seconds=20.0)
# The answer to a refresh may hold the only valid token: it is awaited until the lease is nearly over.
Limits.REFRESH = Limits(64 * 1024, first_byte_seconds=50.0, total_seconds=50.0)
Limits.REVOCATION = Limits(64 * 1024)
Limits.CLIENT_METADATA = Limits(5 * 1024, max_redirects=0)
# Tool results carry images and files; event streams are bounded per event by the SDK as well.
Limits.MCP = Limits(16 * 1024 * 1024, total_seconds=60.0)
# The status says it all.
Limits.WEBHOOK = Limits(0, first_byte_seconds=10.0, max_redirects=0)


class Budget:
    """What is left of the limits of one exchange. Times are in seconds of the monotonic clock."""

    def __init__(self, limits: Limits, *, seconds: float | None = None) -> None:
        self.limits = limits
        self._seconds = limits.total_seconds if seconds is None else seconds
        self._deadline = time.monotonic() + self._seconds

    def seconds(self, most: float) -> float:
        """Return how long the next step may wait: at most this, never past the deadline.

        Raises:
            ResponseTimeoutError: The deadline has passed.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ResponseTimeoutError(f"no complete response within {self._seconds:.3g} s")
        return min(left, most)

    def require_size(self, size: int, *, extra: int = 0) -> None:
        """Refuse a response that is larger than allowed.

        Raises:
            MalformedResponseError: It is.
        """
        if size > self.limits.max_bytes + extra:
            raise MalformedResponseError(f"the response is larger than {self.limits.max_bytes} bytes")


# The library calls between an exchange and its socket have no room for these, so they travel beside the call.
_current: ContextVar[Budget] = ContextVar("egress_budget")


@contextmanager
def spending(budget: Budget) -> Iterator[None]:
    """Make this the budget of every connection opened and read inside the block."""
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)


def current_budget() -> Budget:
    """Return the budget of the exchange under way.

    Raises:
        LookupError: There is none, so nothing may be opened.
    """
    return _current.get()
