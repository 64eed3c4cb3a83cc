"""Who may start, carry and finish a sign-in, by the faces that browsers and programs see. Security notes A1."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import uuid4

import pytest
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.test import Client, override_settings
from django.utils import timezone
from rest_framework.test import APIClient

from audit.models import AuditRecord
from connections.models import TokenSet
from oauthflow.flows.start_authorization import start_authorization
from oauthflow.models import AuthorizationRequest
from tests.fakes.authorization_server import FakeAuthorizationServer
from tests.fakes.crowd import all_at_once
from tests.fakes.mcp_server import FakeMcpServer
from tests.fakes.world import World

pytestmark = pytest.mark.django_db

CALLBACK: Final = "/api/v1/oauth/callback"
ComeBack = Callable[..., dict[str, str]]


def _rejections(reason: str) -> int:
    return AuditRecord.objects.filter(event="callback.rejected", reason=reason).count()


# S01
@pytest.mark.parametrize("who", ["nobody", "bob", "alice"])
def test_an_answer_in_the_wrong_hands_is_used_up_for_everybody(
    who: str, browser: Client, come_back: ComeBack, world: World, alice: User, bob: User
) -> None:
    params, other = come_back(), Client()
    if who != "nobody":
        other.force_login({"alice": alice, "bob": bob}[who])
    refused = other.get(CALLBACK, params)
    assert (refused.status_code, "Location" in refused.headers) == (403, False)
    assert browser.get(CALLBACK, params).status_code == 400
    assert world.authorization_server.token_requests == []
    assert not TokenSet.objects.exists()
    assert (_rejections("flow_session_mismatch"), _rejections("state_used")) == (1, 1)


@pytest.mark.parametrize("cookie", [None, "", "x" * 43, "\u00e9", "x" * 3000])
def test_the_right_person_without_the_right_cookie_finishes_nothing(
    cookie: str | None, browser: Client, come_back: ComeBack, world: World
) -> None:
    params = come_back()
    name = f"mcp_flow_{AuthorizationRequest.objects.get().pk.hex[:16]}"
    if cookie is None:
        del browser.cookies[name]
    else:
        browser.cookies[name] = cookie
    assert browser.get(CALLBACK, params).status_code == 403
    assert world.authorization_server.token_requests == []


def test_the_cookie_of_another_attempt_does_not_count(browser: Client, come_back: ComeBack, world: World) -> None:
    first, second = come_back(), come_back()
    cookies = [name for name in browser.cookies if name.startswith("mcp_flow_")]
    browser.cookies[cookies[0]], browser.cookies[cookies[1]] = (
        browser.cookies[cookies[1]].value, browser.cookies[cookies[0]].value,
    )  # fmt: skip
    assert [browser.get(CALLBACK, params).status_code for params in (first, second)] == [403, 403]
    assert world.authorization_server.token_requests == []


# S02
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"}, {},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "none", "Sec-Purpose": "prefetch;prerender"},
    ],
)  # fmt: skip
def test_a_link_or_image_elsewhere_starts_and_forwards_nothing(
    headers: dict[str, str], browser: Client, world: World, alice: User
) -> None:
    world.server()
    assert browser.get("/connect/notes", headers=headers).status_code == 200
    assert not AuthorizationRequest.objects.exists()
    started = start_authorization(world.connection(alice), user=alice, now=timezone.now())
    page = browser.get(f"/connect/requests/{started.request.pk}", headers=headers)
    assert (page.status_code, page.cookies.get("mcp_flow")) == (200, None)
    assert AuthorizationRequest.objects.get().browser_hash == ""


def test_a_link_minted_for_somebody_else_says_so_and_changes_nothing(world: World, alice: User, bob: User) -> None:
    started = start_authorization(world.connection(alice), user=alice, now=timezone.now())
    other = Client()
    other.force_login(bob)
    for ask in (other.get, other.post):
        page = ask(f"/connect/requests/{started.request.pk}", headers={"Sec-Fetch-Site": "same-origin"})
        assert page.status_code == 403
        assert 'data-code="link_user_mismatch"' in page.content.decode()
        assert "Notes" not in page.content.decode()
    pending = AuthorizationRequest.objects.get()
    assert (pending.browser_hash, pending.consumed_at) == ("", None)


# S03
@pytest.mark.parametrize("with_cookie", [True, False])
@pytest.mark.parametrize("state", [None, "", "x" * 19, "x" * 513, "\u00e4" * 43, "\0" * 43])
def test_a_state_that_is_none_matches_nothing(
    state: str | None, with_cookie: bool, browser: Client, come_back: ComeBack, world: World
) -> None:
    params = come_back()
    params.pop("state")
    if state is not None:
        params["state"] = state
    # What an empty value would match if absent sides were equal.
    AuthorizationRequest.objects.update(browser_hash="")
    if not with_cookie:
        browser.cookies = type(browser.cookies)({"sessionid": browser.cookies["sessionid"].value})
    answer = browser.get(CALLBACK, params)
    assert answer.status_code == 400
    assert 'data-code="state_mismatch"' in answer.content.decode()
    assert world.authorization_server.token_requests == []
    assert AuthorizationRequest.objects.get().consumed_at is None


# S04
@pytest.mark.django_db(transaction=True)
def test_of_twenty_browsers_with_one_answer_one_is_let_in(
    browser: Client, come_back: ComeBack, world: World, alice: User
) -> None:
    params = come_back()
    cookies = {name: morsel.value for name, morsel in browser.cookies.items()}

    def visit() -> Any:
        one = Client()
        one.cookies = type(one.cookies)(cookies)
        return one.get(CALLBACK, params).status_code

    assert sorted(all_at_once(20, visit)) == [303] + [400] * 19
    assert len(world.authorization_server.token_requests) == 1
    assert (TokenSet.objects.get().generation, _rejections("state_used")) == (1, 19)


# S05
def test_a_late_answer_says_that_it_is_late_and_sends_nothing(
    browser: Client, come_back: ComeBack, world: World
) -> None:
    params = come_back()
    AuthorizationRequest.objects.update(expires_at=timezone.now() - timedelta(milliseconds=1))
    answer = browser.get(CALLBACK, params)
    assert answer.status_code == 400
    assert 'data-code="state_expired"' in answer.content.decode()
    assert world.authorization_server.token_requests == []
    assert _rejections("state_expired") == 1


# S06
@pytest.mark.parametrize(
    ("address", "body"),
    [
        ("/api/v1/oauth/initiate", '{"server":"notes","server":"other"}'),
        ("/api/v1/oauth/complete", '{"state":"STATE","state":"STATE","code":"c"}'),
        ("/api/v1/oauth/complete", '{"state":"STATE","redirect_url":"https://x.example/?code=a&code=b&state=STATE"}'),
        ("/api/v1/oauth/complete", '{"state":"STATE","redirect_url":"https://x.example/?code=a&state=STATE&state=x"}'),
        ("/api/v1/oauth/complete", '{"state":"STATE","redirect_url":"https://x.example/?code=a&iss=1&iss=2"}'),
        ("/api/v1/connections", '{"server":"notes","label":"a","label":"b"}'),
        ("/graphql", '{"query":"{__typename}","query":"{__typename}"}'),
    ],
)
def test_what_is_said_twice_is_refused_everywhere(
    address: str, body: str, world: World, program: APIClient, alice: User
) -> None:
    started = start_authorization(world.connection(alice), user=alice, now=timezone.now(), manual=True)
    answer = program.post(address, body.replace("STATE", started.state.reveal()), content_type="application/json")
    assert answer.status_code == 400
    pending = AuthorizationRequest.objects.get()
    assert (pending.consumed_at, world.authorization_server.token_requests) == (None, [])


def test_what_is_pasted_twice_is_refused(browser: Client, world: World, alice: User) -> None:
    started = start_authorization(world.connection(alice), user=alice, now=timezone.now(), manual=True)
    state = started.state.reveal()
    for query in (f"code=a&code=b&state={state}", f"code=a&state={state}&state=x", f"error=a&error=b&state={state}"):
        answer = browser.post("/oauth/paste", {"pasted": f"http://localhost:8000{CALLBACK}?{query}"})
        assert answer.status_code == 400
    assert AuthorizationRequest.objects.get().consumed_at is None


# S07
def test_an_error_from_nobody_we_asked_ends_nothing(browser: Client, come_back: ComeBack, alice: User) -> None:
    come_back()
    hostile = {"error": "access_denied", "error_description": "<script>", "error_uri": "javascript:alert(1)"}
    for state in ({}, {"state": ""}, {"state": "x" * 43}):
        answer = browser.get(CALLBACK, hostile | state)
        assert answer.status_code == 400
        page = answer.content.decode()
        assert "<script>" not in page
        assert "javascript:" not in page
    assert AuthorizationRequest.objects.get().status == "pending"


@pytest.mark.parametrize("error", ["<script>alert(1)</script>", "x" * 3000, "", "ACCESS_DENIED", "a\0b"])
def test_an_error_outside_the_list_is_told_as_one_of_the_list(error: str, browser: Client, come_back: ComeBack) -> None:
    params = come_back()
    params.pop("code")
    page = browser.get(CALLBACK, params | {"error": error}, follow=True)
    assert page.status_code == 200
    assert 'data-code="server_error"' in page.content.decode()
    assert AuthorizationRequest.objects.get().error_code == "server_error"


# S08
def test_a_scanner_uses_nothing_up_and_the_last_page_knows_no_secret(browser: Client, come_back: ComeBack) -> None:
    params = come_back()
    address = f"{CALLBACK}?{urlencode(params)}"
    assert [ask(address).status_code for ask in (browser.head, browser.options, browser.head)] == [405] * 3
    ended = browser.get(address)
    where = urlsplit(ended.headers["Location"])
    assert (ended.status_code, where.netloc, where.query) == (303, "", "")
    page = browser.get(where.path).content.decode()
    assert not any(secret in page for secret in (params["code"], params["state"]))
    assert not any(f'{name}="{scheme}' in page for name in ("src", "href") for scheme in ("http", "//"))


# S09
@pytest.mark.parametrize(
    "iss",
    [
        "https://as.example/", "https://AS.example", "https://as.example:443", "https://as.example%2F",
        "https://as.example/tenant", "https://evil.example", "", "https://as.example\0", None,
    ],
)  # fmt: skip
def test_an_answer_of_nearly_the_right_issuer_sends_the_code_to_nobody(
    iss: str | None, browser: Client, come_back: ComeBack, world: World
) -> None:
    params = come_back()
    params.pop("iss")
    answer = browser.get(CALLBACK, params if iss is None else params | {"iss": iss}, follow=True)
    assert 'data-code="issuer_mismatch"' in answer.content.decode()
    assert world.authorization_server.token_requests == []
    assert not TokenSet.objects.exists()


# S10
def test_the_code_of_one_service_is_never_brought_to_another(
    browser: Client, come_back: ComeBack, world: World
) -> None:
    other = FakeAuthorizationServer(issuer="https://other.example")
    world.internet["https://other.example"] = other
    world.internet["https://mcp2.example"] = FakeMcpServer(
        url="https://mcp2.example/mcp", issuers=["https://other.example"]
    )
    world.server("other", url="https://mcp2.example/mcp")
    honest, attacked = come_back(), come_back("other")
    crossed = attacked | {"code": honest["code"], "iss": "https://as.example"}
    page = browser.get(CALLBACK, crossed, follow=True).content.decode()
    assert 'data-code="issuer_mismatch"' in page
    assert (world.authorization_server.token_requests, other.token_requests) == ([], [])


# S11
def test_the_code_of_another_attempt_is_worth_nothing(browser: Client, come_back: ComeBack, world: World) -> None:
    first, second = come_back(), come_back()
    browser.get(CALLBACK, second | {"code": first["code"]})
    assert not TokenSet.objects.exists()
    sent = world.authorization_server.token_requests
    assert len(sent) == 1
    browser.get(CALLBACK, first)
    assert len({one["code_verifier"] for one in sent}) == len(sent)
    assert all(len(one["code_verifier"]) >= 43 for one in sent)


# S13
_ELSEWHERE: Final = (
    "//evil.example", "/\\evil.example", "\\\\evil.example", "/%09/evil.example", "/\t/evil.example",
    "https:evil.example", "https://evil.example", "/%5cevil.example", "/..//evil.example", "/\r\nLocation: //evil",
    "/" + "x" * 5000, "evil.example", " /connections/", "/connections/\0", "javascript:alert(1)",
    "/%2f%2fevil.example", "/.//evil.example", "/%2e%2e//evil.example", "///evil.example", "/connections/#x",
    "http:/\\/evil.example", "/\u2028/evil.example", "/\u0000", "/%0d%0aX:y", "/connections/../..//evil.example",
    "\t//evil.example", "/%00", "?next=//evil.example", "@evil.example", "/\uff0fevil.example", "//", "/\\",
)  # fmt: skip


@pytest.mark.parametrize("return_to", _ELSEWHERE)
def test_a_return_address_elsewhere_is_refused_by_every_face(
    return_to: str, browser: Client, program: APIClient, world: World
) -> None:
    server = world.server()
    answer = program.post("/api/v1/oauth/initiate", {"server": server.slug, "return_to": return_to})
    assert answer.status_code == 400
    assert answer.json()["error"] in ("invalid_return_to", "invalid_request")
    page = browser.post("/connect/notes", {"return_to": return_to})
    assert (page.status_code, "Location" in page.headers) == (400, False)
    assert not AuthorizationRequest.objects.exists()
    assert world.internet.calls == []


@pytest.mark.parametrize("target", [*_ELSEWHERE[:-2], "https://testserver.evil.example/"])
@pytest.mark.parametrize("form", ["login", "disconnect"])
def test_no_form_of_ours_leads_elsewhere(form: str, target: str, browser: Client, world: World, alice: User) -> None:
    if form == "login":
        answer = Client().post(
            "/accounts/login/", {"login": "alice", "password": "correct horse battery", "next": target}
        )
    else:
        connection = world.connection(alice)
        answer = browser.post(f"/connections/{connection.pk}/disconnect", {"next": target})
    assert answer.status_code in (302, 303)
    where = urlsplit(answer.headers["Location"].replace("\\", "/"))
    assert (where.scheme, where.netloc) == ("", "")
    assert not answer.headers["Location"].startswith(("//", "/\\"))


@pytest.mark.parametrize("address", ["//evil.example/connections", "//evil.example/%2e%2e", "/\\evil.example/connect"])
def test_a_missing_slash_is_not_added_on_another_host(address: str, browser: Client) -> None:
    answer = browser.get(address)
    assert not answer.headers.get("Location", "").startswith(("//", "http"))


# S14
async def _asgi(path: str, *headers: tuple[bytes, bytes]) -> tuple[int, dict[bytes, bytes], bytes]:
    scope: dict[str, Any] = {
        "type": "http", "http_version": "1.1", "method": "GET", "path": path, "raw_path": path.encode(),
        "query_string": b"", "scheme": "http", "root_path": "", "client": ("192.0.2.1", 1), "server": ("x", 80),
        "headers": list(headers),
    }  # fmt: skip
    talk = ApplicationCommunicator(get_asgi_application(), scope)
    await talk.send_input({"type": "http.request", "body": b""})
    begun = await talk.receive_output(timeout=10)
    rest = await talk.receive_output(timeout=10)
    await talk.wait(timeout=10)
    return begun["status"], dict(begun["headers"]), rest.get("body", b"")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "host", [b"evil.example", b"localhost.evil.example", b"localhost@evil.example", b"", b"localhost, evil.example"]
)
async def test_a_host_that_is_not_ours_gets_a_refusal(host: bytes) -> None:
    status, _, body = await _asgi("/accounts/login/", (b"host", host))
    assert status == 400
    assert b"evil" not in body


@pytest.mark.django_db(transaction=True)
async def test_a_name_with_an_underscore_is_no_header() -> None:
    status, headers, _ = await _asgi("/healthz", (b"host", b"localhost"), (b"x_request_id", b"taken-from-underscores"))
    assert status == 200
    assert headers[b"X-Request-ID"] != b"taken-from-underscores"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Host": "evil.example"}, {"Forwarded": "host=evil.example"}, {"X-Forwarded-Proto": "https"},
        {"X-Original-URL": "/admin/"}, {"X-Forwarded-Server": "evil.example"}, {"X-Host": "evil.example"},
        {"Host": "localhost:9999"}, {"Origin": "http://localhost"},
    ],
)  # fmt: skip
@override_settings(PUBLIC_URL="https://mcp.example.com")
def test_addresses_of_ours_come_from_the_configuration_alone(
    headers: dict[str, str], browser: Client, world: World, program: APIClient
) -> None:
    world.server()
    link = program.post("/api/v1/oauth/initiate", {"server": "notes"}, headers=headers).json()["authorization_url"]
    assert link.startswith("https://mcp.example.com/connect/requests/")
    away = browser.post("/connect/notes", headers=headers).headers["Location"]
    asked = dict(parse_qsl(urlsplit(away).query))
    assert asked["redirect_uri"] == f"https://mcp.example.com{CALLBACK}"
    assert world.authorization_server.registrations[0]["redirect_uris"] == [f"https://mcp.example.com{CALLBACK}"]


def test_an_unknown_attempt_and_a_foreign_one_look_alike_to_nobody(world: World, alice: User) -> None:
    started = start_authorization(world.connection(alice), user=alice, now=timezone.now())
    answers = [Client().get(f"/connect/requests/{pk}") for pk in (started.request.pk, uuid4())]
    assert [answer.status_code for answer in answers] == [302, 302]
    assert all(answer.headers["Location"].startswith("/accounts/login/?next=/connect/requests/") for answer in answers)
