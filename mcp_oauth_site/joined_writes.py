"""What a connection is given to send in one turn of the event loop goes out at its end or when told, in one piece.

A server writes the head of an answer and its body one after the other; each write costs a system call here and wakes
the client up there.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

_MOST_BYTES: Final = 64 * 1024


class JoinedWrites:
    """A transport that gathers writes; everything else is the transport's own."""

    __slots__ = ("_gathered", "_loop", "_size", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._loop = transport, asyncio.get_running_loop()
        self._gathered: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send this with the rest of the turn, or now if that is much: only what is sent can make the sender wait."""
        if not self._gathered:
            self._loop.call_soon(self.flush)
        self._gathered.append(data)
        self._size += len(data)
        if self._size > _MOST_BYTES:
            self.flush()

    def close(self) -> None:
        """Close, after what was gathered."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Send what was gathered."""
        gathered, self._gathered, self._size = self._gathered, [], 0
        if gathered and not self._transport.is_closing():
            self._transport.write(gathered[0] if len(gathered) == 1 else b"".join(gathered))
