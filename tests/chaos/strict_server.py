"""A token endpoint as strict as OAuth 2.1 allows: refresh tokens work once, a second use ends the family.

    python -m tests.chaos.strict_server PORT [--latency SECONDS] [--grace SECONDS]

Tokens are `rt-FAMILY-NUMBER`; a family begins with number 0, unregistered. Any path is a token endpoint. With a grace
time, the token used last still gives its successor again for so long. `GET /` tells what was seen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import httptools


@dataclass
class Family:
    """`sent` counts the uses of each number."""

    current: int = 0
    used_at: float = 0.0
    is_dead: bool = False
    in_flight: int = 0
    sent: dict[int, int] = field(default_factory=dict)


class StrictServer:
    """All families, and what happened to them."""

    def __init__(self, *, latency: float, grace: float) -> None:
        self.latency, self.grace = latency, grace
        self.families: dict[str, Family] = {}
        self.requests = self.together = self.most_at_once = 0
        self.at_once: dict[str, int] = {}
        self.answered_at = 0.0

    def seen(self) -> dict[str, object]:
        return {
            "requests": self.requests,
            "used_twice": sum(uses > 1 for family in self.families.values() for uses in family.sent.values()),
            "most_uses": max((uses for family in self.families.values() for uses in family.sent.values()), default=0),
            "dead": sorted(name for name, family in self.families.items() if family.is_dead),
            "parallel_same": self.together,
            "most_at_once": self.most_at_once,
            "answered_at": self.answered_at,
        }

    def arrive(self, path: str, family: Family) -> None:
        self.requests += 1
        self.at_once[path] = self.at_once.get(path, 0) + 1
        self.most_at_once = max(self.most_at_once, self.at_once[path])
        self.together += family.in_flight > 0
        family.in_flight += 1

    def leave(self, path: str, family: Family) -> None:
        self.at_once[path] -= 1
        self.answered_at = time.monotonic()
        family.in_flight -= 1

    def redeem(self, name: str, number: int) -> tuple[int, dict[str, object]]:
        family = self.families[name]
        family.sent[number] = family.sent.get(number, 0) + 1
        in_grace = number == family.current - 1 and time.monotonic() - family.used_at < self.grace
        if family.is_dead or not (number == family.current or in_grace):
            family.is_dead = True
            return 400, {"error": "invalid_grant"}
        if not in_grace:
            family.current, family.used_at = number + 1, time.monotonic()
        tokens = {"access_token": f"at-{name}-{family.current}", "refresh_token": f"rt-{name}-{family.current}"}
        return 200, {**tokens, "token_type": "Bearer", "expires_in": 3600}


class Exchange(asyncio.Protocol):
    """One kept connection."""

    def __init__(self, server: StrictServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._path, self._body = "", b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path, self._body = url.decode(), b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"GET":
            self._answer(200, self._server.seen())
            return
        token = parse_qs(self._body.decode())["refresh_token"][0]
        _, name, number = token.rsplit("-", 2)
        family = self._server.families.setdefault(name, Family())
        self._server.arrive(self._path, family)
        asyncio.get_running_loop().call_later(self._server.latency, self._finish, self._path, name, int(number))

    def _finish(self, path: str, name: str, number: int) -> None:
        answer = self._server.redeem(name, number)
        self._server.leave(path, self._server.families[name])
        self._answer(*answer)

    def _answer(self, status: int, document: dict[str, object]) -> None:
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--grace", type=float, default=0.0)
    options = parser.parse_args()
    server = StrictServer(latency=options.latency, grace=options.grace)
    listening = await asyncio.get_running_loop().create_server(
        lambda: Exchange(server), "127.0.0.1", options.port, backlog=2048
    )
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
