"""The authorization endpoint: who is asked, who is refused, and where that is said."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from authserver.models import AuthorizationCode, Consent, McpClient, PendingAuthorization, TokenFamily
from tests.requirements import requirement

from .asking import CALLBACK, CHALLENGE, FOREIGN, TYPED, address, ask, back, decide, gateway_server, host_of, registered

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(alice: User, client: Client) -> Client:
    client.force_login(alice)
    gateway_server()
    return client


@requirement("A-01", "A-11", "P-01", "X-05")
def test_a_request_leads_over_the_page_to_a_code_for_what_was_asked(browser: Client, alice: User) -> None:
    client = registered()
    page = ask(browser, client)
    assert page.status_code == 200
    assert not AuthorizationCode.objects.exists()
    answer = back(decide(browser, "allow"))
    assert sorted(answer) == ["code", "iss", "state"]
    assert (answer["iss"], answer["state"]) == (settings.PUBLIC_URL, "s~1 2")
    code = AuthorizationCode.objects.select_related("family").get()
    family = code.family
    assert (code.redirect_uri, code.code_challenge) == (CALLBACK, CHALLENGE)
    assert (family.client, family.user, family.resource) == (client, alice, f"{settings.PUBLIC_URL}/mcp/notes")
    assert family.is_refreshable


@requirement("A-17", "A-20", "X-09", "AS01")
@pytest.mark.parametrize("signed_in", [True, False])
@pytest.mark.parametrize(
    "changed",
    [
        {"redirect_uri": "https://client.example.com/cb/"},
        {"redirect_uri": "https://evil.example/cb"},
        {"redirect_uri": [CALLBACK, "https://evil.example/cb"]},
        {"redirect_uri": "javascript:alert(1)"},
        {"client_id": "client_unknown"},
        {"client_id": ["client_notes", "client_notes"]},
        {"client_id": None},
        {"client_id": "https://unknown.example\\x"},
    ],
)
def test_a_wrong_client_or_redirect_uri_is_a_page_and_never_a_redirect(
    browser: Client, changed: dict[str, str], signed_in: bool
) -> None:
    client = registered()
    if not signed_in:
        browser.logout()
    response = browser.get(address(client, **changed), headers=TYPED)
    assert response.status_code == 400 or (not signed_in and "/accounts/login/" in response.headers["Location"])
    assert host_of(response) == ""
    assert not PendingAuthorization.objects.exists()
    assert "evil.example" not in response.content.decode()


@requirement("AS15", "A-20")
@pytest.mark.parametrize(
    "changed",
    [
        {"response_type": "token"},
        {"response_type": "bad"},
        {"code_challenge": None},
        {"code_challenge_method": "plain"},
        {"resource": "https://elsewhere.example/mcp"},
        {"scope": "everything"},
        {"response_mode": "fragment"},
        {"prompt": "none"},
        {"state": ["a", "b"]},
    ],
)
@pytest.mark.parametrize("headers", [TYPED, FOREIGN, {}])
def test_an_unverified_client_gets_its_errors_by_a_link_only(
    browser: Client, changed: dict[str, str], headers: dict[str, str]
) -> None:
    response = browser.get(address(registered(), **changed), headers=headers)
    page = response.content.decode()
    assert response.status_code == 400
    assert "Location" not in response.headers
    assert f'href="{CALLBACK}?error=' in page
    assert "client.example.com" in page


@requirement("AS15")
def test_without_a_sign_in_nobody_is_redirected_to_a_client(client: Client) -> None:
    response = client.get(address(registered(), response_type="bad"))
    assert response.status_code == 302
    assert response.headers["Location"].startswith("/accounts/login/")
    assert not PendingAuthorization.objects.exists()


@requirement("A-11", "X-09", "AS18")
def test_a_verified_client_gets_its_errors_with_iss_and_state(browser: Client) -> None:
    client = registered(verified=True)
    response = browser.get(address(client, scope="everything"), headers=TYPED)
    answer = back(response)
    assert (answer["error"], answer["iss"], answer["state"]) == ("invalid_scope", settings.PUBLIC_URL, "s~1 2")
    assert browser.get(address(client, scope="everything"), headers=FOREIGN).status_code == 400


@requirement("X-05", "AS11")
@pytest.mark.parametrize(
    "resource",
    [
        "/mcp/nope", "/mcp/note", "/mcp/notes/", "/mcp/notes2", "/mcp/NOTES", "/mcp", "/mcp/", "", "/", "/api/v1/",
        "/mcp/notes#x", "/mcp/notes?x", "/mcp/%6eotes", "/mcp/private", "/mcp/off",
    ],
)  # fmt: skip
def test_what_is_no_resource_of_this_person_is_an_invalid_target(browser: Client, bob: User, resource: str) -> None:
    gateway_server(slug="private").users.add(bob)
    gateway_server(slug="off", gateway_enabled=False)
    response = browser.get(address(registered(), resource=f"{settings.PUBLIC_URL}{resource}"), headers=TYPED)
    assert response.status_code == 400
    assert 'data-code="invalid_target"' in response.content.decode()


def test_a_request_that_names_no_resource_is_for_this_sites_own_interface_to_look_only(browser: Client) -> None:
    back_from = ask(browser, registered(), resource=None)
    assert "See your connections" in back_from.content.decode()
    decide(browser, "allow")
    family = TokenFamily.objects.get()
    assert family.resource == f"{settings.PUBLIC_URL}/api/v1"
    assert family.scope == "connections:read servers:read"


@requirement("AS10", "P-12")
def test_two_tabs_both_work(browser: Client) -> None:
    client = registered()
    ask(browser, client, state="one")
    first = PendingAuthorization.objects.get()
    ask(browser, client, state="two")
    second = PendingAuthorization.objects.exclude(pk=first.pk).get()
    assert back(decide(browser, "allow", pending=second))["state"] == "two"
    assert back(decide(browser, "allow", pending=first))["state"] == "one"


@requirement("AS10", "P-12", "P-08")
def test_another_persons_or_another_browsers_question_is_refused(browser: Client, alice: User, bob: User) -> None:
    ask(browser, registered())
    pending = PendingAuthorization.objects.get()
    for user in (bob, alice):
        other = Client()
        other.force_login(user)
        assert other.get(f"/oauth/authorize/{pending.pk}").status_code == 403
        assert decide(other, "allow", pending=pending).status_code == 403
        assert other.post(f"/oauth/authorize/{pending.pk}/upstream").status_code == 403
    assert not Consent.objects.exists()
    assert back(decide(browser, "allow"))["code"]


@requirement("AS10", "X-01")
def test_a_question_is_answered_once(browser: Client) -> None:
    ask(browser, registered())
    assert back(decide(browser, "allow"))["code"]
    for decision in ("allow", "deny"):
        assert decide(browser, decision).status_code == 400
    assert browser.get(f"/oauth/authorize/{PendingAuthorization.objects.get().pk}").status_code == 400
    assert AuthorizationCode.objects.count() == 1


def test_a_late_answer_gives_nothing(browser: Client) -> None:
    ask(browser, registered())
    PendingAuthorization.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert decide(browser, "allow").status_code == 400
    assert not Consent.objects.exists()


@requirement("AS10", "A-11")
def test_a_denial_tells_the_client_and_gives_nothing(browser: Client) -> None:
    ask(browser, registered())
    answer = back(decide(browser, "deny"))
    assert (answer["error"], answer["iss"], answer["state"]) == ("access_denied", settings.PUBLIC_URL, "s~1 2")
    assert not Consent.objects.exists()


@pytest.mark.parametrize("decision", ["", "yes", "ALLOW"])
def test_an_answer_that_is_neither_is_no_answer(browser: Client, decision: str) -> None:
    ask(browser, registered())
    assert decide(browser, decision).status_code == 400
    assert back(decide(browser, "allow"))["code"]


@requirement("AS09", "P-02")
@pytest.mark.parametrize("kind", [McpClient.Kind.DYNAMIC, McpClient.Kind.PRE_REGISTERED])
def test_an_unverified_client_is_asked_about_every_time(browser: Client, kind: str) -> None:
    client = registered(kind=kind)
    for _ in range(2):
        assert ask(browser, client).status_code == 200
        back(decide(browser, "allow"))
    assert Consent.objects.count() == 1


@requirement("AS09", "P-02")
def test_a_verified_client_is_remembered_for_navigations_of_the_person_only(browser: Client) -> None:
    client = registered(verified=True)
    ask(browser, client)
    back(decide(browser, "allow"))
    assert back(browser.get(address(client), headers=TYPED))["code"]
    assert back(browser.get(address(client, prompt="none"), headers=TYPED))["code"]
    ours = TYPED | {"Sec-Fetch-Site": "same-origin"}
    for headers in (FOREIGN, {}, FOREIGN | {"Sec-Fetch-Site": "same-site"}, TYPED | {"Sec-Purpose": "prefetch"}, ours):
        assert ask(browser, client, headers=headers).status_code == 200
    for changed in ({"prompt": "consent"}, {"scope": "mcp:access offline_access"}, {"resource": None}):
        assert ask(browser, client, **changed).status_code == 200


@requirement("AS09")
@pytest.mark.parametrize("signed_in_before", [False, True], ids=["nobody", "signed in"])
def test_what_follows_a_sign_in_that_another_site_caused_is_no_navigation_of_the_person(
    browser: Client, signed_in_before: bool
) -> None:
    client = registered(verified=True)
    ask(browser, client)
    back(decide(browser, "allow"))
    sign_in = f"/accounts/login/?{urlencode({'next': address(client)})}"
    browser.logout()
    browser.get(sign_in, headers=FOREIGN)
    said = {"login": "alice", "password": "correct horse battery", "next": address(client)}
    if signed_in_before:  # in another tab, long ago
        browser.login(username="alice", password=said["password"])
    onward = browser.post(sign_in, said, headers=TYPED | {"Sec-Fetch-Site": "same-origin"})
    assert onward.headers["Location"] == address(client)
    shown = browser.get(onward.headers["Location"], headers=TYPED | {"Sec-Fetch-Site": "same-origin"})
    assert shown.headers["Location"].startswith("/oauth/authorize/")
    assert browser.get(shown.headers["Location"]).status_code == 200


@requirement("AS09")
def test_a_consent_that_was_taken_back_is_asked_for_again(browser: Client) -> None:
    client = registered(verified=True)
    ask(browser, client)
    back(decide(browser, "allow"))
    Consent.objects.update(revoked_at=timezone.now())
    assert ask(browser, client).status_code == 200


@pytest.mark.parametrize("end", ["blocked_at", "ended_at", "expires_at"])
def test_a_client_that_is_over_is_unknown_and_gets_no_code_for_what_was_allowed_before(
    browser: Client, end: str
) -> None:
    client = registered()
    ask(browser, client)
    McpClient.objects.update(**{end: timezone.now() - timedelta(seconds=1)})
    assert decide(browser, "allow").status_code == 400
    assert ask(browser, client).status_code == 400
    assert not AuthorizationCode.objects.exists()


def test_a_person_who_lost_the_server_meanwhile_allows_nothing(browser: Client, bob: User) -> None:
    ask(browser, registered())
    pending = PendingAuthorization.objects.select_related("server").get()
    assert pending.server is not None
    pending.server.users.add(bob)
    assert decide(browser, "allow").status_code == 400


def test_a_first_consent_keeps_a_client_from_being_forgotten(browser: Client) -> None:
    client = registered(expires_at=timezone.now() + timedelta(hours=1))
    ask(browser, client)
    back(decide(browser, "allow"))
    client.refresh_from_db()
    assert client.expires_at is None
    assert client.last_used_at is not None


def test_a_loopback_client_is_answered_at_the_port_of_the_moment(browser: Client) -> None:
    client = registered(redirect_uris=["http://127.0.0.1/cb"])
    ask(browser, client, redirect_uri="http://127.0.0.1:49152/cb")
    response = decide(browser, "allow")
    assert response.headers["Location"].startswith("http://127.0.0.1:49152/cb?code=")
    assert Consent.objects.get().redirect_uri == "http://127.0.0.1/cb"


def test_a_programs_own_scheme_is_answered_too(browser: Client) -> None:
    client = registered(redirect_uris=["com.example.app:/cb"])
    ask(browser, client, redirect_uri="com.example.app:/cb")
    assert decide(browser, "allow").headers["Location"].startswith("com.example.app:/cb?code=")


def test_the_query_of_a_redirect_uri_stays(browser: Client) -> None:
    client = registered(redirect_uris=[f"{CALLBACK}?a=1"])
    ask(browser, client, redirect_uri=f"{CALLBACK}?a=1")
    assert decide(browser, "allow").headers["Location"].startswith(f"{CALLBACK}?a=1&code=")


@pytest.mark.parametrize("state", [None, ""])
def test_no_state_and_an_empty_one_come_back_as_they_were(browser: Client, state: str | None) -> None:
    ask(browser, registered(), state=state)
    location = decide(browser, "allow").headers["Location"]
    assert ("&state=" in location) == (state == "")


def test_a_browser_that_is_sent_here_all_the_time_is_stopped(browser: Client) -> None:
    client = registered()
    answers = [browser.get(address(client), headers=TYPED) for _ in range(21)]
    assert [answer.status_code for answer in answers].count(429) == 1
    assert int(answers[-1].headers["Retry-After"]) > 0


@requirement("AS15")
@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_the_endpoint_takes_get_only(browser: Client, method: str) -> None:
    assert getattr(browser, method)(address(registered())).status_code == 405
