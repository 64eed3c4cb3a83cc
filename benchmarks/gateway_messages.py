"""What it costs to read a message of a client, beside parsing and writing the same JSON without a look at it.

`python -m benchmarks.gateway_messages`: CPU of one call each, in alternating rounds, and the ratio in each round.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

from gateway.messages import read_message

_VERSION: Final = "2026-07-28"
_ROUNDS: Final = 15
_CALLS: Final = 5000
_META: Final = {
    "io.modelcontextprotocol/protocolVersion": _VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
_PARAMS: Final = {"name": "search", "arguments": {"query": "roadmap"}, "_meta": _META}
_BODY: Final = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": _PARAMS}).encode()


class _Headers:
    """What a client of that revision sends."""

    def __init__(self) -> None:
        self._sent = {
            b"host": [b"localhost"], b"authorization": [b"Bearer x"], b"content-type": [b"application/json"],
            b"accept": [b"application/json, text/event-stream"], b"mcp-protocol-version": [_VERSION.encode()],
            b"mcp-method": [b"tools/call"], b"mcp-name": [b"search"],
        }  # fmt: skip

    def get_all(self, name: bytes) -> Sequence[bytes]:
        """Return the values of a header."""
        return self._sent.get(name, ())


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    for _ in range(_CALLS):
        work()
    return (time.process_time() - began) / _CALLS


def main() -> None:
    """Print medians of the rounds."""
    headers = _Headers()
    ours, bare = [], []
    for _ in range(_ROUNDS):
        ours.append(_seconds(lambda: read_message(_BODY, headers=headers)))
        bare.append(_seconds(lambda: json.dumps(json.loads(_BODY)).encode()))
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    print(f"a tools/call of {len(_BODY)} bytes: {statistics.median(ours) * 1e6:.1f} µs of CPU,")
    print(f"json.loads and json.dumps alone: {statistics.median(bare) * 1e6:.1f} µs,")
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
