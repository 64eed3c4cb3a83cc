"""When a server cannot answer now."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import TransportError
from oauthflow.protocol.messages import Response
from oauthflow.protocol.retry_after import ServerUnavailableError, parse_retry_after, require_available
from tests.requirements import requirement

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("1", 1),
        (" 120 ", 120),
        ("86400", 86_400),
        ("86401", 86_400),
        ("9999999999", 86_400),
        ("Sat, 21 Nov 2026 12:01:30 GMT", 90),
        ("Sat, 21 Nov 2026 12:01:30 -0000", 90),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
        ("Sat, 21 Nov 2037 12:00:00 GMT", 86_400),
    ],
)
def test_seconds_and_dates_are_read(text: str, seconds: int) -> None:
    assert parse_retry_after(text, now=NOW) == seconds


@pytest.mark.parametrize(
    "text", ["", "-1", "1.5", "soon", "1e3", "NaN", "99999999999", "Sat, 32 Nov 2026 12:00:00 GMT"]
)
def test_what_makes_no_sense_is_none(text: str) -> None:
    assert parse_retry_after(text, now=NOW) is None


def test_a_date_without_a_clock_is_none() -> None:
    assert parse_retry_after("Sat, 21 Nov 2026 12:01:30 GMT", now=None) is None


@given(st.text())
def test_no_header_value_raises(text: str) -> None:
    found = parse_retry_after(text, now=NOW)
    assert found is None or 0 <= found <= 86_400


def test_a_date_with_an_endless_offset_does_not_raise() -> None:
    assert parse_retry_after("Sat, 21 Nov 2026 12:00:00 +" + "9" * 30, now=NOW) is None


@requirement("X-12")
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_an_unavailable_server_is_a_retryable_transport_error(status: int) -> None:
    with pytest.raises(TransportError) as unavailable:
        require_available(Response(status, headers={"retry-after": "7"}), now=NOW)
    assert isinstance(unavailable.value, ServerUnavailableError)
    assert unavailable.value.retry_after == 7
    assert unavailable.value.code == Code.TEMPORARILY_UNAVAILABLE
    assert unavailable.value.retryable
    assert not unavailable.value.requires_reauthorization


def test_an_unavailable_server_need_not_say_for_how_long() -> None:
    with pytest.raises(ServerUnavailableError) as unavailable:
        require_available(Response(503))
    assert unavailable.value.retry_after is None


@pytest.mark.parametrize("status", [200, 201, 204, 302, 400, 401, 403, 404, 499])
def test_every_other_status_passes(status: int) -> None:
    require_available(Response(status))
