"""Why a call cannot go on to its server before somebody has done something, and the sentence for it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final
from uuid import UUID

from oauthflow.protocol.codes import REASONS, SENTENCES, Code
from oauthflow.protocol.errors import (
    AuthorizationRequiredError,
    FlowError,
    GrantRefusedError,
    InvalidRequestError,
    IssuerChangedError,
    SecretUnreadableError,
)

if TYPE_CHECKING:
    from ..targets.find import ServerRow

_WAIT_SECONDS: Final = 30


class Reason(StrEnum):
    """What is missing. Only the first three can be helped by the person who calls, by a link."""

    CONNECT = "connect"
    REAUTHORIZE = "reauthorize"
    STEP_UP = "step_up"
    ISSUER_CHANGED = "issuer_changed"
    KEY_MISSING = "key_missing"
    CREDENTIAL_REFUSED = "credential_refused"
    INACTIVE = "inactive"
    ADMINISTRATOR = "administrator"
    DEGRADED = "degraded"


HELPED_BY_LINK: Final = frozenset({Reason.CONNECT, Reason.REAUTHORIZE, Reason.STEP_UP})

_SENTENCES: Final = {
    Reason.CONNECT: "{server} needs your own account there. Please connect it.",
    Reason.REAUTHORIZE: "The access to {server} has ended. Please connect it again.",
    Reason.STEP_UP: "{server} asks for more permissions than were given. Please agree to them.",
    Reason.ISSUER_CHANGED: "{server} now uses another sign-in service. An administrator has to approve it first.",
    Reason.KEY_MISSING: "The stored access to {server} cannot be opened at the moment. An administrator has to look.",
    Reason.CREDENTIAL_REFUSED: "{server} refuses the credential entered for it. An administrator has to renew it.",
    Reason.INACTIVE: "{server} is switched off. An administrator can switch it on again.",
    Reason.ADMINISTRATOR: "{server} cannot be used at the moment. An administrator has to look.",
    Reason.DEGRADED: "The sign-in service of {server} does not answer as it should. Try again in a while.",
}


class NeedsPersonError(Exception):
    """Nothing may be sent to the server now.

    Attributes:
        reason: Which of the states it is.
        server: That was called.
        connection_id: That would be used; None where there is none.
        label: Which of several connections was asked for; empty: whichever.
        scopes: What the server asked for, of `STEP_UP`.
        message: Sentences for a person; nothing of the server's own text.
        wait_seconds: When to try again, of `DEGRADED`.
    """

    def __init__(
        self,
        reason: Reason,
        server: ServerRow,
        *,
        connection_id: UUID | None = None,
        label: str = "",
        scopes: frozenset[str] = frozenset(),
        detail: str = "",
        wait_seconds: int = _WAIT_SECONDS,
    ) -> None:
        self.reason, self.server, self.connection_id, self.label = reason, server, connection_id, label
        self.scopes, self.wait_seconds = scopes, wait_seconds
        self.message = f"{server.name}: {detail}" if detail else _SENTENCES[reason].format(server=server.name)
        super().__init__(self.message)

    def left_to_administrators(self, detail: str) -> NeedsPersonError:
        """Return the same where the person who calls cannot help; `detail` is a sentence about the server."""
        return NeedsPersonError(
            Reason.ADMINISTRATOR, self.server, connection_id=self.connection_id, label=self.label, detail=detail
        )


def needs_person(
    error: FlowError, *, server: ServerRow, connection_id: UUID | None, label: str = ""
) -> NeedsPersonError:
    """Say what has to be done about an error of the flows that give out tokens."""
    reason, detail, wait = Reason.ADMINISTRATOR, "", _WAIT_SECONDS
    if isinstance(error, AuthorizationRequiredError):
        is_new = error.reason in ("", "not_connected", "disconnected")
        reason = Reason.CONNECT if is_new else Reason.REAUTHORIZE
        detail = "" if is_new else _words(error.reason)
    elif isinstance(error, IssuerChangedError):
        reason = Reason.ISSUER_CHANGED
    elif isinstance(error, SecretUnreadableError):
        reason = Reason.KEY_MISSING
    elif error.retryable and not isinstance(error, GrantRefusedError):
        reason = Reason.DEGRADED
        wait = max(1, getattr(error, "retry_after", None) or _WAIT_SECONDS)
    elif not isinstance(error, InvalidRequestError):
        detail = error.message
    return NeedsPersonError(reason, server, connection_id=connection_id, label=label, detail=detail, wait_seconds=wait)


def _words(reason: str) -> str:
    """Our sentence for a code; a reason that is no code was a person's own words, and stays with that person."""
    return SENTENCES[Code(reason)].message if reason in set(Code) else REASONS.get(reason, "")
