"""Calls are recorded by name, size, time and outcome, in batches; by content only where an administrator says so."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext

from audit.models import AuditRecord
from audit.record import ALLOWED_DETAILS
from connections.models import McpServer
from gateway.calls import record as calls
from gateway.calls.arguments import MOST_BYTES, kept_arguments
from gateway.calls.outcome import AnswerEnd
from gateway.calls.record import CallRecorder, NotedCall, begin_calls
from gateway.calls.usage_counts import CLASSES_MS, Names, class_of
from gateway.models import CallArguments, Outcome, Usage
from gateway.policies.policy import Policy
from gateway.signals import CALLS_NOTED
from tests.gateway.policy_stage import caller_of, make_server, message_of, row_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def server() -> McpServer:
    return make_server()


def _call(server: McpServer, user: Any, *, method: str = "tools/call", name: str = "search", **said: Any) -> NotedCall:
    keeps = said.pop("keeps_arguments", False)
    said |= {"uri": name} if method == "resources/read" else {"name": name}
    message = message_of(method, **said)
    (call,) = begin_calls(
        message,
        server=row_of(server),
        caller=caller_of(user),
        policy=Policy(keeps_arguments=keeps),
        correlation_id="abc",
    )
    return call


def _ended(server: McpServer, user: Any, *, answer: bytes = b'{"result":{}}', **said: Any) -> NotedCall:
    call = _call(server, user, **said)
    call.answer.feed(answer)
    call.end(status=200)
    return call


def test_a_call_is_an_audit_record(server: McpServer, alice: User) -> None:
    call = _ended(server, alice, arguments={"query": "the merger"})
    call.milliseconds = 12
    calls._write([call])
    kept = AuditRecord.objects.get()
    assert (kept.event, kept.actor, kept.server, kept.client, kept.reason, kept.correlation_id) == (
        "tool.called", str(alice.pk), "notes", "program", "ok", "abc",
    )  # fmt: skip
    assert kept.details == {
        "method": "tools/call", "tool": "search", "outcome": "ok", "status": 200, "milliseconds": 12,
        "request_bytes": call.request_bytes, "response_bytes": 13,
    }  # fmt: skip
    assert kept.details.keys() <= ALLOWED_DETAILS
    assert "merger" not in str(AuditRecord.objects.values())
    assert not CallArguments.objects.exists()


@pytest.mark.parametrize(
    ("method", "name", "kept"),
    [
        ("resources/read", "https://x.example/a?key=SECRET#SECRET", "https://x.example/a"),
        ("prompts/get", "greet", "greet"),
    ],
)
def test_prompts_and_resources_are_recorded_too(
    server: McpServer, alice: User, method: str, name: str, kept: str
) -> None:
    calls._write([_ended(server, alice, method=method, name=name)])
    assert AuditRecord.objects.get().details["target"] == kept
    assert "SECRET" not in str(AuditRecord.objects.values())


@pytest.mark.parametrize("method", ["tools/list", "ping", "initialize"])
def test_what_reads_and_does_nothing_is_only_counted(server: McpServer, alice: User, method: str) -> None:
    calls._write([_ended(server, alice, method=method, name="")])
    assert not AuditRecord.objects.exists()
    assert Usage.objects.get().method == method


def test_whoever_goes_on_against_a_limit_does_not_fill_the_record(server: McpServer, alice: User) -> None:
    call = _call(server, alice)
    call.end(Outcome.OVER_LIMIT, status=429, code=-32000)
    forbidden = _call(server, alice)
    forbidden.end(Outcome.FORBIDDEN, status=200, code=-32602)
    calls._write([call, forbidden])
    kept = AuditRecord.objects.get()
    assert (kept.reason, kept.details["code"]) == ("forbidden", -32602)
    assert set(Usage.objects.values_list("outcome", flat=True)) == {"over_limit", "forbidden"}


# ---- Outcome

_FAILED = b'{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no"}}'
_IS_ERROR = b'{"id":7,"result":{"content":[],"isError": true}}'


@pytest.mark.parametrize(
    ("answer", "status", "wanted"),
    [
        (b'{"id":7,"result":{"content":[]}}', 200, ("ok", 0)),
        (b'{"id":7,"result":{"isError":false}}', 200, ("ok", 0)),
        (b'{"id":7,"result":{"structuredContent":{"isError":true,"error":{"code":5}}}}', 200, ("ok", 0)),
        (_IS_ERROR, 200, ("tool_error", 0)),
        (_FAILED, 404, ("rpc_error", -32601)),
        (b'{"error":{"code":"x"}}', 200, ("rpc_error", 0)),
        (b'{"error":{"code":1' + b"0" * 400 + b"}}", 200, ("rpc_error", 0)),
        (b': hi\n\ndata: {"method":"x"}\n\nid: 4\ndata: ' + _IS_ERROR + b"\n\n", 200, ("tool_error", 0)),
        (b"data: " + _FAILED + b"\r\n\r\n", 200, ("rpc_error", -32601)),
        (b"[" + _IS_ERROR + b"," + _FAILED + b"]", 200, ("rpc_error", -32601)),
        (b'{"result":{"text":"' + b"x" * 500_000 + b'"}}', 200, ("ok", 0)),
        (b"data: {" + b"x" * 100_000 + b'}\n\ndata: ' + _IS_ERROR + b"\n\n", 200, ("tool_error", 0)),
        (b'{"error"', 200, ("ok", 0)),
        (b"[" * 50_000 + b'"error"', 200, ("ok", 0)),
        (b"", 202, ("ok", 0)),
        (b"", 502, ("upstream_error", 0)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pieces", [1000, 1_000_000])
def test_the_outcome_is_read_off_the_answer(answer: bytes, status: int, wanted: tuple[str, int], pieces: int) -> None:
    end = AnswerEnd()
    for start in range(0, len(answer), pieces):
        end.feed(answer[start : start + pieces])
    outcome, code = end.outcome(status=status)
    assert (outcome.value, code) == wanted
    assert end.bytes == len(answer)


def test_of_a_long_answer_little_is_kept() -> None:
    end = AnswerEnd()
    for _ in range(1000):
        end.feed(b"x" * 10_000)
    assert sum(map(len, end._chunks)) < 100_000


# ---- Content


def test_arguments_are_kept_only_where_the_policy_says_so(server: McpServer, alice: User) -> None:
    calls._write([_ended(server, alice, arguments={"query": "the merger"}, keeps_arguments=True)])
    kept = CallArguments.objects.get()
    assert (kept.tool, json.loads(kept.arguments), kept.user, kept.server) == (
        "search", {"query": "the merger"}, alice, server,
    )  # fmt: skip
    assert kept.correlation_id == AuditRecord.objects.get().correlation_id
    assert "merger" not in str(AuditRecord.objects.values())
    alice.delete()
    assert not CallArguments.objects.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        {"api_key": "SECRET"},
        {"nested": [{"Password": "SECRET"}]},
        {"header": "Bearer SECRET"},
        {"url": "https://x.example/?token=SECRET"},
        {"text": "password=SECRET"},
        {"token": {"deep": "SECRET"}},
        {"text": "SECRETabcdefghijklmnopqrstuvwxyz0123456789"},
        {"password=SECRET": 1},
    ],
)
def test_secrets_in_arguments_are_masked(arguments: dict[str, object]) -> None:
    assert "SECRET" not in kept_arguments(arguments)


@pytest.mark.parametrize("text", ["plain " * 5000, "ü" * 5000, "\0"])
def test_long_arguments_are_cut_between_characters(server: McpServer, alice: User, text: str) -> None:
    kept = kept_arguments({"text": text})
    assert len(kept.encode()) <= MOST_BYTES
    calls._write([_ended(server, alice, arguments={"text": text}, keeps_arguments=True)])
    assert CallArguments.objects.count() == 1


# ---- Counts


@pytest.mark.parametrize(("ms", "wanted"), [(0, 5), (5, 5), (6, 10), (30_000, 30_000), (30_001, 0)])
def test_a_time_belongs_to_the_class_that_ends_at_or_after_it(ms: int, wanted: int) -> None:
    assert class_of(ms) == wanted
    assert list(CLASSES_MS) == sorted(CLASSES_MS)


def test_counts_of_an_hour_add_up(server: McpServer, alice: User, bob: User) -> None:
    for _ in range(2):
        batch = [_ended(server, alice), _ended(server, alice), _ended(server, bob), _ended(server, alice, name="read")]
        for call, ms in zip(batch, (3, 4, 3, 700), strict=True):
            call.milliseconds = ms
        calls._write(batch)
    rows = Usage.objects.order_by("user_id", "name").values_list("user_id", "name", "up_to_ms", "count", "milliseconds")
    assert list(rows) == [
        (alice.pk, "read", 1000, 2, 1400), (alice.pk, "search", 5, 4, 14), (bob.pk, "search", 5, 2, 6),
    ]  # fmt: skip
    row = Usage.objects.get(user_id=alice.pk, name="search")
    assert (row.request_bytes, row.response_bytes) == (4 * _call(server, alice).request_bytes, 4 * 13)
    assert (row.hour.minute, row.hour.second, row.hour.microsecond) == (0, 0, 0)


def test_made_up_names_fill_no_table(server: McpServer, alice: User) -> None:
    hour = datetime(2026, 11, 21, 12, tzinfo=UTC)
    names = Names(most=2)
    counted = [names.bounded(name, server="notes", hour=hour) for name in ("a", "b", "c", "a", "d")]
    assert counted == ["a", "b", "(others)", "a", "(others)"]
    assert names.bounded("c", server="other", hour=hour) == "c"
    assert names.bounded("c", server="notes", hour=hour + timedelta(hours=1)) == "c"
    assert _call(server, alice, method="made/up", name="x").method == "other"


# ---- Batches


def test_many_calls_are_few_statements(server: McpServer, alice: User) -> None:
    batch = [_ended(server, alice) for _ in range(100)]
    with CaptureQueriesContext(connection) as one:
        calls._write(batch[:1])
    with CaptureQueriesContext(connection) as many:
        calls._write(batch)
    assert len(many) <= len(one) + 1


@pytest.mark.django_db(transaction=True)
def test_nothing_that_was_noted_is_lost_at_the_end(server: McpServer, alice: User) -> None:
    noted: list[NotedCall] = []

    def receive(calls: list[NotedCall], **said: object) -> None:
        noted.extend(calls)

    CALLS_NOTED.connect(receive)

    async def serve() -> None:
        recorder = CallRecorder()
        await recorder.open()
        for _ in range(1200):
            recorder.record(_ended(server, alice))
        await recorder.close()

    asyncio.run(serve())
    CALLS_NOTED.disconnect(receive)
    assert AuditRecord.objects.count() == 1200 == len(noted)
    assert sum(Usage.objects.values_list("count", flat=True)) == 1200


@pytest.mark.django_db(transaction=True)
def test_where_records_cannot_keep_up_no_further_call_is_let_through(
    server: McpServer, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    may_write = threading.Event()
    write = calls._write

    def slow(batch: Any) -> None:
        may_write.wait(10)
        write(batch)

    monkeypatch.setattr(calls, "_write", slow)

    async def serve() -> list[bool]:
        recorder = CallRecorder(capacity=6)
        await recorder.open()
        room = []
        for _ in range(10):
            room.append(recorder.has_room)
            recorder.record(_ended(server, alice))
        may_write.set()
        async with asyncio.timeout(10):
            while not recorder.has_room:
                await asyncio.sleep(0.01)
        await recorder.close()
        return room

    assert asyncio.run(serve()) == [True] * 6 + [False] * 4
    assert AuditRecord.objects.count() == 10


def test_a_database_that_cannot_count_still_gets_the_record(
    server: McpServer, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(batch: object) -> None:
        raise DatabaseError("full")

    monkeypatch.setattr(calls, "_count", full)
    monkeypatch.setattr(calls, "connection", type("Connection", (), {"close": lambda self: None})())
    calls._write([_ended(server, alice)])
    assert AuditRecord.objects.count() == 1
