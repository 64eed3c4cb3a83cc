"""An authorization server and MCP servers that answer after a given time and add up how long they took.

    python -m benchmarks.provider PORT LATENCY_MS

`/m/N/mcp` is a protected MCP server whose authorization server has the issuer `/as/N`; every N is new to the site.
`GET /tally` says how many requests were answered and in how many seconds.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit


def main() -> None:
    """Serve until stopped."""
    port, latency_ms = int(sys.argv[1]), float(sys.argv[2])
    _Provider.base, _Provider.latency_seconds = f"http://127.0.0.1:{port}", latency_ms / 1000
    ThreadingHTTPServer(("127.0.0.1", port), _Provider).serve_forever()


class _Provider(BaseHTTPRequestHandler):
    base: ClassVar = ""
    latency_seconds: ClassVar = 0.0
    tally: ClassVar[dict[str, float]] = {"requests": 0, "seconds": 0.0}
    lock: ClassVar = threading.Lock()
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/tally":
            self._answer(200, dict(self.tally))
        elif path == "/authorize":
            self._authorize()
        else:
            self._timed(lambda: self._document(path))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._timed(lambda: self._endpoint(urlsplit(self.path).path, body))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _timed(self, answer: Any) -> None:
        started = time.perf_counter()
        time.sleep(self.latency_seconds)
        answer()
        with self.lock:
            self.tally["requests"] += 1
            self.tally["seconds"] += time.perf_counter() - started

    def _document(self, path: str) -> None:
        if found := re.fullmatch(r"/\.well-known/oauth-protected-resource(/m/(\d+)/mcp)", path):
            issuer = f"{self.base}/as/{found[2]}"
            self._answer(200, {"resource": f"{self.base}{found[1]}", "authorization_servers": [issuer]})
        elif found := re.fullmatch(r"/\.well-known/oauth-authorization-server(/as/\d+)", path):
            self._answer(200, self._metadata(f"{self.base}{found[1]}"))
        else:
            self._endpoint(path, b"")

    def _metadata(self, issuer: str) -> dict[str, Any]:
        endpoints = {
            f"{name}_endpoint": f"{self.base}/{path}"
            for name, path in (("authorization", "authorize"), ("token", "token"), ("registration", "register"))
        }
        return {
            "issuer": issuer, **endpoints, "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"], "token_endpoint_auth_methods_supported": ["none"],
        }  # fmt: skip

    def _endpoint(self, path: str, body: bytes) -> None:
        if path == "/register":
            self._answer(201, {**json.loads(body), "client_id": secrets.token_hex(8)})
        elif path == "/token":
            form = dict(parse_qsl(body.decode()))
            is_right = form.get("code", "").startswith("code-") and len(form.get("code_verifier", "")) >= 43
            tokens = {"access_token": f"at-{secrets.token_hex(16)}", "token_type": "Bearer", "expires_in": 3600}
            self._answer(*(200, tokens) if is_right else (400, {"error": "invalid_grant"}))
        elif found := re.fullmatch(r"/m/\d+/mcp", path):
            where = f"{self.base}/.well-known/oauth-protected-resource{found[0]}"
            self._answer(401, {}, {"WWW-Authenticate": f'Bearer resource_metadata="{where}"'})
        else:
            self._answer(404, {})

    def _authorize(self) -> None:
        """The person agrees at once; this is not counted."""
        query = dict(parse_qsl(urlsplit(self.path).query))
        back = urlencode({"code": f"code-{secrets.token_hex(8)}", "state": query["state"]})
        self._answer(302, {}, {"Location": f"{query['redirect_uri']}?{back}"})

    def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        named = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
        for name, value in named.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    main()
