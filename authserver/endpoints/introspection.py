"""`/oauth/introspect`: the same question comes again and again, and is answered from memory until anything changes."""

from __future__ import annotations

import hashlib
import time
from typing import Final, NamedTuple

from oauthflow.newest import Newest

from ..flows.introspect import introspect
from ..protocol.errors import OAuthError
from ..protocol.form_request import FormRequest, read_form
from ..revoked import REVOKED, Revoked, in_thread
from .plain_answers import Answer, error_answer, json_answer

_REMEMBERED: Final = 10_000


class Remembered(NamedTuple):
    """An answer, what was known of revocations when it was made, and the token's last second."""

    answer: Answer
    revoked: Revoked
    until: int


def answer_introspection(request: FormRequest) -> tuple[Answer, int]:
    """Answer, and say until which Unix second the token is good (0: it is not). RFC 7662 §2."""
    try:
        members = introspect(read_form(request), authorization=request.authorization)
    except OAuthError as error:
        return error_answer(error), 0
    return json_answer(members), int(members.get("exp", 0))


class RememberedAnswers:
    """Answers about good tokens, each for who asked with exactly those credentials.

    A resource that is changed here and a token that is revoked are news of the same kind: see `authserver.revoked`.
    """

    def __init__(self, *, size: int = _REMEMBERED) -> None:
        self._kept: Newest[bytes, Remembered] = Newest(most=size)

    async def answer(self, request: FormRequest) -> Answer:
        """Answer in the event loop, asking the database only for what is new."""
        revoked = await REVOKED.aread()
        key = _key(request)
        kept = self._kept.get(key)
        if kept is not None and kept.revoked is revoked and time.time() < kept.until:
            return kept.answer
        answer, until = await in_thread(lambda: answer_introspection(request))
        if until:
            self._kept[key] = Remembered(answer, revoked, until)
        return answer


def _key(request: FormRequest) -> bytes:
    asked = "\n".join((request.authorization or "", request.content_type or "", request.query.decode("latin-1")))
    return hashlib.sha256(asked.encode("utf-8", "surrogateescape") + b"\n\n" + request.body).digest()
