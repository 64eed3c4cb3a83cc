"""The requests sessions of the guard: no environment, no cookies, no redirects, no library retries."""

from __future__ import annotations

import io
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import requests
from django.db import connection
from requests.adapters import BaseAdapter, HTTPAdapter
from requests_oauthlib import OAuth2Session

from ..protocol.errors import BlockedUrlError
from ..protocol.messages import Request
from .guarded_connections import GuardedPool, GuardedTlsPool, tls_context
from .limits import Budget, current_budget

# At DEBUG these write codes, secrets and tokens; the logging settings keep them at INFO or above.
NOISY_LOGGERS: Final = ("requests_oauthlib", "oauthlib", "urllib3", "httpx2", "httpcore2", "mcp")
_CHUNK_BYTES: Final = 16 * 1024
_HEADERS: Final = {
    "User-Agent": "mcp-oauth-site",
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "Connection": "close",
}


def adapter() -> BaseAdapter:
    """Return what carries requests out; a test puts its own network here, below the URL policy."""
    return GuardedAdapter()


def in_transaction() -> bool:
    """Say whether a database transaction is open; a test that runs inside of one replaces this."""
    return connection.in_atomic_block


def require_no_transaction() -> None:
    """Refuse to wait for another server while a database transaction is open.

    Raises:
        RuntimeError: One is. The other side would decide how long our rows stay locked.
    """
    if in_transaction():
        raise RuntimeError("a request to another server inside a database transaction")


def leave_database() -> None:
    """The same, and give this thread's connection back to the pool: a slow server keeps nobody from the database. F18.

    Raises:
        RuntimeError: As `require_no_transaction`.
    """
    require_no_transaction()
    if connection.vendor == "postgresql" and not connection.in_atomic_block:
        connection.close()


class GuardedAdapter(HTTPAdapter):
    """Send by guarded connections and read the whole body within the budget."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": GuardedPool, "https": GuardedTlsPool}

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        raise BlockedUrlError("a proxy would connect where the guard cannot see it")

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Do nothing: certificates are always verified, by `tls_context`."""

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        host_parameters, _ = super().build_connection_pool_key_attributes(request, True)
        return host_parameters, {"ssl_context": tls_context(), "cert_reqs": "CERT_REQUIRED"}

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        budget = current_budget()
        limits = budget.limits
        response = super().send(request, stream=True, timeout=(limits.connect_seconds, limits.first_byte_seconds))
        try:
            body = b"" if _is_event_stream(response) else _read(response.raw, budget=budget)
        finally:
            response.raw.close()
        response.raw = io.BytesIO(body)
        return response


class _Hardened(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Name none: even with redirects off, requests would prepare the next request from hostile headers."""

    def harden(self) -> None:
        """Take from the session whatever comes from the environment or from earlier responses."""
        self.trust_env = False  # no proxies, no .netrc, no CA bundle of requests' own variables
        self.headers.clear()
        self.headers.update(_HEADERS)
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.adapters.clear()
        for prefix in ("https://", "http://"):
            self.mount(prefix, adapter())


class GuardedSession(_Hardened):
    """A session that has nothing but the guarded adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.harden()


class GuardedOAuth2Session(_Hardened, OAuth2Session):
    """requests-oauthlib's session, sending one judged request and never anything else.

    The library would add Basic credentials of its own encoding, follow a 307 with code and secret to another host, and
    compare scopes by raising a bare Warning. So it has no scope, and what it sends is the form of `request`.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(client_id=(request.form or {}).get("client_id", ""), scope=None)
        self.harden()
        self._judged = request

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().request(
            self._judged.method,
            self._judged.url,
            data=dict(self._judged.form or {}),
            headers=dict(self._judged.headers),
            withhold_token=True,
            auth=unauthenticated,
            allow_redirects=False,
        )
        # The library reads `.text`; without this it would guess an encoding from whatever bytes came.
        response.encoding = "utf-8"
        return response


def unauthenticated(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add no credentials: they are in the request already, encoded as RFC 6749 §2.3.1 says."""
    return request


def lower_case_headers(response: requests.Response) -> Mapping[str, str]:
    """Return the headers by lower-case name; repeated ones are joined by commas. RFC 9110 §5.2."""
    return {name.lower(): value for name, value in response.headers.items()}


def _is_event_stream(response: requests.Response) -> bool:
    # A probe may open an event stream, which never ends; nobody reads events here.
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/event-stream"


def _read(raw: Any, *, budget: Budget) -> bytes:
    # `read1` returns with what is there; `read` and `iter_content` would wait for a full chunk.
    body = bytearray()
    while chunk := raw.read1(_CHUNK_BYTES, decode_content=True):
        body += chunk
        budget.require_size(len(body))
    return bytes(body)
