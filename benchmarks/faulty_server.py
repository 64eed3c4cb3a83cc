"""The strict token server, which can be told to fail in every way that servers do.

    python -m benchmarks.faulty_server PORT

`GET /fault/NAME` chooses a fault from `FAULTS`, or `none`; `GET /` tells what was seen.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import httptools

from tests.chaos.strict_server import Exchange, StrictServer

_JSON: Final = "Content-Type: application/json"
FAULTS: Final[dict[str, tuple[str, str, str]]] = {
    "503": ("503 Unavailable", _JSON, "{}"),
    "500 HTML": ("500 Error", "Content-Type: text/html", "<h1>Oops</h1>"),
    "429 with Retry-After": ("429 Slow Down", f"{_JSON}\r\nRetry-After: 60", "{}"),
    "408": ("408 Timeout", _JSON, "{}"),
    "200 HTML": ("200 OK", "Content-Type: text/html", "<p>Please sign in</p>"),
    "200 truncated JSON": ("200 OK", _JSON, '{"access_token": "x'),
    "200 without a token": ("200 OK", _JSON, '{"token_type": "Bearer"}'),
    "200 with an error": ("200 OK", _JSON, '{"error": "invalid_grant"}'),
    "400 HTML": ("400 Bad", "Content-Type: text/html", "invalid_grant"),
    "302": ("302 Found", "Location: https://elsewhere.example/", ""),
    "invalid_client": ("401 Unauthorized", _JSON, '{"error": "invalid_client"}'),
    "unauthorized_client": ("400 Bad", _JSON, '{"error": "unauthorized_client"}'),
    "temporarily_unavailable": ("400 Bad", _JSON, '{"error": "temporarily_unavailable"}'),
    "hangs up": ("", "", ""),
}


class FaultyExchange(Exchange):
    """A connection whose answers are spoilt; a token is used only where the answer is good."""

    fault = "none"

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except httptools.HttpParserError:  # such as the beginning of TLS
            self._transport.close()

    def on_message_complete(self) -> None:
        if self._path.startswith("/fault/"):
            FaultyExchange.fault = self._path.removeprefix("/fault/").replace("%20", " ")
            self._answer(200, {})
        elif self._parser.get_method() == b"GET" or self.fault == "none":
            super().on_message_complete()
        else:
            self._server.requests += 1
            self._spoil(*FAULTS[self.fault])

    def _spoil(self, status: str, header: str, body: str) -> None:
        if not status:
            self._transport.close()
            return
        head = f"HTTP/1.1 {status}\r\n{header}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write((head + body).encode())


async def main() -> None:
    """Serve until killed."""
    server = StrictServer(latency=0.0, grace=0.0)
    listening = await asyncio.get_running_loop().create_server(
        lambda: FaultyExchange(server), "127.0.0.1", int(sys.argv[1]), backlog=2048
    )
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
