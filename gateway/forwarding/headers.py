"""Which headers go on to a server: a list of what may. G-04, G-06, G-11; security notes G01, G04."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

from oauthflow.egress.relay_client import RawHeader

from ..endpoint.answers import BadRequestError

Judgement = TypeVar("Judgement")
_OF_ONE_REQUEST: Final = frozenset({b"content-length", b"x-request-id"})
_KEPT: Final = 500

_MCP: Final = frozenset({b"mcp-protocol-version", b"mcp-method", b"mcp-name"})
_FORWARDED: Final = _MCP | {b"accept", b"content-type"}
_RESUMABLE: Final = _FORWARDED | {b"last-event-id"}
_PARAMETER: Final = b"mcp-param-"
_PRINTABLE: Final = re.compile(rb"[\t\x20-\x7e]*")
_AT_MOST_ONCE: Final = _MCP | {
    b"mcp-session-id",
    b"last-event-id",
    b"host",
    b"origin",
    b"content-type",
    b"content-length",
}
# A front server or framework that takes "_" for "-" would read these as what they resemble.
_RESEMBLED: Final = _AT_MOST_ONCE | {
    b"authorization", b"cookie", b"connection", b"transfer-encoding", b"proxy-authorization", b"forwarded",
    b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip", b"dpop",
}  # fmt: skip


class KnownHeaders:
    """Headers that came before: a program sends the same with nearly every call, and then they are the same object.

    Those that are others each time, the length and the id of a request, are left out; where any stands twice, nothing
    is known before.
    """

    def __init__(self) -> None:
        self._kept = lru_cache(maxsize=_KEPT)(Headers)

    def of(self, raw: Sequence[RawHeader], *, names: Collection[bytes]) -> Headers:
        """Return the headers of a request, with what was judged of them the last time; `names` are all, each once."""
        if len(names) != len(raw):
            return Headers(raw)
        return self._kept(tuple([header for header in raw if header[0] not in _OF_ONE_REQUEST]))


class Headers:
    """The headers of a request, in lower case as the server gives them."""

    __slots__ = ("_all", "_first", "_judged")

    def __init__(self, raw: Iterable[RawHeader]) -> None:
        self._all = list(raw)
        self._first = dict(reversed(self._all))
        self._judged: dict[Callable[[Headers], Any], Any] = {}

    def judged(self, judge: Callable[[Headers], Judgement]) -> Judgement:
        """Return what `judge` says of these headers, which depends on nothing else that changes; its errors are new."""
        try:
            found: Judgement = self._judged[judge]
        except KeyError:
            found = self._judged[judge] = judge(self)
        return found

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of a header, or None."""
        return self._first.get(name)

    def get_all(self, name: bytes) -> list[bytes]:
        """Return every value of a header."""
        if len(self._first) != len(self._all):
            return [value for found, value in self._all if found == name]
        return [self._first[name]] if name in self._first else []

    def require_clear(self) -> None:
        """Refuse headers that another server on the way might read differently.

        Raises:
            BadRequestError: One that counts once stands twice, or an underscore makes one look like another.

        Spec: RFC 9112 §6.3; security notes G04.
        """
        if len(self._first) != len(self._all):
            repeated = Counter(name for name, _ in self._all) - Counter(self._first.keys())
            if any(name in _AT_MOST_ONCE or name.startswith(_PARAMETER) for name in repeated):
                raise BadRequestError("A header that counts once was sent twice.")
        if b"_" in b"".join(self._first) and any(b"_" in name and _is_disguised(name) for name in self._first):
            raise BadRequestError("A header with an underscore resembles another one.")

    def forwarded(self, *, resumable: bool) -> list[RawHeader]:
        """Return what the server gets of a client's headers; neither credentials nor sessions are among them.

        Args:
            resumable: Whether the revision can go on after an event that was seen. G-14.

        Raises:
            BadRequestError: A value is not printable ASCII. MCP 2026-07-28 encodes all others.
        """
        allowed = _RESUMABLE if resumable else _FORWARDED
        chosen = [header for header in self._all if header[0] in allowed or header[0].startswith(_PARAMETER)]
        if not _PRINTABLE.fullmatch(b"".join([value for _, value in chosen])):
            raise BadRequestError("A header has a value that is not printable ASCII.")
        return chosen


def _is_disguised(name: bytes) -> bool:
    """An argument of a tool may have an underscore in its name; what stands before it may not."""
    plain = name.replace(b"_", b"-")
    return plain in _RESEMBLED or (plain.startswith(_PARAMETER) and not name.startswith(_PARAMETER))
