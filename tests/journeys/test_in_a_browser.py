"""The main road as a browser walks it, with all that lies in wait beside it. Security notes S01, S03, S06, S08, S14."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client

from connections.models import Connection
from oauthflow.models import AuthorizationRequest
from tests.fakes.world import World
from tests.requirements import requirement

CALLBACK = "/api/v1/oauth/callback"


@pytest.fixture
def browser(world: World, alice: User) -> Client:
    world.server()
    client = Client()
    client.force_login(alice)
    return client


def sent_away(browser: Client, **headers: str) -> str:
    answer = browser.post("/connect/notes", headers=headers)
    assert answer.status_code == 303
    return str(answer.headers["Location"])


@requirement("A-22", "A-18", "E-07")
def test_every_page_of_a_sign_in_forbids_what_is_not_ours(world: World, browser: Client) -> None:
    pages = [browser.get("/connections/"), browser.get("/connect/notes")]
    back = world.authorization_server.authorize(sent_away(browser))
    finished = browser.get(CALLBACK, dict(parse_qsl(urlsplit(back).query)))
    pages += [browser.get(finished.headers["Location"]), browser.get(CALLBACK, {"state": "x"})]
    pages += [Client().get("/accounts/login/")]

    for page in pages:
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    assert Connection.objects.get().status == "active"


# S14
@requirement("A-18")
def test_no_header_moves_the_redirect_uri(world: World, browser: Client) -> None:
    evil = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "ftp", "Forwarded": "host=evil.example"}

    sent = dict(parse_qsl(urlsplit(sent_away(browser, **evil)).query))

    assert sent["redirect_uri"] == "http://localhost:8000/api/v1/oauth/callback"
    assert browser.post("/connect/notes", headers={"Host": "evil.example"}).status_code == 400
    assert AuthorizationRequest.objects.count() == 1


# S01
@requirement("E-07")
def test_who_is_not_signed_in_gets_no_login_address_with_a_code_in_it(world: World, browser: Client) -> None:
    back = world.authorization_server.authorize(sent_away(browser))
    params = dict(parse_qsl(urlsplit(back).query))

    answer = Client().get(CALLBACK, params)

    assert answer.status_code == 403
    assert "Location" not in answer.headers
    assert params["code"] not in answer.content.decode()
    assert world.authorization_server.token_requests == []


# S03, S06
@pytest.mark.parametrize(
    "query", ["", "state=", "state=a&state=b", "code=x", "state=%00", "state=" + "x" * 600, "code=a&code=b&state=c"]
)
def test_a_callback_that_nobody_sent_is_a_bad_request(world: World, browser: Client, query: str) -> None:
    sent_away(browser)

    assert browser.get(f"{CALLBACK}?{query}").status_code == 400
    assert AuthorizationRequest.objects.get().status == "pending"


# S08
@pytest.mark.parametrize("method", ["head", "options", "post", "put"])
def test_looking_at_the_callback_by_another_method_uses_nothing_up(world: World, browser: Client, method: str) -> None:
    back = world.authorization_server.authorize(sent_away(browser))
    address = f"{CALLBACK}?{urlsplit(back).query}"

    assert getattr(browser, method)(address).status_code == 405
    finished = browser.get(address)
    assert finished.status_code == 303
    assert "code" not in finished.headers["Location"]
    assert "state" not in finished.headers["Location"]


# S02
@requirement("E-06")
@pytest.mark.parametrize("site", ["cross-site", "same-site", None])
def test_a_link_from_elsewhere_starts_nothing(world: World, browser: Client, site: str | None) -> None:
    answer = browser.get("/connect/notes", headers={"Sec-Fetch-Site": site} if site else {})

    assert answer.status_code == 200
    assert not AuthorizationRequest.objects.exists()
    assert world.internet.calls == []
