"""An internet without sockets: a name stands for a callable; an unknown name fails the test."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from django.db import connection
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from oauthflow.egress import Answer as SentAnswer
from oauthflow.egress.proofs import note_nonce, sent_with_proof
from oauthflow.protocol.messages import Request, Response


@dataclass(frozen=True)
class Call:
    """One request, as a fake sees it."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: str

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body, keep_blank_values=True))

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What a fake answers; a `body` that is not text is sent as JSON."""

    status: int = 200
    body: Any = ""
    headers: Mapping[str, str] = field(default_factory=dict)


Fake = Callable[[Call], Answer]


class FakeInternet(BaseAdapter):
    """Dispatch by origin (`https://as.example`, with the port where there is one); remember every call."""

    def __init__(self) -> None:
        super().__init__()
        self.fakes: dict[str, Fake] = {}
        self.calls: list[Call] = []

    def __setitem__(self, origin: str, fake: Fake) -> None:
        self.fakes[origin] = fake

    def calls_to(self, text: str) -> list[Call]:
        """Every call whose URL contains this text."""
        return [call for call in self.calls if text in call.url]

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        # The test's own transaction has no savepoint; one of ours inside it would.
        assert not connection.savepoint_ids, "a request to another server inside a database transaction"
        parts = urlsplit(request.url or "")
        body = request.body.decode() if isinstance(request.body, bytes) else (request.body or "")
        call = Call(request.method or "", request.url or "", CaseInsensitiveDict(request.headers), str(body))
        self.calls.append(call)
        origin = f"{parts.scheme}://{parts.netloc}"
        assert origin in self.fakes, f"nobody is at {origin}"
        return _response(self.fakes[origin](call), request)

    def close(self) -> None:
        """Nothing is open."""


class FakeSender:
    """What sends a batch, by this internet: each request is answered when its answer is asked for."""

    def __init__(self, internet: FakeInternet) -> None:
        self._session = requests.Session()
        self._session.mount("https://", internet)
        self._submitted: list[tuple[Hashable, Request]] = []

    def submit(self, key: Hashable, request: Request, *, not_after: float) -> None:
        self._submitted.append((key, request))

    def next(self, *, seconds: float) -> SentAnswer | None:
        if not self._submitted:
            return None
        key, made = self._submitted.pop(0)
        return sent_with_proof(made, partial(self._answered, key))

    def _answered(self, key: Hashable, request: Request) -> SentAnswer:
        answer = self._session.request(
            request.method, request.url, headers=request.headers, data=request.form, allow_redirects=False
        )
        headers = {name.lower(): value for name, value in answer.headers.items()}
        response = Response(answer.status_code, url=request.url, headers=headers, body=answer.content)
        note_nonce(response, request=request)
        return SentAnswer(key, response, 0.0)

    def close(self) -> None:
        self._session.close()


def _response(answer: Answer, request: requests.PreparedRequest) -> requests.Response:
    response = requests.Response()
    is_text = isinstance(answer.body, str | bytes)
    content_type = "text/html" if is_text else "application/json"
    text = answer.body if is_text else json.dumps(answer.body)
    response.status_code = answer.status
    response.headers = CaseInsensitiveDict({"Content-Type": content_type, **answer.headers})
    response.raw = io.BytesIO(text if isinstance(text, bytes) else text.encode())
    response.request = request
    response.url = request.url or ""
    return response
