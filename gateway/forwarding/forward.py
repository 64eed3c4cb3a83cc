"""A message on its way to the server, and what the server's answer means for the client. G-04, G-05, G-09.

Spec: security notes G01, G03, G05.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from connections.models import McpServer
from oauthflow.egress.relay_client import RelayClient, ServerAnswer, header_lines
from oauthflow.protocol.bearer import BearerChallenge, bearer_challenge
from oauthflow.protocol.errors import FlowError, ResponseTimeoutError
from oauthflow.protocol.scopes import usable_scopes

from ..callers.caller import Caller
from ..conf import GatewayConfiguration
from ..endpoint.answers import NO_STORE, FailedError
from ..endpoint.exchange import Exchange
from ..messages import Era, Message
from ..sessions.headers import SessionHeaders
from ..streams.watch import UnderWay, Watch
from ..targets.find import TARGETS, NeedsPersonError, Reason, Target, renew
from .edited_events import Edit
from .fresh_refusals import FreshRefusals
from .headers import Headers
from .old_sse import ask_old_server
from .relay import Relay
from .returned import Kind, kind_of, returned_headers, unexplained
from .with_credentials import send_with_credentials


@dataclass(slots=True)
class Call:
    """A request that may go to its server.

    Attributes:
        exchange: With the client.
        era: Of the request.
        message: None for GET and DELETE.
        caller: Whose call it is.
        target: Where it goes, with the caller's own credentials there.
        edit: What sees each JSON message of the answer and may change it.
        edits_only_with: Bytes without which it changes no message.
        answer_bytes: Longest answer, or event of a stream that stays open; None: as long as the gateway takes it.
    """

    exchange: Exchange
    era: Era
    message: Message | None
    caller: Caller
    target: Target
    edit: Edit | None = None
    edits_only_with: bytes = b""
    answer_bytes: int | None = None

    @property
    def stays_open(self) -> bool:
        """Whether the answer is a stream for as long as both sides want."""
        return self.exchange.method == "GET" or (
            self.message is not None and self.message.method == "subscriptions/listen"
        )

    @property
    def needs_no_answer(self) -> bool:
        """Whether the client waits for nothing but that it was taken."""
        return self.message is not None and self.message.kind in ("notification", "response")

    @property
    def outlives_client(self) -> bool:
        """Whether a client that leaves wants the server to go on: in the legacy era it may come back. G-17."""
        return self.era is Era.LEGACY and not self.stays_open


class Forwarding:
    """Sends calls and relays their answers."""

    def __init__(
        self, client: RelayClient, *, sessions: SessionHeaders, watch: Watch, limits: GatewayConfiguration
    ) -> None:
        self._client, self._sessions, self._watch, self._limits = client, sessions, watch, limits
        self._fresh_refusals = FreshRefusals()

    async def forward(self, call: Call, under_way: UnderWay) -> None:
        """Send a call, and relay the answer to its end.

        Args:
            call: The call; its target is replaced if the credentials had to be renewed.
            under_way: Of this call.

        Raises:
            NeedsPersonError: The server wants a new consent, or more of it.
            FailedError: There is no answer that could be relayed.
            ClientGoneError, StreamEndedError: See `Watch.over` and `Relay.events`.
        """
        if call.target.server.transport == McpServer.Transport.SSE and call.needs_no_answer:
            await call.exchange.whole(202, [NO_STORE], b"")  # no session there outlives its request
            return
        try:
            answer = await self._answered(call)
            try:
                await self._relay(call, answer, under_way)
            finally:
                answer.close()
        except ResponseTimeoutError as error:
            raise FailedError(504, "The server did not answer in time.") from error
        except FlowError as error:
            raise FailedError(502, "The server cannot be reached, or broke off.") from error

    async def _answered(self, call: Call) -> ServerAnswer:
        """Return an answer that is no question for credentials; those are renewed once. G-05."""
        answer = await self._sent(call)
        if answer.status == 401:
            answer.close()
            if self._fresh_refusals.is_known(call.target.connection_id, call.message):
                raise await TARGETS.give_up(call.target, ends=False)
            call.target = await renew(call.target, caller=call.caller)
            answer = await self._sent(call)
        if answer.status in (401, 403):
            challenge = answer.header(b"www-authenticate").decode("latin-1")
            answer.close()
            if answer.status == 401:
                ends = self._fresh_refusals.ends(call.target.connection_id, call.message)
                raise await TARGETS.give_up(call.target, ends=ends)
            raise _forbidden(call.target, bearer_challenge(challenge))
        self._fresh_refusals.note_taken(call.target.connection_id)
        return answer

    async def _sent(self, call: Call) -> ServerAnswer:
        exchange, target = call.exchange, call.target
        if target.server.transport == McpServer.Transport.SSE:
            return await ask_old_server(
                self._client, target, message=call.message, most_bytes=self._limits.event_line_bytes
            )
        lines = exchange.headers.judged(_lines_of_modern if call.era is Era.MODERN else _lines_of_legacy)
        session = await self._sessions.name_for_server(call) if call.era is Era.LEGACY else ""
        return await send_with_credentials(
            self._client,
            target,
            exchange.method,
            url=target.server.url,
            headers=[(b"mcp-session-id", session.encode("ascii"))] if session else (),
            lines=lines,
            body=call.message.body if call.message is not None else None,
        )

    async def _relay(self, call: Call, answer: ServerAnswer, under_way: UnderWay) -> None:
        kind = kind_of(answer)
        headers = returned_headers(answer, kind=kind)
        if call.era is Era.LEGACY:
            headers += await self._sessions.of_answer(call, answer)
        relay = Relay(answer, under_way=under_way, watch=self._watch, limits=self._limits, most_bytes=call.answer_bytes)
        if kind is Kind.EVENTS:
            under_way.deadline = self._watch.now + self._seconds_of_stream(call)
            under_way.stays_open = call.stays_open
            await relay.events(headers, edit=call.edit, only_with=call.edits_only_with)
        elif kind is Kind.DOCUMENT:
            under_way.deadline = self._watch.now + self._limits.answer_seconds
            edit = call.edit if answer.status < 300 else None  # from a refusal clients tell the era. G-09
            await relay.document(headers, edit=edit, only_with=call.edits_only_with)
        elif kind is Kind.NOTHING:
            await call.exchange.whole(answer.status, headers, b"")
        else:
            id = call.message.id if call.message is not None else None
            await call.exchange.whole(answer.status, headers, unexplained(answer.status, id=id))

    def _seconds_of_stream(self, call: Call) -> float:
        """No stream outlives the token that it was opened with, but what answers a call has the time of any answer.

        A client that finds its call's stream closed waits in vain, for it does not know why. G-24.
        """
        expires_at, least = call.caller.expires_at, 0.0 if call.stays_open else self._limits.answer_seconds
        left = self._limits.stream_seconds if expires_at is None else expires_at - time.time()
        return min(self._limits.stream_seconds, max(least, left))


def _lines_of_modern(headers: Headers) -> bytes:
    return header_lines(headers.forwarded(resumable=False))


def _lines_of_legacy(headers: Headers) -> bytes:
    return header_lines(headers.forwarded(resumable=True))


def _forbidden(target: Target, challenge: BearerChallenge | None) -> Exception:
    """Say what a 403 asks of a person, in our own words; the server's own are not for the client. G03."""
    scopes = usable_scopes((challenge.scope or "") if challenge is not None else "")
    if challenge is None or challenge.error != "insufficient_scope" or not scopes or target.connection_id is None:
        return FailedError(502, "The server does not allow this.")
    return NeedsPersonError(
        Reason.STEP_UP, target.server, connection_id=target.connection_id, label=target.label, scopes=scopes
    )
