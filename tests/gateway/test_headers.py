"""Which headers may come in, and which go on to the server."""

from __future__ import annotations

import pytest

from gateway.endpoint.answers import BadRequestError
from gateway.forwarding.headers import Headers
from tests.requirements import requirement

SECRETS = (
    "authorization", "cookie", "proxy-authorization", "dpop", "x-api-key", "forwarded", "x-forwarded-for",
    "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-user", "x-real-ip", "x-original-url",
    "x-rewrite-url", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection",
    "host", "content-length", "origin", "referer", "user-agent", "accept-encoding", "via", "x-http-method-override",
    "mcp", "mcp-", "mcp-proxy", "mcp-methods", "x-mcp-method", "x-request-id", "expect", "range", "if-none-match",
)  # fmt: skip


def _forwarded(*raw: tuple[str, str], resumable: bool = True) -> list[tuple[str, str]]:
    chosen = Headers([(name.encode(), value.encode()) for name, value in raw]).forwarded(resumable=resumable)
    return [(name.decode(), value.decode()) for name, value in chosen]


@requirement("G-04", "G-11", "T-06")
@pytest.mark.parametrize("name", SECRETS)
def test_what_is_on_no_list_stays_here(name: str) -> None:
    assert _forwarded((name, "x"), ("accept", "application/json")) == [("accept", "application/json")]


@requirement("G-06", "G-11")
def test_what_mcp_needs_goes_on_untouched() -> None:
    sent = [
        ("accept", "application/json, text/event-stream"), ("content-type", "application/json"),
        ("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "=?base64?w6Q=?="),
        ("mcp-param-region", "eu west"), ("mcp-param-my_odd.name~", "=?base64?AA==?="),
    ]  # fmt: skip
    assert _forwarded(*sent, resumable=False) == sent


@requirement("G-11", "G-14")
def test_streams_can_be_resumed_in_the_older_revisions_only() -> None:
    sent = ("mcp-session-id", "abc"), ("last-event-id", "7")
    assert _forwarded(*sent, resumable=True) == [("last-event-id", "7")]
    assert _forwarded(*sent, resumable=False) == []


def test_a_nominated_header_is_neither_removed_nor_passed() -> None:
    """`Connection` removes nothing of ours, and what it names was not on the list anyway. RFC 9110 §7.6.1."""
    sent = ("connection", "mcp-method, authorization, x-secret"), ("mcp-method", "ping"), ("x-secret", "1")
    assert _forwarded(*sent) == [("mcp-method", "ping")]


@pytest.mark.parametrize("value", ["ä", "\x00", "a\x7f", "a\rb", "a\nb", "\x1b[2J", "日"])
def test_a_value_beyond_printable_ascii_is_refused(value: str) -> None:
    with pytest.raises(BadRequestError):
        _forwarded(("mcp-param-city", value))


@pytest.mark.parametrize(
    "name",
    [
        "mcp-session-id", "mcp-method", "mcp-name", "mcp-protocol-version", "host", "origin", "content-type",
        "mcp-param-city",
    ],
)  # fmt: skip
def test_a_header_that_counts_once_stands_once(name: str) -> None:
    with pytest.raises(BadRequestError):
        Headers([(name.encode(), b"a"), (b"x", b"b"), (name.encode(), b"a")]).require_clear()


@pytest.mark.parametrize(
    "name",
    [
        "mcp_session_id", "mcp-session_id", "authorization_", "content_length", "transfer_encoding", "x_forwarded_for",
        "x-forwarded_for", "mcp_method", "mcp_param_region", "mcp-param_region", "proxy_authorization", "x_real_ip",
        "last_event_id", "mcp_protocol_version",
    ],
)  # fmt: skip
def test_an_underscore_does_not_make_a_header_look_like_another(name: str) -> None:
    headers = Headers([(name.encode(), b"a")])
    if name == "authorization_":
        headers.require_clear()  # resembles nothing that anybody reads
        return
    with pytest.raises(BadRequestError):
        headers.require_clear()


def test_an_argument_may_have_an_underscore_in_its_name() -> None:
    Headers([(b"mcp-param-my_city", b"a"), (b"x_trace", b"b"), (b"accept", b"a"), (b"accept", b"b")]).require_clear()
