"""Sending one request of a flow: policy, redirects, trace, and one family of errors."""

from __future__ import annotations

import http
import http.client
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar
from urllib.parse import urljoin

import requests
from oauthlib.common import add_params_to_uri
from oauthlib.oauth2 import OAuth2Error
from requests_oauthlib import OAuth2Session
from urllib3.exceptions import DecodeError, HTTPError, InvalidHeader
from urllib3.exceptions import TimeoutError as ConnectionTimeoutError

from ..protocol.errors import AnswerLostError, FlowError, MalformedResponseError, ResponseTimeoutError, TransportError
from ..protocol.messages import Request, Response
from ..protocol.token_endpoint import TokenResponse
from ..protocol.trace import Trace
from ..protocol.urls import ParsedUrl
from ..spans import span
from .addresses import Allowance, require_url
from .blocking import GuardedOAuth2Session, GuardedSession, leave_database, lower_case_headers
from .limits import Budget, Limits, spending
from .proofs import note_nonce, sent_with_proof
from .signals import tell_request_done

_FOLLOWED: Final = frozenset({301, 302, 303, 307, 308})
_GRANTS_OF_LIBRARY: Final = frozenset({"authorization_code", "refresh_token"})
_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Outcome:
    status: int | None = None


class Egress:
    """The way out of one flow. Cheap to make; holds no connection. Every request becomes a step of its `trace`."""

    def __init__(self, *, trace: Trace | None = None) -> None:
        self.trace = trace if trace is not None else Trace()

    def send(self, request: Request, *, limits: Limits = Limits.METADATA, step: str = "") -> Response:
        """Send a request and return the complete response, whatever its status.

        A GET follows redirects within the scheme, without the headers it was sent with. The body of an event stream is
        not read: nobody knows where it ends.

        Args:
            request: What to send.
            limits: Bounds of time and size; redirects share them.
            step: What the trace calls it.

        Raises:
            BlockedUrlError: The address, or one that a redirect names, may not be contacted.
            TransportError: No response; `ResponseTimeoutError` where it took too long.
            MalformedResponseError: A response too large or not HTTP, too many redirects, or a redirect of anything
                but a GET.

        Spec: RFC 9110 §15.4. U-01, U-04.
        """
        leave_database()
        budget = Budget(limits)
        redirects = 0
        while True:
            response = sent_with_proof(request, partial(self._send_once, budget=budget, step=step))
            if not 300 <= response.status < 400:
                return response
            redirects += 1
            if redirects > limits.max_redirects:
                raise MalformedResponseError(f"more than {limits.max_redirects} redirects")
            request = Request("GET", _redirect_target(request, response=response))

    def require_allowed(self, *addresses: str, step: str) -> None:
        """Refuse addresses that may not be contacted before anything is sent because of them.

        Raises:
            BlockedUrlError: At least one of them may not.

        Spec: U-01, U-03.
        """
        for address in addresses:
            self._require_url(address, step=step)

    def authorization_url(self, endpoint: str, *, parameters: Mapping[str, str]) -> str:
        """Put the parameters of an authorization request into the query of the endpoint.

        Raises:
            BlockedUrlError: The endpoint is not one to send a browser to.

        Spec: RFC 6749 §4.1.1.
        """
        url = _require_url(endpoint)
        session = OAuth2Session(
            client_id=parameters.get("client_id", ""),
            redirect_uri=parameters.get("redirect_uri"),
            scope=parameters.get("scope") or None,
        )
        named = {"response_type", "client_id", "redirect_uri", "scope", "state"}
        address, _ = session.authorization_url(url.url, state=parameters.get("state"))
        others = [(name, value) for name, value in parameters.items() if name not in named and value]
        return str(add_params_to_uri(address, others))

    def redeem(
        self,
        request: Request,
        *,
        read: Callable[[Response], TokenResponse],
        limits: Limits | None = None,
        step: str = "",
    ) -> TokenResponse:
        """Send a token request and return what the answer grants.

        Args:
            request: A POST for any grant; its form goes out exactly as it is.
            read: Judges the answer; what it raises is raised.
            limits: Bounds of time and size; by default those of the grant.
            step: What the trace calls it.

        Raises:
            BlockedUrlError: The token endpoint may not be contacted.
            TransportError: No response; `ResponseTimeoutError` where it took too long.
            MalformedResponseError: A response too large, not HTTP, or a redirect.

        Spec: RFC 6749 §4.1.3, §6.
        """
        leave_database()
        grant_type = (request.form or {}).get("grant_type", "")
        bounds = limits or (Limits.REFRESH if grant_type == "refresh_token" else Limits.TOKEN)
        if grant_type not in _GRANTS_OF_LIBRARY:
            return read(self.send(request, limits=bounds, step=step))
        redeem_once = partial(self._redeem_once, read=read, budget=Budget(bounds), step=step)
        return sent_with_proof(request, redeem_once)

    def _redeem_once(
        self, request: Request, *, read: Callable[[Response], TokenResponse], budget: Budget, step: str
    ) -> TokenResponse:
        url = self._require_url(request.url, step=step)
        judged: list[TokenResponse] = []

        def judge(answer: requests.Response) -> requests.Response:
            outcome.status = answer.status_code
            response = _judge_status(_received(answer, url=url, budget=budget), request=request)
            judged.append(read(response))
            return _for_oauthlib(judged[0])

        dialled = Request(request.method, url.url, headers=request.headers, form=request.form)
        with self._watched(step, request, url) as outcome, spending(budget), GuardedOAuth2Session(dialled) as session:
            _translated(lambda: _redeem(session, request=dialled, judge=judge))
        return judged[0]

    def _send_once(self, request: Request, *, budget: Budget, step: str) -> Response:
        url = self._require_url(request.url, step=step)
        with self._watched(step, request, url) as outcome, spending(budget), GuardedSession() as session:
            answer = _translated(
                lambda: session.request(
                    request.method,
                    url.url,
                    headers=dict(request.headers),
                    data=None if request.form is None else dict(request.form),
                    json=request.json,
                    allow_redirects=False,
                )
            )
            outcome.status = answer.status_code
            return _judge_status(_received(answer, url=url, budget=budget), request=request)

    def _require_url(self, text: str, *, step: str) -> ParsedUrl:
        try:
            return _require_url(text)
        except FlowError as error:
            self.trace.add(step, url=text, status=None, duration_ms=0)
            tell_request_done(step, status=None, error=error, seconds=0)
            raise

    @contextmanager
    def _watched(self, step: str, request: Request, url: ParsedUrl) -> Iterator[_Outcome]:
        outcome = _Outcome()
        started = time.monotonic()
        failure: BaseException | None = None
        said = {"http__request__method": request.method, "server__address": url.host}
        with span(f"request: {step}", outgoing=True, **said) as current:
            try:
                yield outcome
            except BaseException as error:
                failure = error
                raise
            finally:
                seconds = time.monotonic() - started
                self.trace.add(step, url=url.url, status=outcome.status, duration_ms=round(seconds * 1000))
                tell_request_done(step, status=outcome.status, error=failure, seconds=seconds)
                if outcome.status is not None:
                    current.set_attribute("http.response.status_code", outcome.status)


def _require_url(text: str) -> ParsedUrl:
    url = require_url(text, allowed=Allowance.current())
    if url.scheme == "http":
        # oauthlib refuses plain http unless this variable is set, for the whole process and every host. It is set only
        # after our own policy let an http URL pass, and that policy, not oauthlib, judges the next one as well.
        os.environ.setdefault("OAUTHLIB_INSECURE_TRANSPORT", "1")
    return url


def _redirect_target(request: Request, *, response: Response) -> str:
    location = response.headers.get("location", "")
    if response.status not in _FOLLOWED or not location:
        raise MalformedResponseError(f"status {response.status} without a place to go on")
    try:
        target = urljoin(request.url, location)
    except ValueError:
        raise MalformedResponseError("a redirect to what is no URL") from None
    if target.partition(":")[0].lower() != request.url.partition(":")[0].lower():
        raise MalformedResponseError("a redirect to another scheme")
    return target


def _received(answer: requests.Response, *, url: ParsedUrl, budget: Budget) -> Response:
    body = answer.content or b""
    budget.require_size(len(body))
    return Response(answer.status_code, url=url.url, headers=lower_case_headers(answer), body=body)


def _judge_status(response: Response, *, request: Request) -> Response:
    if 300 <= response.status < 400 and request.method != "GET":
        raise MalformedResponseError(f"a redirect ({response.status}) of a {request.method}, not followed")
    note_nonce(response, request=request)
    return response


def _redeem(
    session: GuardedOAuth2Session, *, request: Request, judge: Callable[[requests.Response], requests.Response]
) -> None:
    form = request.form or {}
    if form.get("grant_type") == "refresh_token":
        session.register_compliance_hook("refresh_token_response", judge)
        session.refresh_token(request.url, refresh_token=form.get("refresh_token", ""))
    else:
        session.register_compliance_hook("access_token_response", judge)
        session.fetch_token(request.url, code=form.get("code", ""), include_client_id=True)


def _for_oauthlib(tokens: TokenResponse) -> requests.Response:
    # The answer is judged already. The library gets the little that it asks for, so that it cannot fail on the rest.
    answer = requests.Response()
    answer.status_code = http.HTTPStatus.OK
    answer.encoding = "utf-8"
    document = {"access_token": tokens.access_token.reveal(), "token_type": tokens.token_type}
    answer.raw = io.BytesIO(json.dumps(document).encode())
    return answer


def _translated(send: Callable[[], _Result]) -> _Result:
    """Turn what the libraries raise into our family of errors.

    Raises:
        TransportError: No response, or not in time.
        MalformedResponseError: A response that is not HTTP, does not decode, or that the OAuth library refuses.
    """
    try:
        return send()
    except OAuth2Error as error:
        failure: FlowError = MalformedResponseError(f"the OAuth library refused it: {type(error).__name__}")
    except (requests.RequestException, HTTPError, http.client.HTTPException, OSError) as error:
        failure = _verdict(error)
    # Raised out here, so that nothing leads from it to the library's objects, which hold the request and its secrets.
    raise failure


def _verdict(error: BaseException) -> FlowError:
    chain = list(_chain(error))
    if any(isinstance(one, requests.Timeout | ConnectionTimeoutError | TimeoutError) for one in chain):
        return ResponseTimeoutError("no response in time")
    cut_short = (ConnectionError, http.client.IncompleteRead)
    for one in chain:
        if isinstance(one, DecodeError | InvalidHeader | http.client.HTTPException) and not isinstance(one, cut_short):
            return MalformedResponseError("the response is not HTTP as we read it")
    if any(isinstance(one, http.client.RemoteDisconnected | ConnectionResetError) for one in chain):
        return AnswerLostError("no response: the connection was closed")
    return TransportError(f"no response: {type(error).__name__}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__context__
