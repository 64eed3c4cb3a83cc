"""When a server says that it cannot answer now: the statuses, and how long to wait."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import ceil

from .codes import Code
from .errors import TransportError
from .messages import Response

_UNAVAILABLE_STATUSES = frozenset({408, 429})
_LONGEST_WAIT_SECONDS = 86_400
_SECONDS = re.compile(r"[0-9]{1,10}")


class ServerUnavailableError(TransportError):
    """The server answered that it cannot serve us now. Costs nobody a login.

    Attributes:
        retry_after: Seconds to wait, at most one day; None where the server gave none that makes sense.
    """

    default_code = Code.TEMPORARILY_UNAVAILABLE

    def __init__(self, detail: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


def parse_retry_after(text: str, *, now: datetime | None) -> int | None:
    """Return the seconds that a `Retry-After` value asks to wait, 0 to 86,400, or None where it makes no sense.

    Args:
        text: Header value, seconds or an HTTP date.
        now: Aware UTC, to count from to a date; None leaves dates out.

    Spec: RFC 9110 §10.2.3.
    """
    value = text.strip()
    if _SECONDS.fullmatch(value):
        return min(int(value), _LONGEST_WAIT_SECONDS)
    if now is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # An HTTP date is always in GMT; "-0000" is parsed as naive.
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return max(0, min(ceil((aware - now).total_seconds()), _LONGEST_WAIT_SECONDS))


def require_available(response: Response, *, now: datetime | None = None) -> None:
    """Raise where the status is 408, 429 or 5xx, whatever the body says.

    Args:
        response: Any response.
        now: Aware UTC, when the response came; only for a `Retry-After` that is a date.

    Raises:
        ServerUnavailableError: `.retry_after` in seconds where the server gave one.

    Spec: RFC 9110 §15.5.9, §15.6, RFC 6585 §4. X-12.
    """
    if response.status in _UNAVAILABLE_STATUSES or response.status >= 500:
        wait = parse_retry_after(response.headers.get("retry-after", ""), now=now)
        raise ServerUnavailableError(f"status {response.status}", retry_after=wait)
