"""Whatever is sent, the endpoints answer with an error of the RFCs and never fail."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authserver.endpoints.introspection import answer_introspection
from authserver.endpoints.plain_answers import Answer
from authserver.endpoints.revocation import answer_revocation
from authserver.endpoints.token import answer_exchange, answer_token_requests, is_exchange
from authserver.models import McpClient, ServiceAccount
from authserver.protocol.form_request import FormRequest
from tests.authserver.grants import RESOURCE, SECRET, make_client, make_code, make_consent, nothing_remembered
from tests.authserver.token_calls import FORM, ask_token, code_form
from tests.requirements import requirement

__all__ = ["nothing_remembered"]
_NAMES = [
    "grant_type", "client_id", "client_secret", "code", "redirect_uri", "code_verifier", "refresh_token", "scope",
    "resource", "token", "token_type_hint", "client_assertion", "client_assertion_type", "subject_token",
    "subject_token_type", "audience", "actor_token", "requested_token_type",
]  # fmt: skip
_KNOWN = [
    "authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange",
    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "urn:ietf:params:oauth:token-type:access_token",
    "program", "secretive", "asserting", SECRET, RESOURCE, "mcp:access", "e30.e30.e30", "\0", "\ud800", "é" * 30,
]  # fmt: skip
_values = st.one_of(st.sampled_from(_KNOWN), st.text(max_size=60), st.text("AZaz09-_.", min_size=40, max_size=100))
_forms = st.lists(st.tuples(st.one_of(st.sampled_from(_NAMES), st.text(max_size=8)), _values), max_size=8)
_bodies = st.one_of(
    _forms.map(lambda pairs: urlencode(pairs, errors="replace").encode()),
    _forms.map(lambda pairs: urlencode(pairs, errors="surrogatepass").encode()),
    st.binary(max_size=200),
)
_types = st.one_of(st.just(FORM), st.sampled_from(["application/json", "", FORM + ";charset=utf-8", "x/y"]), st.none())
_headers = st.one_of(
    st.none(), st.text(max_size=40), st.sampled_from(["Basic", "Bearer x", "Basic cHJvZ3JhbTp4", "Basic YTpiOmM="])
)


def _answers(request: FormRequest) -> list[Answer]:
    token = answer_exchange(request) if is_exchange(request) else answer_token_requests([request])[0]
    return [token, answer_introspection(request)[0], answer_revocation(request)]


@requirement("AS17")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_bodies, content_type=_types, authorization=_headers, query=st.sampled_from([b"", b"a=b", b"%"]))
def test_no_request_makes_an_endpoint_fail(
    alice: User, body: bytes, content_type: str | None, authorization: str | None, query: bytes
) -> None:
    _clients(alice)
    request = FormRequest(method="POST", query=query, content_type=content_type, authorization=authorization, body=body)
    for answer in _answers(request):
        assert answer.status in (200, 400, 401), answer
        assert ("Cache-Control", "no-store") in answer.headers


@requirement("AS17")
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted({*code_form("x"), "resource", "client_secret"})), value=_values)
def test_no_value_in_a_good_request_makes_it_fail(alice: User, name: str, value: str) -> None:
    _clients(alice)
    consent = make_consent(alice, McpClient.objects.get(client_id="program"))
    form: dict[str, Any] = {**code_form(make_code(consent)), name: value.encode("utf-8", "replace").decode()}
    assert ask_token(form).status in (200, 400, 401)


def _clients(alice: User) -> None:
    if McpClient.objects.exists():
        return
    make_client()
    service = make_client("secretive", method="client_secret_post", grant_types=list(_KNOWN[:4]))
    ServiceAccount.objects.create(client=service, user=alice, resources=[RESOURCE])
    make_client("asserting", method="private_key_jwt", jwks={"keys": [{"kty": "EC"}]})


def test_a_cookie_changes_nothing(alice: User) -> None:
    code = make_code(make_consent(alice, make_client()))
    browser = Client()
    browser.force_login(alice)
    assert browser.post("/oauth/token", urlencode(code_form(code)), content_type=FORM).status_code == 200
