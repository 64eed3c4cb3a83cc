"""`Mcp-Session-Id` on its way: the client's name for a session in, the server's out, and back. G-11 to G-14.

Spec: MCP 2025-11-25, transports, session management; security notes G08.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from oauthflow.egress.relay_client import RawHeader, ServerAnswer

from ..endpoint.answers import FailedError
from ..person_needed.answer import opens_links

if TYPE_CHECKING:
    from ..forwarding.forward import Call
    from .bound import Sessions

_NAME: Final = b"mcp-session-id"
_VISIBLE: Final = re.compile(rb"[\x21-\x7e]{1,1000}")


class SessionHeaders:
    """Puts them into requests and answers of the legacy era; the modern one has no sessions and does not come here."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def name_for_server(self, call: Call) -> str:
        """Return the server's name for the session that a client names; empty if it names none.

        Raises:
            FailedError: 404, so that the client begins a new one: it is nobody's, or somebody else's.
        """
        ours = call.exchange.headers.get(_NAME)
        if ours is None:
            return ""
        name = await self._sessions.upstream_id(ours, caller=call.caller, target=call.target)
        if name is None:
            raise FailedError(404, "There is no such session.")
        return name

    async def of_answer(self, call: Call, answer: ServerAnswer) -> list[RawHeader]:
        """Return what the client gets, and keep or forget the session as the answer says."""
        ours, name = call.exchange.headers.get(_NAME), answer.header(_NAME)
        if ours is not None:
            if answer.status == 404 or (call.exchange.method == "DELETE" and answer.status < 300):
                await self._sessions.forget(ours)
            return [(_NAME, ours)] if name else []
        begins = call.message is not None and call.message.method == "initialize" and answer.status == 200
        if not begins or not _VISIBLE.fullmatch(name):
            return []
        can_open = opens_links(call.message)
        bound = await self._sessions.bind(
            name.decode("ascii"), caller=call.caller, target=call.target, opens_links=can_open
        )
        return [(_NAME, bound)]
