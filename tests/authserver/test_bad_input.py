"""Whatever is sent to our endpoints, the answer is an answer: never a failure of ours, never a redirect elsewhere."""

from __future__ import annotations

import json
from urllib.parse import quote_from_bytes, urlencode
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authserver.flows import begin_authorization
from tests.requirements import requirement

from .asking import CALLBACK, CHALLENGE, TYPED, gateway_server, registered

pytestmark = pytest.mark.django_db
_MANY = {"registrations_of_an_address": 10**9, "registrations_a_day": 10**9}
_PARAMETERS = (
    "client_id", "redirect_uri", "response_type", "state", "scope", "resource", "code_challenge",
    "code_challenge_method", "response_mode", "prompt", "request", "request_uri", "nonce",
)  # fmt: skip
_GOOD = {
    "client_id": "client_notes", "redirect_uri": CALLBACK, "response_type": "code", "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}  # fmt: skip
fuzzed = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def browser(alice: User, client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(begin_authorization, "STARTS_A_MINUTE", 10**9)
    client.raise_request_exception = False
    client.force_login(alice)
    gateway_server()
    registered()
    return client


@requirement("X-09", "AS01", "AS15")
@fuzzed
@given(st.lists(st.tuples(st.sampled_from(_PARAMETERS), st.text(max_size=30)), max_size=8), st.booleans())
def test_any_authorization_request_is_a_page_of_ours(
    browser: Client, pairs: list[tuple[str, str]], is_nearly_good: bool
) -> None:
    named = {name for name, _ in pairs[:2]}
    kept = [(name, value) for name, value in _GOOD.items() if is_nearly_good and name not in named]
    query = urlencode([*kept, *pairs], errors="surrogatepass")
    answer = browser.get(f"/oauth/authorize?{query}", headers=TYPED)
    assert answer.status_code in (303, 400, 429)
    assert answer.headers.get("Location", "/oauth/authorize/").startswith("/oauth/authorize/")


@fuzzed
@given(st.binary(max_size=60))
def test_any_bytes_as_a_query_are_a_page_of_ours(browser: Client, query: bytes) -> None:
    for text in (quote_from_bytes(query), query.decode("latin-1").replace("#", "")):
        answer = browser.get("/oauth/authorize", QUERY_STRING=text)
        assert answer.status_code in (303, 400)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@requirement("AS02")
@override_settings(AUTHSERVER=_MANY)
@fuzzed
@given(
    st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(["application/json", "text/plain", "application/x-www-form-urlencoded", "", "a/b; charset=x"]),
    st.sampled_from(["POST", "GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"]),
    st.sampled_from(["/oauth/register", "/oauth/register/client_notes", "/oauth/register/%00", "/oauth/register/ü"]),
)
def test_any_body_sent_to_registration_is_refused_in_words(
    browser: Client, body: bytes, content_type: str, method: str, path: str
) -> None:
    answer = browser.generic(method, path, body, content_type=content_type, headers={"Authorization": "Bearer x"})
    assert answer.status_code in (200, 400, 401, 404, 405)


@fuzzed
@given(st.text(max_size=20), st.sampled_from(["/oauth/authorize/{}", "/oauth/authorize/{}/upstream"]))
def test_any_answer_to_an_unknown_question_is_refused(browser: Client, decision: str, path: str) -> None:
    answer = browser.post(path.format(uuid4()), {"decision": decision})
    assert answer.status_code == 403


@pytest.mark.parametrize("length", ["", "-1", "x", "99999999999999999999", "1e9"])
def test_a_body_with_an_odd_length_is_refused(browser: Client, length: str) -> None:
    extra = {"CONTENT_LENGTH": length}
    answer = browser.post("/oauth/register", b"{}", content_type="application/json", **extra)
    assert answer.status_code == 400


def test_parameters_in_the_body_of_an_authorization_request_are_not_read(browser: Client) -> None:
    assert browser.post("/oauth/authorize", _GOOD).status_code == 405


@pytest.mark.parametrize("header", ["Bearer", "Basic eDp5", "Bearer a b", "bearer \u00fc", "Bearer " + "x" * 9000])
def test_odd_credentials_manage_nothing(browser: Client, header: str) -> None:
    answer = browser.get("/oauth/register/client_notes", headers={"Authorization": header})
    assert answer.status_code == 401
