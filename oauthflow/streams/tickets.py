"""How a view opens a stream: it says who may have it and what is on it, and the root of the site does the rest.

Everything that is decided before the first byte (host, credentials, CSRF token, scopes, limits, what is visible) is
decided by Django as for any other request. What comes after needs neither Django nor a thread.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast
from uuid import UUID

from rest_framework.request import Request

from audit.correlation import correlation_id
from connections.authentication import AccessTokenGrant
from connections.models import ApiToken

from .places import Places

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from .stream import Stream

OPENING: Final = "oauthflow.opening"
"""Under this name the root puts an `Opening` into the ASGI scope."""


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """The right to a stream, and what is on it.

    Attributes:
        session_key: Of the session that opened it; empty where an API token did.
        session_hash: Changes with the password, and ends the session.
        frames: Gives the bytes of the stream, as long as it is open.
        is_good: Whether the access token that opened it may still be used; None where something else did.
        correlation_id: Of the request that opened it.
    """

    user_id: int
    session_key: str
    session_hash: str
    api_token_id: UUID | None
    connection_id: UUID | None
    frames: Callable[[Stream], AsyncGenerator[bytes, None]]
    is_good: Callable[[], bool] | None = None
    correlation_id: str = ""


class Opening:
    """One request for a stream, on its way through Django and back."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self.ticket: Ticket | None = None

    def admit(
        self,
        request: Request,
        *,
        frames: Callable[[Stream], AsyncGenerator[bytes, None]],
        connection_id: UUID | None = None,
    ) -> None:
        """Grant the stream to whoever asks; the view then answers 200 and nothing else.

        Raises:
            Throttled: They have too many open already.
            TransportError: This process has.
        """
        user = cast("User", request.user)
        is_program = isinstance(request.auth, ApiToken | AccessTokenGrant)
        self._places.take(user.pk)
        self.ticket = Ticket(
            user_id=user.pk,
            session_key="" if is_program else str(request.session.session_key),
            session_hash="" if is_program else user.get_session_auth_hash(),
            api_token_id=request.auth.pk if isinstance(request.auth, ApiToken) else None,
            connection_id=connection_id,
            frames=frames,
            is_good=request.auth.is_good if isinstance(request.auth, AccessTokenGrant) else None,
            correlation_id=correlation_id(),
        )

    def close(self) -> None:
        """Give the place back, if one was taken."""
        ticket, self.ticket = self.ticket, None
        if ticket is not None:
            self._places.give_back(ticket.user_id)


def opening_of(request: Request) -> Opening | None:
    """Return the opening that the root put there; None where another server than the root serves the views."""
    found = getattr(request._request, "scope", {}).get(OPENING)
    return found if isinstance(found, Opening) else None
