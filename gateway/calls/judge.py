"""A request is held against the policy of its server on its way in, and noted on its way out."""

from __future__ import annotations

from typing import Final

from audit.correlation import correlation_id

from ..callers.caller import Caller
from ..definitions.compare import DefinitionWatch
from ..definitions.described_headers import DescribedHeaders
from ..endpoint.answers import BusyError, FailedError
from ..endpoint.exchange import ClientGoneError, Exchange
from ..forwarding.edited_events import Edit
from ..messages import Era, Message, RefusedMessageError
from ..messages.message import HEADER_MISMATCH, INVALID_REQUEST
from ..messages.parameter_headers import parameter_disagreement
from ..models import Outcome
from ..person_needed.reasons import NeedsPersonError
from ..policies.book import PolicyBook
from ..policies.call_limits import CallLimits
from ..policies.policy import ForbiddenError, Policy
from ..policies.tool_list import list_edit
from ..streams.watch import EndedHereError, RightEndedError, StreamEndedError
from ..targets.find import NotServedError
from ..targets.target import ServerRow
from .record import CallRecorder, NotedCall, begin_calls

_End = tuple[Outcome | None, int, int]  # as `NotedCall.end` takes it
# The first that fits.
_OUTCOMES: Final = (
    (ForbiddenError, Outcome.FORBIDDEN), (NotServedError, Outcome.FORBIDDEN), (RightEndedError, Outcome.FORBIDDEN),
    (BusyError, Outcome.OVER_LIMIT), (NeedsPersonError, Outcome.NEEDS_PERSON), (ClientGoneError, Outcome.CANCELLED),
    (RefusedMessageError, Outcome.RPC_ERROR), (EndedHereError, Outcome.ENDED),
    (StreamEndedError, Outcome.UPSTREAM_ERROR), (FailedError, Outcome.UPSTREAM_ERROR),
    (Exception, Outcome.FAILED_HERE),
)  # fmt: skip
_BEHIND: Final = "Calls cannot be recorded fast enough at the moment. Try again in a while."


class Judging:
    """All that policies need. `open` it in the event loop whose requests it judges, and `close` it there."""

    def __init__(self) -> None:
        self._book, self._limits = PolicyBook(), CallLimits()
        self._definitions, self._described, self._recorder = DefinitionWatch(), DescribedHeaders(), CallRecorder()
        self._parts = (self._book, self._limits, self._definitions, self._described, self._recorder)

    async def open(self) -> None:
        """Begin."""
        for part in self._parts:
            await part.open()

    async def close(self) -> None:
        """Finish what waits, and end."""
        for part in self._parts:
            await part.close()

    async def policy_for(self, server: ServerRow, *, caller: Caller) -> Policy:
        """Return what a caller may do at a server; see `PolicyBook.policy_for`."""
        return await self._book.policy_for(server, caller=caller)

    def noted(
        self, exchange: Exchange, message: Message | None, *, caller: Caller, server: ServerRow, policy: Policy
    ) -> _Noted:
        """Return what to enter: it notes how the block ends, which answers the request.

        Args:
            exchange: With the client.
            message: None for GET and DELETE, which are not noted.
            caller: Whose request it is.
            server: That is asked.
            policy: That says how much is noted.
        """
        calls = begin_calls(message, server=server, caller=caller, policy=policy, correlation_id=correlation_id())
        if calls:
            exchange.seen = calls[0].answer
        return _Noted(calls, exchange, self._recorder)

    async def admit(
        self, exchange: Exchange, message: Message | None, *, caller: Caller, server: ServerRow, policy: Policy
    ) -> Edit | None:
        """Let a request through, or refuse it; the arguments are those of `noted`.

        Returns:
            What has to see each JSON message of the answer.

        Raises:
            ForbiddenError: The policy does not allow it; the server does not see it.
            BusyError: Over a limit; nor then.
        """
        if not self._recorder.has_room:
            raise BusyError(503, _BEHIND, wait_seconds=1)
        if policy.limits.calls_per_minute is not None:
            await self._take(exchange, message, policy=policy, caller=caller, server=server)
        if message is not None:
            await self._require_allowed(exchange, message, policy=policy, server=server)
        return list_edit(message, server_id=server.id, policy=policy, watch=self._definitions)

    async def _take(
        self, exchange: Exchange, message: Message | None, *, policy: Policy, caller: Caller, server: ServerRow
    ) -> None:
        if exchange.method != "DELETE" and (message is None or message.kind != "response"):
            requests = len(message.members) if message is not None else 1
            a_minute = policy.limits.calls_per_minute
            await self._limits.take(server.id, caller.user_id, calls_per_minute=a_minute, requests=requests)

    async def _require_allowed(
        self, exchange: Exchange, message: Message, *, policy: Policy, server: ServerRow
    ) -> None:
        most = policy.limits.request_bytes
        if most is not None and len(message.body) > most:
            words = f"The message is longer than {most} bytes."
            raise ForbiddenError(INVALID_REQUEST, words, status=413, id=message.id)
        if refusal := policy.refusal_of(message):  # first: what a forbidden tool describes is not for this person
            raise refusal
        await self._require_agreement(exchange, message, server=server)

    async def _require_agreement(self, exchange: Exchange, message: Message, *, server: ServerRow) -> None:
        """Refuse a call whose headers for arguments are missing, or say something else than the arguments. G-07."""
        if message.era is not Era.MODERN or message.method != "tools/call":
            return
        wordings = await self._described.of_tool(server.id, message.name, version=self._book.version)
        if problem := parameter_disagreement(exchange.headers, wordings, message.params.get("arguments")):
            raise RefusedMessageError(HEADER_MISMATCH, problem, id=message.id)


class _Noted:
    """Ends the record of a request as the block ends."""

    __slots__ = ("_calls", "_exchange", "_recorder")

    def __init__(self, calls: list[NotedCall], exchange: Exchange, recorder: CallRecorder) -> None:
        self._calls, self._exchange, self._recorder = calls, exchange, recorder

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        outcome, status, code = _end_of(error, self._exchange)
        for call in self._calls:
            call.connection = self._exchange.connection
            call.end(outcome, status=status, code=code)
            self._recorder.record(call)


def _end_of(error: BaseException | None, exchange: Exchange) -> _End:
    if error is None:
        return None, exchange.status, 0
    if not isinstance(error, Exception):
        return Outcome.CANCELLED, 0, 0
    outcome = next(outcome for kind, outcome in _OUTCOMES if isinstance(error, kind))
    if isinstance(error, RefusedMessageError):
        return outcome, error.status, error.code
    if isinstance(error, FailedError):
        is_ours = outcome is Outcome.UPSTREAM_ERROR and error.status < 500
        return Outcome.RPC_ERROR if is_ours else outcome, error.status, 0
    # Of an answer that has not begun the client gets what the gateway makes of the error.
    untold = {Outcome.FORBIDDEN: 404, Outcome.FAILED_HERE: 503}
    return outcome, exchange.status or untold.get(outcome, 0), 0
