"""`/oauth/revoke`."""

from __future__ import annotations

from django.utils import timezone

from audit.correlation import begin_correlation

from ..flows.authenticate_client import authenticate_client
from ..flows.revoke_token import revoke_token
from ..protocol.errors import OAuthError
from ..protocol.form_request import FormRequest, read_form
from .plain_answers import NO_STORE, Answer, error_answer
from .refusals import record_refusal


def answer_revocation(request: FormRequest) -> Answer:
    """End a token; 200 for everything that is not the client's to end. RFC 7009 §2.2."""
    now, client = timezone.now(), None
    begin_correlation(request.request_id)
    try:
        form = read_form(request)
        client = authenticate_client(form, authorization=request.authorization, now=now)
        revoke_token(form, client=client, now=now)
    except OAuthError as error:
        record_refusal(error, client=client, grant_type="revocation", now=now)
        return error_answer(error)
    return Answer(200, headers=NO_STORE)
