"""The endpoints that programs ask, as bare ASGI: nothing of Django's request cycle is of use to them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

import structlog
from django.conf import settings
from django.db import connection
from django.utils import timezone

from audit.correlation import begin_correlation
from oauthflow.hot_path.batches import Batches, BatchesFullError

from ..conf import authserver_configuration
from ..flows.renew_keys import renew_keys
from ..protocol.errors import TemporarilyUnavailableError, TooManyRequestsError
from ..protocol.form_request import LONGEST_BODY, FormRequest
from ..revoked import in_thread
from .introspection import RememberedAnswers
from .jwks import answer_jwks
from .paths import ENDPOINTS, INTROSPECT, JWKS, REVOKE, TOKEN, sent_headers, without_asking
from .plain_answers import Answer, error_answer
from .refused_often import RefusedOften
from .revocation import answer_revocation
from .token import answer_exchange, answer_token_requests, is_exchange

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

_CAPACITY: Final = 2000
_GATHERING_SECONDS: Final = 0.001
_BUSY: Final = error_answer(TemporarilyUnavailableError("This cannot be answered now.", retry_after_seconds=1))
_log = structlog.get_logger(__name__)


class HeadersOf(Protocol):
    """Says which headers the site puts on every answer, for a request that came by `http` or `https`."""

    def __call__(self, scheme: str, *, own: Mapping[str, str]) -> Iterable[tuple[bytes, bytes]]:
        """Return them; `own` is what the answer has before."""


class TokenEndpoints:
    """Answers for the paths in `authserver.endpoints.paths`; `open` it before and `close` it after.

    Args:
        otherwise: Django, for everything else.
        headers_of: Of the site.
        answered: Told the path, method, status and seconds of every answer.
    """

    def __init__(
        self,
        *,
        otherwise: Application,
        headers_of: HeadersOf,
        answered: Callable[[str, str, int, float], None] = lambda path, method, status, seconds: None,
    ) -> None:
        self._otherwise, self._answered = otherwise, answered
        self._headers = {
            scheme: [header for header in headers_of(scheme, own={}) if header[0] != b"content-type"]
            for scheme in ("http", "https")
        }
        self._introspection = RememberedAnswers()
        self._refused_often = RefusedOften(limit=authserver_configuration().refusals_a_minute)
        self._batches: Batches[FormRequest, Answer] | None = None

    async def open(self) -> None:
        """Begin the thread that answers token requests, all at once what came in while it was busy."""
        self._batches = Batches(
            _answer_durably,
            name="token-endpoint",
            capacity=_CAPACITY,
            gathering_seconds=_GATHERING_SECONDS,
        )

    async def close(self) -> None:
        """Answer what waits, and end."""
        batches, self._batches = self._batches, None
        if batches is not None:
            await batches.close()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        is_open = self._batches is not None and not scope.get("root_path")
        if path not in ENDPOINTS or not is_open or (settings.SECURE_SSL_REDIRECT and scope["scheme"] != "https"):
            await self._otherwise(scope, receive, send)
            return
        started = time.monotonic()
        request = await _request(scope, receive)
        if request is None:
            return
        answer = without_asking(path, method) or await self._patiently(path, request, address=_address(scope))
        sent = [(name.lower().encode(), value.encode("latin-1")) for name, value in sent_headers(path, answer)]
        headers = [
            *self._headers[scope["scheme"]], *sent,
            (b"content-length", b"%d" % len(answer.body)), (b"x-request-id", request.request_id.encode()),
        ]  # fmt: skip
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})
        self._answered(path, method, answer.status, time.monotonic() - started)

    async def _patiently(self, path: str, request: FormRequest, *, address: str) -> Answer:
        if path == JWKS:
            return answer_jwks()
        if wait := self._refused_often.wait_seconds(address, now=time.monotonic()):
            return error_answer(TooManyRequestsError("Too many refused requests.", retry_after_seconds=wait))
        answer = await self._answer(path, request)
        if 400 <= answer.status < 500:
            self._refused_often.note(address, now=time.monotonic())
        return answer

    async def _answer(self, path: str, request: FormRequest) -> Answer:
        try:
            if b"client_assertion=" in request.body:
                await in_thread(lambda: renew_keys(request, now=timezone.now()))
            if path == TOKEN and not is_exchange(request):
                return await self._token(request)
            if path == INTROSPECT:
                return await self._introspection.answer(request)
            return await in_thread(partial(answer_revocation if path == REVOKE else answer_exchange, request))
        except BatchesFullError:
            return _BUSY
        except Exception:
            _log.exception("an endpoint for programs failed", path=path)
            return _BUSY

    async def _token(self, request: FormRequest) -> Answer:
        if self._batches is None:
            return _BUSY
        return await self._batches.put(request)


async def _request(scope: Mapping[str, Any], receive: Receive) -> FormRequest | None:
    """Read a request; None if the client went away meanwhile. Of a body that is too long the rest is not kept."""
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        # RFC 9110 §5.3: what stands twice is one value, separated by a comma; no endpoint takes such a value.
        headers[name] = headers[name] + b", " + value if name in headers else value
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        if len(body) <= LONGEST_BODY:
            body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return FormRequest(
        method=scope["method"],
        query=scope["query_string"],
        content_type=_text(headers.get(b"content-type")),
        authorization=_text(headers.get(b"authorization")),
        body=body,
        request_id=begin_correlation(headers.get(b"x-request-id", b"").decode("latin-1")),
    )


def _address(scope: Mapping[str, Any]) -> str:
    return str((scope.get("client") or ("",))[0])


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _answer_durably(requests: Sequence[FormRequest]) -> list[Answer]:
    if connection.connection is None:
        connection.ensure_connection()
        if connection.vendor == "sqlite":
            # The site's own level, NORMAL, may lose the last commits in a power failure, and with them the refresh
            # tokens that clients already have.
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA synchronous = FULL")
    return answer_token_requests(requests)
