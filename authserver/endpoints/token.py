"""`/oauth/token`: many requests, one transaction.

Under load the durable write is what a refresh costs, and requests that arrive together share it. Deciding writes
nothing but the one conditional UPDATE that a grant is; all that follows from a refusal (ending a family, the audit
record) happens after the commit, in transactions of its own and before anybody is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.utils import timezone

from audit.correlation import begin_correlation

from ..flows.authenticate_client import authenticate_client, require_grant_type
from ..flows.exchange_code import exchange_code
from ..flows.exchange_refresh_token import exchange_refresh_token
from ..flows.exchange_token import GRANT_TYPE as TOKEN_EXCHANGE
from ..flows.exchange_token import exchange_token
from ..flows.grant_client_credentials import grant_client_credentials
from ..flows.note_use import note_use
from ..flows.reuse import ReuseError, end_reused
from ..protocol.errors import (
    InvalidRequestError,
    OAuthError,
    ServerError,
    TemporarilyUnavailableError,
    UnsupportedGrantTypeError,
)
from ..protocol.form_request import FormRequest, read_form
from ..protocol.opaque import read_opaque
from ..protocol.token_response import TokenResponse
from ..signals import TOKEN_ANSWERED
from ..statements import StoredClient
from .plain_answers import Answer, error_answer, json_answer
from .refusals import record_refusal

_log = structlog.get_logger(__name__)
Grant = Callable[..., TokenResponse]
GRANTS: Final[Mapping[str, Grant]] = {
    "authorization_code": exchange_code,
    "refresh_token": exchange_refresh_token,
    "client_credentials": grant_client_credentials,
}
_BUSY: Final = TemporarilyUnavailableError("The token could not be written at the moment.", retry_after_seconds=1)


@dataclass(frozen=True, slots=True, repr=False)
class Decision:
    """What became of a request; `form` is empty where it could not be read."""

    request: FormRequest
    form: Mapping[str, str]
    client: StoredClient | None = None
    response: TokenResponse | None = None
    error: OAuthError | None = None


def answer_token_requests(requests: Sequence[FormRequest]) -> list[Answer]:
    """Answer requests of every grant but token exchange, in their order.

    Spec: RFC 6749 §3.2, §5. X-02, AS17.
    """
    now = timezone.now()
    asked = [_read(request) for request in requests]
    # Everybody takes the locks of families in the same order, so that two processes never wait for each other.
    order = sorted(range(len(asked)), key=lambda number: _family_of(asked[number].form))
    decided = list(asked)
    try:
        with transaction.atomic():
            for number in order:
                decided[number] = _decide(asked[number], now=now)
    except Exception as error:  # whatever one request does, its neighbours get their answers
        _log.warning("token requests are decided one by one", count=len(asked), exception=type(error).__name__)
        if not connection.in_atomic_block:
            connection.close()
        decided = [_decide_alone(one, now=now) for one in asked]
    return [_finish(one, now=now) for one in decided]


def answer_exchange(request: FormRequest) -> Answer:
    """Answer a token exchange, which may ask another server and so holds no transaction."""
    now, asked = timezone.now(), _read(request)
    try:
        if asked.error is not None:
            raise asked.error
        client = authenticate_client(asked.form, authorization=request.authorization, now=now)
        asked = replace(asked, client=client)
        require_grant_type(client, TOKEN_EXCHANGE)
        begin_correlation(request.request_id)
        members = exchange_token(asked.form, client=client, now=now)
    except OAuthError as error:
        return _finish(replace(asked, error=error), now=now)
    TOKEN_ANSWERED.send(sender=None, grant_type=TOKEN_EXCHANGE, error="")
    return json_answer(members)


def is_exchange(request: FormRequest) -> bool:
    """Whether a request is to be answered by `answer_exchange`."""
    return b"token-exchange" in request.body and _read(request).form.get("grant_type") == TOKEN_EXCHANGE


def _read(request: FormRequest) -> Decision:
    try:
        return Decision(request, read_form(request))
    except OAuthError as error:
        return Decision(request, {}, error=error)


def _family_of(form: Mapping[str, str]) -> bytes:
    presented = read_opaque(form.get("refresh_token") or form.get("code") or "")
    return presented.family_id.bytes if presented else b""


def _decide(asked: Decision, *, now: datetime) -> Decision:
    if asked.error is not None:
        return asked
    client = None
    try:
        grant_type = asked.form.get("grant_type", "")
        client = authenticate_client(asked.form, authorization=asked.request.authorization, now=now)
        if not grant_type:
            raise InvalidRequestError("The parameter grant_type is missing.")
        if grant_type not in GRANTS:
            raise UnsupportedGrantTypeError("This grant is not known here.")
        require_grant_type(client, grant_type)
        response = GRANTS[grant_type](asked.form, client=client, now=now)
    except OAuthError as error:
        return Decision(asked.request, asked.form, client, error=error)
    return Decision(asked.request, asked.form, client, response)


def _decide_alone(asked: Decision, *, now: datetime) -> Decision:
    """One that fails by itself fails alone; a transaction that was rolled back has used nothing up."""
    try:
        with transaction.atomic():
            return _decide(asked, now=now)
    except Exception:
        _log.exception("a token request cannot be decided")
        return replace(asked, error=_BUSY)


def _finish(decided: Decision, *, now: datetime) -> Answer:
    begin_correlation(decided.request.request_id)
    grant_type = decided.form.get("grant_type", "")
    error = decided.error if decided.response is None else None
    try:
        if isinstance(error, ReuseError):
            end_reused(error, now=now)
        elif error is not None:
            record_refusal(error, client=decided.client, grant_type=grant_type, now=now)
        elif decided.client is not None and decided.client.is_use_old:
            note_use(decided.client, decided.form, now=now)
    except (DatabaseError, InterfaceError):
        _log.exception("what follows from a token request cannot be written")
        error = _BUSY if isinstance(error, ReuseError) else error
    known = grant_type if grant_type in GRANTS else "other"
    TOKEN_ANSWERED.send(sender=None, grant_type=known, error=error.error if error else "")
    if decided.response is not None:
        return json_answer(decided.response.body(now=now.timestamp()))
    return error_answer(error or ServerError())
