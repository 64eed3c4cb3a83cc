"""Each call is noted: by name, size, time and outcome. Never by content, unless a server's policy says so.

Calls of tools, prompts and resources become audit records of their own. All requests are counted, by the hour, for the
pages of administrators. Both are written by a thread of its own, many calls in one transaction; nobody waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import structlog
from django.db import DatabaseError, InterfaceError, connection, transaction

from audit.append import Entry, append_many
from audit.deferred import append_deferred, append_or_defer
from audit.events import AuditEvent
from oauthflow.hot_path.batches import Batches

from ..models import CallArguments, Outcome
from ..signals import CALLS_NOTED
from .arguments import kept_arguments
from .outcome import AnswerEnd
from .usage_counts import count_calls

if TYPE_CHECKING:
    from ..callers.caller import Caller
    from ..messages.message import Message
    from ..policies.policy import Policy
    from ..targets.find import ServerRow

CAPACITY: Final = 10_000
"""How many calls may wait for their record before further ones are told to come back."""
# A transaction costs as much as a hundred records, and makes every caller's rights be looked up anew.
_GATHERING_SECONDS: Final = 0.5
# Whatever else a program asks for is counted together: it could make up a new name each time.
_METHODS: Final = frozenset(
    {
        "initialize", "ping", "tools/list", "tools/call", "prompts/list", "prompts/get", "resources/list",
        "resources/read", "resources/templates/list", "completion/complete", "server/discover", "subscriptions/listen",
    }
)  # fmt: skip
_RECORDED: Final = frozenset({"tools/call", "prompts/get", "resources/read"})
_CALLED: Final = AuditEvent.TOOL_CALLED.value
# So that somebody who goes on against a limit does not fill the audit record. They are counted.
_ONLY_COUNTED: Final = frozenset({Outcome.OVER_LIMIT})
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class NotedCall:
    """One request of a client: made when it is judged, and ended when its answer is over.

    Attributes:
        name: Of the tool or prompt; of a resource the address without its query.
        request_bytes: Of the message; of a batch in its first call only, and so are `response_bytes`.
        at: When it began, Unix seconds.
        connection: Id of the connection it went upstream with; empty: none.
        arguments: JSON with secrets masked; empty unless they are to be kept.
        answer: Gets the answer piece by piece; calls of a batch have one together.
        outcome: What it is until it ends: given up.
        status: That the client got; 0: it did not wait.
        code: Of the JSON-RPC error, whoever made it; 0: none.
    """

    server_id: UUID
    server: str
    user_id: int
    client: str
    method: str
    name: str
    request_bytes: int
    correlation_id: str
    answer: AnswerEnd
    connection: str = ""
    arguments: str = ""
    began: float = field(default_factory=time.monotonic)
    at: float = field(default_factory=time.time)
    outcome: Outcome = Outcome.CANCELLED
    status: int = 0
    code: int = 0
    response_bytes: int = 0
    milliseconds: int = 0

    def end(self, outcome: Outcome | None = None, *, status: int, code: int = 0) -> None:
        """Note that it is over.

        Args:
            outcome: None: as the answer says.
            status: That the client got; 0: it did not wait.
            code: Of the JSON-RPC error that is an answer of ours.
        """
        self.outcome, self.code = (outcome, code) if outcome is not None else self.answer.outcome(status=status)
        self.status, self.milliseconds = status, round((time.monotonic() - self.began) * 1000)
        self.response_bytes = self.answer.bytes if self.request_bytes else 0


def begin_calls(
    message: Message | None, *, server: ServerRow, caller: Caller, policy: Policy, correlation_id: str
) -> list[NotedCall]:
    """Note that a request begins, or all requests of a batch; nobody waits for anything else."""
    if message is None:
        return []
    answer = AnswerEnd()
    calls: list[NotedCall] = []
    for request in message.members or (message,):
        if request.kind == "request":
            keeps = policy.keeps_arguments and request.method == "tools/call"
            call = NotedCall(
                server_id=server.id,
                server=server.slug,
                user_id=caller.user_id,
                client=caller.client_id[:200],
                method=request.method if request.method in _METHODS else "other",
                name=_shown_name(request.method, request.name),
                request_bytes=0 if calls else len(message.body),
                correlation_id=correlation_id[:64],
                answer=answer,
                arguments=kept_arguments(request.params.get("arguments", {})) if keeps else "",
            )
            calls.append(call)
    return calls


class CallRecorder:
    """Writes what was noted. `open` it in the event loop whose calls it notes, and `close` it there."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self._capacity, self._waiting = capacity, 0
        self._gathered: list[NotedCall] = []
        self._due: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Begin the thread."""
        self._batches: Batches[Sequence[NotedCall], None] = Batches(
            _write_all, name="gateway-calls", capacity=self._capacity
        )

    async def close(self) -> None:
        """Write what waits, and end."""
        self._hand_over()
        await self._batches.close()

    @property
    def has_room(self) -> bool:
        """Whether another call may begin: what cannot be recorded is not let through."""
        return self._waiting < self._capacity

    def record(self, call: NotedCall) -> None:
        """Have a call that ended written soon, together with others. Those that began in time are never left out."""
        self._waiting += 1
        self._gathered.append(call)
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_GATHERING_SECONDS, self._hand_over)

    def _hand_over(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._gathered:
            written = self._batches.put(self._gathered)
            written.add_done_callback(partial(self._written, len(self._gathered)))
            self._gathered = []

    def _written(self, count: int, written: asyncio.Future[None]) -> None:
        self._waiting -= count
        if not written.cancelled() and (error := written.exception()) is not None:
            _log.error("calls are not recorded", name=type(error).__name__, count=count)


def _shown_name(method: str, name: str) -> str:
    """An address may hold a key in its query."""
    if method == "resources/read":
        name = name.partition("?")[0].partition("#")[0]
    return name[:128].replace("\0", "\ufffd")


def _write_all(batches: Sequence[Sequence[NotedCall]]) -> list[None]:
    _write([call for batch in batches for call in batch])
    return [None] * len(batches)


def _write(calls: Sequence[NotedCall]) -> None:
    entries = [_entry(call) for call in calls if call.method in _RECORDED and call.outcome not in _ONLY_COUNTED]
    try:
        # One transaction for both: each one makes all processes ask the database anew who may do what.
        with transaction.atomic():
            _count(calls)
            if entries:
                append_many(entries)
    except (DatabaseError, InterfaceError):
        # The server may have been restarted, or takes only one of them.
        connection.close()
        _write_apart(calls, entries)
    else:
        append_deferred()
    CALLS_NOTED.send_robust(sender=None, calls=calls)


def _write_apart(calls: Sequence[NotedCall], entries: Sequence[Entry]) -> None:
    """Keep the records whatever becomes of the counts."""
    try:
        with transaction.atomic():
            _count(calls)
    except (DatabaseError, InterfaceError) as error:
        _log.warning("calls are not counted", count=len(calls), name=type(error).__name__)
        connection.close()
    if entries:
        append_or_defer(entries)


def _count(calls: Sequence[NotedCall]) -> None:
    count_calls(calls)
    if any(call.arguments for call in calls):
        CallArguments.objects.bulk_create(
            CallArguments(
                server_id=call.server_id,
                user_id=call.user_id,
                tool=call.name,
                arguments=call.arguments,
                correlation_id=call.correlation_id,
                at=datetime.fromtimestamp(call.at, UTC),
            )
            for call in calls
            if call.arguments
        )


def _entry(call: NotedCall) -> Entry:
    outcome = call.outcome.value
    details: dict[str, Any] = {
        "method": call.method, "tool" if call.method == "tools/call" else "target": call.name,
        "outcome": outcome, "status": call.status, "milliseconds": call.milliseconds,
        "request_bytes": call.request_bytes, "response_bytes": call.response_bytes,
    }  # fmt: skip
    if call.code:
        details["code"] = call.code
    return Entry(
        event=_CALLED,
        actor=str(call.user_id),
        server=call.server,
        connection=call.connection,
        client=call.client,
        reason=outcome,
        correlation_id=call.correlation_id,
        details=details,
    )
