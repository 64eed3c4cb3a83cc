"""One attempt to refresh: its request, its lease, and the moment until which it may be sent. R1, R2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from connections.models import TokenSet
from connections.profiles import profile_of
from connections.services import mark_unreadable
from oauthflow.conf import configuration
from oauthflow.egress import Limits
from oauthflow.protocol.errors import SecretUnreadableError
from oauthflow.protocol.messages import Request, Response
from oauthflow.protocol.token_endpoint import TokenResponse, read_token_response, refresh_request

from ..bind_tokens import binding, bound
from ..register_client import credentials_of
from . import owners
from .unattended import unattended_request

if TYPE_CHECKING:
    from django.contrib.auth.models import User

MARGIN_SECONDS: Final = 2.0
MOST_RESENDS: Final = 1
"""How often a token is sent again after an owner died, not knowing whether it had been sent."""


@dataclass(slots=True)
class Attempt:
    """Somebody's try for one row.

    Attributes:
        token_set: The row as it was read before the claim.
        trigger: Why, for the record.
        actor: Who asked for it, None for the system.
        now: Aware UTC.
        owner: The name in the lease; empty before the claim.
        claimed_at: Monotonic seconds, before the claim was asked for.
        is_recovery: Whether somebody else claimed the same token and never said how it ended.
        asks_issuer: Whether the issuer of the tokens is being asked, and not the company's sign-in service first.
        stored: Called as soon as new tokens are in the row.
    """

    token_set: TokenSet
    trigger: str
    actor: User | None
    now: datetime
    owner: str = ""
    claimed_at: float = 0.0
    is_recovery: bool = False
    asks_issuer: bool = True
    stored: Callable[[], object] = lambda: None

    @property
    def is_given_up(self) -> bool:
        """Whether the token was sent too often without an answer; a grant without a person is just asked for again."""
        return not self.token_set.is_unattended and owners.unknown_outcomes_of(self.owner) > MOST_RESENDS

    @property
    def patience_seconds(self) -> float:
        """How long to try again to write the outcome: a person waits for less than the background does."""
        return 120.0 if self.trigger == "schedule" else 20.0

    def send_before(self) -> float:
        """Return the monotonic time until which the answer, however late, comes before the lease ends."""
        return self.claimed_at + configuration().lease_seconds - Limits.REFRESH.total_seconds - MARGIN_SECONDS


def request_of(token_set: TokenSet, *, now: datetime) -> Request | None:
    """Make the request, before the claim: what cannot be read is never claimed.

    Returns:
        None where an identity assertion has to be fetched first, which is done after the claim.

    Raises:
        SecretUnreadableError: Something stored does not open.
        NoClientError: The client that the token was given to was replaced, or what the grant needs is not there.
        InvalidRequestError: The client lacks the secret or the key that it proves itself with.
        AuthorizationRequiredError: Somebody has to sign in at the company's sign-in service first.
    """
    try:
        request = unattended_request(token_set, now=now) if token_set.is_unattended else _refresh(token_set, now=now)
        return request and bound(request, token_set.connection, token_type=token_set.asked_token_type)
    except SecretUnreadableError:
        mark_unreadable(token_set.connection)
        raise


def read_answer(attempt: Attempt, response: Response) -> TokenResponse:
    """Judge the answer to an attempt; raises as `read_token_response`."""
    token_set = attempt.token_set
    server = token_set.connection.server
    return read_token_response(
        response,
        requested_scope=token_set.scope or token_set.connection.requested_scopes,
        received_at=attempt.now,
        milliseconds=profile_of(server.profile).milliseconds,
        dpop=binding(server, token_type=token_set.asked_token_type),
    )


def _refresh(token_set: TokenSet, *, now: datetime) -> Request:
    return refresh_request(
        token_endpoint=token_set.token_endpoint,
        refresh_token=token_set.refresh_token_sealed.reveal(),
        resource=token_set.resource or None,
        client=credentials_of(
            token_set.connection.server,
            client_id=token_set.client_id,
            auth_method=token_set.auth_method,
            registration=token_set.registration,
        ),
        issuer=token_set.issuer,
        now=now,
    )
