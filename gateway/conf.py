"""Settings of the gateway: names with units, each with the reason for its default."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

_KIB = 1024
_MIB = 1024 * _KIB


@dataclass(frozen=True, slots=True)
class GatewayConfiguration:
    """What `GATEWAY` in the settings may change.

    Attributes:
        message_bytes: Of a client's message. MCP messages are small; files come back as results. G10.
        answer_bytes: Of a server's answer, as JSON or as events; of a stream that stays open, each event. G13, G16.
        edited_bytes: Of a JSON answer or event that has to be read here: a list of tools, a server's `requestState`.
        answer_seconds: How long a whole JSON answer may take. G16.
        event_line_bytes: Of one line in a server's event stream. G13.
        streams_of_a_user: Streams that stay open by nature, GET and `subscriptions/listen`. G13.
        streams: The same in each process.
        calls_of_a_user: Other requests at the same time.
        calls: The same in each process.
        heartbeat_seconds: After how long a quiet stream says that it is there. G13.
        idle_seconds: How long the answer to a call may be quiet. Streams that stay open by nature may always be. G-18.
        stream_seconds: How long any stream may live, and one that stays open never past the end of the access token.
            What answers a call has `answer_seconds` at least. G13, G-24.
        reading_seconds: How long a client may leave what we sent unread.
        session_idle_seconds: How long a session of the older revisions is kept that nobody uses. G-12.
        sessions_of_a_user: How many of them somebody may have; of more, the least recently used ends.
        rights_seconds: How often open streams are asked whether they still may be, where nothing tells of changes. G14.
        usage_days: How long counts of requests are kept, for the charts of administrators.
        arguments_days: How long arguments of calls are kept, where a policy keeps them: other people's data.
    """

    message_bytes: int = _MIB
    answer_bytes: int = 10 * _MIB
    edited_bytes: int = 2 * _MIB
    answer_seconds: float = 300.0
    event_line_bytes: int = _MIB
    streams_of_a_user: int = 10
    streams: int = 1000
    calls_of_a_user: int = 1000
    calls: int = 2000
    heartbeat_seconds: float = 15.0
    idle_seconds: float = 300.0
    stream_seconds: float = 3600.0
    reading_seconds: float = 30.0
    session_idle_seconds: float = 86_400.0
    sessions_of_a_user: int = 1000
    rights_seconds: float = 3.0
    usage_days: int = 90
    arguments_days: int = 7


def gateway_configuration() -> GatewayConfiguration:
    """Read `settings.GATEWAY`.

    Raises:
        ImproperlyConfigured: It has a name that does not exist, or a number that is not above 0.
    """
    given: dict[str, Any] = getattr(settings, "GATEWAY", {})
    return _configured(tuple(given.items()))


@lru_cache(maxsize=8)
def _configured(items: tuple[tuple[str, Any], ...]) -> GatewayConfiguration:
    given = dict(items)
    if unknown := given.keys() - {field.name for field in fields(GatewayConfiguration)}:
        raise ImproperlyConfigured(f"GATEWAY has no setting {sorted(unknown)[0]}.")
    for name, number in items:
        if number <= 0:
            raise ImproperlyConfigured(f"GATEWAY {name} has to be above 0.")
    return replace(GatewayConfiguration(), **given)
