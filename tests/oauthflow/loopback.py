"""Listeners on this machine's loopback: one that must never be reached, and one that plays a script."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Script = Callable[[socket.socket], None]
CORPUS = Path(__file__).parent.parent / "corpus" / "egress_urls.txt"


class Canary:
    """Listens on 127.0.0.1 and ::1 with one port; whoever connects waits in the queue and is counted."""

    def __init__(self) -> None:
        first = socket.create_server(("127.0.0.1", 0))
        self.port: int = first.getsockname()[1]
        self._listeners = [first]
        if socket.has_ipv6:
            self._listeners.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        for listener in self._listeners:
            listener.setblocking(False)

    @property
    def connections(self) -> int:
        return sum(1 for listener in self._listeners for _ in _waiting(listener))

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()

    def urls(self) -> list[str]:
        lines = CORPUS.read_text(encoding="utf-8").splitlines()
        return [json.loads(line).replace("{port}", str(self.port)) for line in lines if line.startswith('"')]


class LoopbackServer:
    """Reads one request per connection, keeps it, and lets the script answer."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(5)
            try:
                with connection if self._tls is None else self._tls.wrap_socket(connection, server_side=True) as opened:
                    self.requests.append(_read_request(opened))
                    self._script(opened)
            except OSError:  # the client gave up, which is what many of these tests are about
                connection.close()


@contextmanager
def serving(script: Script | bytes, *, tls: ssl.SSLContext | None = None) -> Iterator[LoopbackServer]:
    answer = script if callable(script) else (lambda connection: connection.sendall(script))
    server = LoopbackServer(answer, tls=tls)
    try:
        yield server
    finally:
        server.close()


def http_response(body: bytes = b"{}", *, status: str = "200 OK", headers: tuple[str, ...] = ()) -> bytes:
    lines = (f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _waiting(listener: socket.socket) -> Iterator[None]:
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        connection.close()
        yield


def _read_request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            raise ConnectionResetError
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while lengths and len(body) < lengths[0]:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
