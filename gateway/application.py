"""The gateway: every configured MCP server behind our address. Bare ASGI; a call reads from top to bottom here.

Spec: MCP transports, Streamable HTTP; issue rules G-01 to G-25.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any, Final, Protocol

import structlog

from audit.correlation import begin_correlation, begin_growing_correlation
from oauthflow.egress.relay_client import RawHeader, RelayClient

from .callers.bearer import refuse_token_in_query
from .callers.caller import Caller
from .callers.identify import identify
from .calls.judge import Judging
from .conf import gateway_configuration
from .endpoint.answers import JSON, NO_STORE, SERVER_ERROR, Answer, FailedError
from .endpoint.challenges import ChallengeError, challenge_answer
from .endpoint.exchange import ClientGoneError, Exchange, Receive, Send
from .endpoint.metadata import ANY_PAGE, METADATA_PREFLIGHT, metadata_answer, metadata_url
from .endpoint.origins import METHODS, allowing, preflight_answer, require_host
from .endpoint.paths import Endpoint, read_path
from .forwarding.forward import Call, Forwarding
from .forwarding.headers import Headers, KnownHeaders
from .forwarding.missing_answers import missing_answers
from .messages import Era, Message, RefusedMessageError, check_headers_without_body, error_body, read_message
from .person_needed.answer import Asking, answer_needs_person, opens_links
from .person_needed.request_state import Bound, brings_state, may_ask, redeemed, wrapping
from .policies.policy import Policy
from .sessions.bound import Sessions
from .sessions.headers import SessionHeaders
from .streams.places import Places
from .streams.rights import Rights
from .streams.watch import EndedHereError, LateError, StreamEndedError, Watch
from .targets.find import TARGETS, NeedsPersonError, NotServedError, ServerRow, find_server, find_target, holds

_METHODS: Final = frozenset({"POST", "GET", "DELETE"})
_STATE: Final = b'"requestState"'
_NOT_NOW: Final = "The gateway cannot do this at the moment."
_log = structlog.get_logger(__name__)


class HeadersOf(Protocol):
    """Says which headers the site puts on every answer, for a request that came by `http` or `https`."""

    def __call__(self, scheme: str, *, own: Mapping[str, str]) -> Iterable[RawHeader]:
        """Return them; `own` is what the answer has before."""


class Gateway:
    """Answers for the addresses of `gateway.endpoint.paths`; `open` it before and `close` it after.

    Args:
        headers_of: Of the site.
        answered: Told the method, status and seconds of every answer.
    """

    def __init__(
        self,
        *,
        headers_of: HeadersOf,
        answered: Callable[[str, int, float], None] = lambda method, status, seconds: None,
    ) -> None:
        self._answered, self._known = answered, KnownHeaders()
        self._headers = {
            scheme: [header for header in headers_of(scheme, own={}) if header[0] != b"content-type"]
            for scheme in ("http", "https")
        }

    async def open(self) -> None:
        """Begin; belongs to the running event loop from now on."""
        self._limits = limits = gateway_configuration()
        self._calls = Places(of_a_user=limits.calls_of_a_user, of_all=limits.calls)
        self._streams = Places(of_a_user=limits.streams_of_a_user, of_all=limits.streams)
        self._streams_of_server = Places(of_a_user=limits.streams_of_a_user, of_all=limits.streams)
        self._watch = Watch(limits)
        self._rights = Rights(self._watch, limits)
        self._client = RelayClient()
        self._judging = Judging()
        await self._judging.open()
        await TARGETS.open()
        sessions = SessionHeaders(Sessions(limits, threads=TARGETS.threads))
        self._forwarding = Forwarding(self._client, sessions=sessions, watch=self._watch, limits=limits)
        await self._rights.open()

    async def close(self) -> None:
        """End what is under way."""
        self.end_streams()
        await self._rights.close()
        await TARGETS.close()
        await self._judging.close()
        await self._client.close()

    def end_streams(self) -> None:
        """Let all streams end, because the process is about to stop."""
        for stream in self._watch.streams():
            stream.stop(EndedHereError("the site stops", _NOT_NOW))

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        started = time.monotonic()
        exchange = Exchange(scope, receive, send, known=self._known, added=self._headers[scope["scheme"]])
        given = exchange.request_id
        chosen = begin_correlation(given.decode("latin-1")) if given else begin_growing_correlation()
        exchange.added.append((b"x-request-id", chosen.encode()))
        try:
            await self._answer(exchange, read_path(scope))
        except NotServedError:
            await _tell(exchange, FailedError(404, "There is no such server."))
        except FailedError as error:
            await _tell(exchange, error)
        except (ClientGoneError, StreamEndedError):
            pass
        except Exception:
            _log.exception("a call failed")
            await _tell(exchange, FailedError(503, _NOT_NOW))
        self._answered(exchange.method, exchange.status, time.monotonic() - started)

    async def _answer(self, exchange: Exchange, endpoint: Endpoint | None) -> None:
        """Go through all that a request has to be before it is asked who sent it."""
        headers, is_metadata = exchange.headers, endpoint is not None and endpoint.is_metadata
        readable = ANY_PAGE if is_metadata else headers.judged(allowing)
        exchange.added += readable  # of what is refused below as well
        headers.judged(_require_meant_for_us)
        if exchange.method == "OPTIONS" and endpoint is not None and readable:
            await exchange.answer(METADATA_PREFLIGHT if is_metadata else preflight_answer(headers))
            return
        server = await find_server(endpoint.slug) if endpoint is not None else None
        if endpoint is None or server is None:
            raise NotServedError
        exchange.label = endpoint.label
        if is_metadata:
            await exchange.answer(await metadata_answer(server, method=exchange.method))
        elif exchange.method in _METHODS:
            await self._serve(exchange, server)
        else:
            raise FailedError(405, f"Use {METHODS.decode()}.", headers=((b"allow", METHODS),))

    async def _serve(self, exchange: Exchange, server: ServerRow) -> None:
        """Find out who asks for what; refusals are in the words of OAuth and of JSON-RPC."""
        try:
            if exchange.query:
                refuse_token_in_query(exchange.query)
            caller = await identify(exchange.headers, server=server)
            era, message = await self._read(exchange)
            await self._call(exchange, era, message, caller=caller, server=server)
        except ChallengeError as error:
            await exchange.answer(challenge_answer(error, metadata_url=metadata_url(server.slug)))
        except RefusedMessageError as error:
            allow = ((b"allow", b"POST"),) if error.status == 405 else ()
            await exchange.answer(Answer(error.status, error.body, (JSON, NO_STORE, *allow)))

    async def _read(self, exchange: Exchange) -> tuple[Era, Message | None]:
        if exchange.method != "POST":
            return check_headers_without_body(exchange.headers), None
        body = await exchange.body(most=self._limits.message_bytes)
        message = read_message(body, headers=exchange.headers)
        exchange.message_id = message.id
        return message.era, message

    async def _call(
        self, exchange: Exchange, era: Era, message: Message | None, *, caller: Caller, server: ServerRow
    ) -> None:
        """Have it judged and forwarded, and tell the person where something is missing."""
        declined, state = False, None
        if message is not None and may_ask(message):
            if brings_state(message):
                back = await redeemed(Bound(caller, server, message), threads=TARGETS.threads)
                message, declined = back.message, back.declined
            state = wrapping(Bound(caller, server, message))

        policy = await self._judging.policy_for(server, caller=caller)
        try:
            with self._judging.noted(exchange, message, caller=caller, server=server, policy=policy):
                edit = await self._judging.admit(exchange, message, caller=caller, server=server, policy=policy)
                target = await find_target(server, caller=caller, label=exchange.label)
                exchange.connection = target.connection
                edits = (edit, b"") if edit is not None else (state, _STATE)
                call = Call(exchange, era, message, caller, target, *edits, policy.limits.response_bytes)
                await self._forward(call, policy)
        except NeedsPersonError as error:
            can_open = opens_links(message, session_id=exchange.headers.get(b"mcp-session-id"))
            asking = Asking(message, caller, can_open, declined)
            await exchange.answer(await answer_needs_person(error, asking=asking, threads=TARGETS.flows))

    async def _forward(self, call: Call, policy: Policy) -> None:
        """Forward it, where there is a place for it, while the client waits."""
        try:
            with (
                self._place_of(call, policy),
                self._watch.over(
                    call.exchange,
                    seconds=call.target.server.timeout_seconds,
                    is_left_to_finish=call.outlives_client,
                    still_may=partial(self._still_may, call, policy),
                ) as under_way,
            ):
                await self._forwarding.forward(call, under_way)
        except StreamEndedError as error:
            _log.info("a stream was ended", outcome=str(error))
            may_resume = call.era is Era.LEGACY and isinstance(error, LateError)
            missing = missing_answers(call.message, call.exchange.seen, words=error.message, may_resume=may_resume)
            with suppress(TimeoutError):  # nobody watches any more over a client that reads nothing
                async with asyncio.timeout(self._limits.reading_seconds):
                    await call.exchange.finish(missing)
            raise

    async def _still_may(self, call: Call, policy: Policy) -> bool:
        """Ask all of it anew, as a new call would; but what answers a call may outlive the token it came with. G-24.

        A GET stream was opened with the policy of that moment, and shows the tools of it. The client opens another one.
        """
        caller, target, at = call.caller, call.target, time.time()
        if caller.expires_at is not None and not call.stays_open:
            at = min(at, caller.expires_at - 1)
        if call.exchange.method == "GET" and await self._judging.policy_for(target.server, caller=caller) != policy:
            return False
        return await caller.is_still_good(at) and await holds(target, caller=caller)

    def _place_of(self, call: Call, policy: Policy) -> AbstractContextManager[None]:
        user_id = call.caller.user_id
        if not call.stays_open:
            return self._calls.taken(user_id)
        of_both, at_most = (call.target.server.id, user_id), policy.limits.open_streams
        return _both(self._streams.taken(user_id), self._streams_of_server.taken(of_both, at_most=at_most))


@contextmanager
def _both(one: AbstractContextManager[None], other: AbstractContextManager[None]) -> Iterator[None]:
    with one, other:
        yield


def _require_meant_for_us(headers: Headers) -> None:
    headers.require_clear()
    require_host(headers)


async def _tell(exchange: Exchange, error: FailedError) -> None:
    """Answer with a JSON-RPC error; an answer that has begun is left without its end, so that nobody trusts it."""
    if not exchange.status:
        body = error_body(SERVER_ERROR, error.message, id=exchange.message_id)
        await exchange.answer(Answer(error.status, body, (JSON, NO_STORE, *error.headers)))
