"""urllib3 connections whose sockets go through the guard, and whose reading ends with the budget."""

from __future__ import annotations

import functools
import http.client
import io
import socket
import ssl
from typing import TYPE_CHECKING, Any

import certifi
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from ..protocol.errors import ResponseTimeoutError
from .limits import HEADER_BYTES, Budget, current_budget
from .resolve import open_socket

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class MeteredReader(io.RawIOBase):
    """Read a socket until the budget's deadline, and no more bytes than a response with its headers may have.

    A socket's own timeout starts again with every byte, so that one byte now and then beats it for ever, in the headers
    too. Here every read gets what is left of the whole exchange.
    """

    def __init__(self, connection: socket.socket, *, budget: Budget) -> None:
        self._connection = connection
        self._budget = budget
        # This file object keeps the socket open while the response is read, also after the connection let go of it.
        self._file = connection.makefile("rb", buffering=0)
        self._received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        limits = self._budget.limits
        self._connection.settimeout(
            self._budget.seconds(limits.total_seconds if self._received else limits.first_byte_seconds)
        )
        try:
            count = self._file.readinto(buffer)
        except TimeoutError:
            raise ResponseTimeoutError("no complete response in time") from None
        self._received += count or 0
        self._budget.require_size(self._received, extra=HEADER_BYTES)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class MeteredResponse(http.client.HTTPResponse):
    """A response that is read through `MeteredReader`, status line and headers included."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(MeteredReader(sock, budget=current_budget()))


class GuardedConnection(HTTPConnection):
    """A plain connection to an address that was judged."""

    response_class = MeteredResponse

    def _new_conn(self) -> socket.socket:
        return open_socket(self.host, port=self.port, plain=True, budget=current_budget())


class GuardedTlsConnection(HTTPSConnection):
    """A TLS connection to an address that was judged; the certificate is checked against the name."""

    response_class = MeteredResponse

    def _new_conn(self) -> socket.socket:
        return open_socket(self.host, port=self.port, plain=False, budget=current_budget())


class GuardedPool(HTTPConnectionPool):
    """Connections by plain http."""

    ConnectionCls = GuardedConnection


class GuardedTlsPool(HTTPSConnectionPool):
    """Connections by https."""

    ConnectionCls = GuardedTlsConnection


@functools.lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """Return the one TLS context: the public roots, and those of this machine (which SSL_CERT_FILE can name)."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
