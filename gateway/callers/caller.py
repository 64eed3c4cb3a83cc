"""Whoever calls, once a credential has said so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

StillGood = Callable[[float], Awaitable[bool]]
"""Takes the Unix second at which the credential must not have expired: now, or earlier for what may outlive it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A person of ours, and the program through which they call.

    Attributes:
        user_id: Whose connections and rights.
        subject: Stable and unlike every other's, to bind sessions to: `user:…`, a service account's client id,
            `external:<issuer>#<sub>` or `api-token:<id>`. AS19.
        client_id: The program; of an API token its name; empty where that is not known.
        scopes: What the credential may do.
        expires_at: Unix seconds; None for a credential without an end. Streams end then.
        is_still_good: Whether the same credential would still be taken; asked by open streams. G14.
    """

    user_id: int
    subject: str
    client_id: str
    scopes: frozenset[str]
    expires_at: float | None
    is_still_good: StillGood
