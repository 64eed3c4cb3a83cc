"""What servers refuse although the access was renewed a moment ago: one bad tool ends no connection that works.

Kept in this process, for a moment. G-05; security notes G03.
"""

from __future__ import annotations

import time
from typing import Final
from uuid import UUID

from oauthflow.newest import Newest

from ..messages import Message

_OF_ONE_THING: Final = frozenset({"tools/call", "prompts/get", "resources/read"})
_KNOWN_SECONDS: Final = 60.0
_MOST: Final = 1000


class FreshRefusals:
    """Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._known: Newest[tuple[UUID, str], float] = Newest(most=_MOST)
        self._last: Newest[UUID, str] = Newest(most=_MOST)

    def is_known(self, connection_id: UUID | None, message: Message | None) -> bool:
        """Whether just this was refused so a moment ago: to renew once more would end in another refusal."""
        at = self._known.get((connection_id, _thing(message))) if connection_id is not None else None
        return at is not None and time.monotonic() - at < _KNOWN_SECONDS

    def ends(self, connection_id: UUID | None, message: Message | None) -> bool:
        """Note a refusal; say whether it is one of the connection.

        It is, unless it was of one tool, prompt or resource, and of no second one without anything taken in between.
        A tool that wants what nobody can give is the tool's trouble, and a shared connection is everybody's.
        """
        thing = _thing(message)
        if connection_id is None or not thing:
            return True
        self._known[connection_id, thing] = time.monotonic()
        before = self._last.get(connection_id, thing)
        self._last[connection_id] = thing
        return before != thing

    def note_taken(self, connection_id: UUID | None) -> None:
        """Note that the server took something of this connection."""
        if self._last and connection_id is not None:
            self._last.pop(connection_id, None)


def _thing(message: Message | None) -> str:
    return f"{message.method} {message.name}" if message is not None and message.method in _OF_ONE_THING else ""
