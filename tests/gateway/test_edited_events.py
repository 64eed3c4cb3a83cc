"""Messages in event streams are changed as a whole; everything else passes to the byte."""

from __future__ import annotations

import pytest

from gateway.forwarding.edited_events import EditedEvents
from tests.requirements import requirement


def _louder(message: bytes) -> bytes | None:
    return message.upper() if b"change" in message else None


def _edited(*pieces: bytes) -> list[bytes]:
    stream = EditedEvents(_louder)
    return [*(stream.edited(piece) for piece in pieces), stream.rest()]


@requirement("G-18")
def test_what_needs_no_change_passes_to_the_byte() -> None:
    head = b': note\n\nretry: 10\nid: 7\r\ndata: {"a":\r\ndata:1}\r\n\r\n'
    stream = head + b"data\r\revent: x\ndata:  \xc3\xa4\n\n\n\ndata: end"
    assert b"".join(_edited(stream)) == stream
    assert b"".join(_edited(*(stream[at : at + 1] for at in range(len(stream))))) == stream


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_message_is_changed_whatever_its_lines_end_with_and_wherever_it_is_cut(end: bytes) -> None:
    lines = (b"id: 1", b"data: keep", b"", b"id: 2", b"event: message", b"data: change", b"data:more", b"", b"")
    stream = end.join(lines)
    for cut in range(len(stream)):
        found = b"".join(_edited(stream[:cut], stream[cut:])).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events = [event.strip(b"\n") for event in found.split(b"\n\n") if event.strip(b"\n")]
        assert events == [b"id: 1\ndata: keep", b"id: 2\nevent: message\ndata: CHANGE\ndata: MORE"], cut


def test_an_event_is_given_on_as_soon_as_it_is_whole() -> None:
    assert _edited(b"data: a\n", b"\ndata: b", b"\n\n") == [b"", b"data: a\n\n", b"data: b\n\n", b""]


def test_the_last_event_is_changed_even_without_its_end() -> None:
    assert _edited(b"data: change") == [b"", b"data: CHANGE\n\n"]


def test_what_cannot_concern_it_passes_unseen() -> None:
    seen: list[bytes] = []
    events = EditedEvents(lambda data: seen.append(data), only_with=b"state")
    other, concerned = b'data: {"a": 1}\n\n', b'data: {"state": 1}\n\n'
    assert events.edited(other) is other
    assert b"".join(events.edited(piece) for piece in (other[:9], other[9:], concerned[:12], concerned[12:])) == (
        other + concerned
    )
    assert seen == [b'{"a": 1}', b'{"state": 1}']
