"""A strict token endpoint: every refresh token is good once, and each request is remembered."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs


class TokenEndpoint:
    """What it saw: how often each refresh token came, and which tokens were revoked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: Counter[str] = Counter()
        self.revoked: list[str] = []
        self._lock = threading.Lock()

    def documents(self) -> dict[str, dict[str, Any]]:
        """What discovery finds."""
        resource = {"resource": f"{self.url}/mcp", "authorization_servers": [self.url]}
        server = {
            "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token", "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
        }  # fmt: skip
        return {
            "/.well-known/oauth-protected-resource/mcp": resource,
            "/.well-known/oauth-protected-resource": resource,
            "/.well-known/oauth-authorization-server": server,
        }

    def redeem(self, refresh_token: str) -> tuple[int, dict[str, Any]]:
        with self._lock:
            self.seen[refresh_token] += 1
            if self.seen[refresh_token] > 1:
                return 400, {"error": "invalid_grant"}
        return 200, {
            "access_token": f"access-after-{refresh_token}", "token_type": "Bearer", "expires_in": 3600,
            "refresh_token": f"{refresh_token}+",
        }  # fmt: skip


@contextmanager
def token_endpoint() -> Iterator[TokenEndpoint]:
    """Serve on a loopback port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = endpoint.documents().get(self.path)
            self._answer(200 if document else 404, document or {})

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            if self.path == "/token" and "refresh_token" in form:
                self._answer(*endpoint.redeem(form["refresh_token"][0]))
            elif self.path == "/revoke":
                endpoint.revoked += form["token"]
                self._answer(200, {})
            else:
                self._answer(404, {})

        def _answer(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint = TokenEndpoint(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
