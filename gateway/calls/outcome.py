"""How a call ended, read off its answer as it passes."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from ..models.usage import Outcome

_FAILED: Final = re.compile(rb'"isError"\s*:\s*true')
_KEPT_BYTES: Final = 64 * 1024


class AnswerEnd:
    """Keeps the end of an answer: the whole of a small one, or the last event of a stream, which is its result.

    Nothing is decoded unless the words of a failure are there. A failure that is longer than what is kept counts as an
    answer: results are long, failures are not.
    """

    __slots__ = ("_chunks", "_size", "bytes")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = self.bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next piece."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        self.bytes += len(chunk)
        while self._size - len(self._chunks[0]) >= _KEPT_BYTES:
            self._size -= len(self._chunks.pop(0))

    def kept(self) -> tuple[bytes, bool]:
        """Return the end, and whether anything was before it."""
        return b"".join(self._chunks), self._size < self.bytes

    def outcome(self, *, status: int) -> tuple[Outcome, int]:
        """Return how it ended, and the code of the JSON-RPC error, 0 without one.

        Args:
            status: That the client got.
        """
        end, _ = self.kept()
        if b'"error"' in end or _FAILED.search(end):
            answer = _last_answer(end)
            error = answer.get("error")
            if isinstance(error, dict):
                code = error.get("code")
                return Outcome.RPC_ERROR, code if isinstance(code, int) and abs(code) < 2**31 else 0
            result = answer.get("result")
            if isinstance(result, dict) and result.get("isError") is True:
                return Outcome.TOOL_ERROR, 0
        return (Outcome.OK if status < 400 else Outcome.UPSTREAM_ERROR), 0


def _last_answer(end: bytes) -> dict[str, Any]:
    """Return the last JSON-RPC answer in a document or a stream of events; nothing where that cannot be read."""
    text = end.strip()
    if not text.startswith((b"{", b"[")):
        data = [line[5:] for line in text.splitlines() if line.startswith(b"data:")]
        text = data[-1] if data else b""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    answers = [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]
    return next((one for one in answers if "error" in one), answers[-1] if answers else {})
