"""A port of its own for roles that serve no web pages: `/metrics`, and `/healthz` for whoever restarts containers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CONTENT_TYPE_LATEST

from .exposition import exposition, refusal

_WORDS: Final = {200: "200 OK", 401: "401 Unauthorized", 404: "404 Not Found", 503: "503 Service Unavailable"}


def listen(host: str, port: int, *, folder: str, is_healthy: Callable[[], bool]) -> None:
    """Answer in a thread until this process ends.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        folder: Where the processes leave their metrics.
        is_healthy: Whether they all run.

    Raises:
        OSError: The port is in use.
    """

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, body = _answer(environ, folder=folder, is_healthy=is_healthy)
        headers = [("Content-Type", CONTENT_TYPE_LATEST), ("Cache-Control", "no-store")]
        start_response(_WORDS[status], headers)
        return [body]

    server = make_server(host, port, application, server_class=_Server, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


def _answer(environ: WSGIEnvironment, *, folder: str, is_healthy: Callable[[], bool]) -> tuple[int, bytes]:
    if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
        return 404, b""
    if environ["PATH_INFO"] == "/healthz":
        return (200, b"ok\n") if is_healthy() else (503, b"starting\n")
    if environ["PATH_INFO"] == "/metrics":
        status = refusal(environ)
        return (status, b"") if status else (200, exposition(folder))
    return 404, b""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 5

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: the address may be anybody's."""
